"""Grids of trainings: cell by cell, resumable, with fair tables."""
