"""Cells of a .csv that no spreadsheet runs as a formula (CWE-1236), and the way back."""

from __future__ import annotations

STARTS = ("=", "+", "-", "@", "\t", "\r")


def runs(cell: str) -> bool:
    """Whether a spreadsheet would take a cell for a formula: by its first character, unless it is a number."""
    if not cell.startswith(STARTS):
        return False
    try:
        float(cell)
    except ValueError:
        return True
    return False


def safe_cell(text: str) -> str:
    """A text that no spreadsheet runs: an apostrophe stands before one that begins like a formula.

    One stands also before a text that could be taken for such a cell, so that `restored` is exact.
    """
    return f"'{text}" if runs(text.lstrip("'")) else text


def safe_path(path: str) -> str:
    """A relative path that no spreadsheet runs and that leads to the same file."""
    return f"./{path}" if runs(path) else path


def restored(cell: str) -> str:
    """The text that a cell of `safe_cell` was made of."""
    return cell[1:] if cell.startswith("'") and runs(cell.lstrip("'")) else cell
