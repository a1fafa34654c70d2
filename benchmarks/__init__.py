"""Checks of the speed and memory that we promise: `python -m benchmarks [NAME ...]`."""
