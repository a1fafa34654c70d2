"""Intervals of shares."""

from __future__ import annotations

Z = 1.959964
"""Standard deviations on each side that hold 95 % of a normal distribution."""


def clopper_pearson(hits: float, number: float, tail: float = 0.05) -> tuple[float, float]:
    """Clopper and Pearson's interval of a share; [0, 1] of no case.

    Args:
        hits: of the cases, 0 to `number`; expected numbers need not be whole.
        number: of cases.
        tail: what it leaves outside on both sides together, in (0, 1).
    """
    from scipy.stats import beta  # takes a second to import

    low = float(beta.ppf(tail / 2, hits, number - hits + 1)) if hits else 0.0
    high = float(beta.ppf(1 - tail / 2, hits + 1, number - hits)) if hits < number else 1.0
    return low, high
