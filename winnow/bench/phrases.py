"""Words that grids and studies share."""

from __future__ import annotations

import re

from winnow.report import words

WIDTH = 80
"""Of the terminal."""


def several(number: int, noun: str) -> str:
    """`1 cell`, `3 cells`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def unbreakable(text: str) -> str:
    """Numbers stay with their percent sign at a line break."""
    return re.sub(r"(\d) %", rf"\1{words.NO_BREAK}%", text)
