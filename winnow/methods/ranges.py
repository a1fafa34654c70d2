"""Ranges of hyperparameters, told in one wording; each function takes options by name and raises a ValueError."""

from __future__ import annotations

import math
from collections.abc import Sequence


def in_interval(interval: str, **options: float) -> None:
    """Refuses what lies outside of an interval, such as `[0, 1)`; NaN lies outside of every one."""
    low, high = (float(end) for end in interval[1:-1].split(","))
    for name, value in options.items():
        above = low <= value if interval[0] == "[" else low < value
        below = value <= high if interval[-1] == "]" else value < high
        if not (above and below):
            raise ValueError(f"{name} must lie in {interval}, got {value}")


def at_least(least: int, **options: int) -> None:
    """Refuses smaller counts."""
    for name, value in options.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def finite_at_least(least: int, **options: float) -> None:
    """Refuses smaller numbers, infinite ones and NaN."""
    for name, value in options.items():
        if not least <= value < math.inf:
            raise ValueError(f"{name} must be at least {least} and finite, got {value}")


def one_of(choices: Sequence[str], **options: str) -> None:
    """Refuses what is none of the choices."""
    for name, value in options.items():
        if value not in choices:
            raise ValueError(f"{name} must be {', '.join(choices[:-1])} or {choices[-1]}, got {value!r}")
