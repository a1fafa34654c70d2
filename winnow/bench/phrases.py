"""Words that grids and studies share."""

from __future__ import annotations

import re
from collections.abc import Sequence

from winnow.report import words

WIDTH = 80
"""Of the terminal."""


def several(number: int, noun: str) -> str:
    """`1 cell`, `3 cells`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def joined(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))


def signed(difference: float) -> str:
    """A difference of two fractions in points with its sign: +22.4, −0.5; no sign before 0.0."""
    text = words.signed_points(difference)
    return text if difference < 0 or float(words.points(difference)) == 0 else f"+{text}"


def unbreakable(text: str) -> str:
    """Numbers stay with their percent sign at a line break."""
    return re.sub(r"(\d) %", rf"\1{words.NO_BREAK}%", text)
