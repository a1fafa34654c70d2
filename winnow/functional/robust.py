"""How far numbers lie from the middle of their collection, whatever its few extremes are."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

_QUARTER, _TWENTIETH = (0.75, 0.6745), (0.95, 1.6449)
"""Quantiles, and where the standard normal distribution has them."""


def deviations(values: Float[np.ndarray, " n"], floor: float) -> Float[np.ndarray, " n"]:
    """Spreads above the median, negative below it; each side has its own spread.

    A spread is the standard deviation of the normal distribution that reaches as far as the outer quarter or the outer
    twentieth, whichever is more: what a twentieth of the collection does on one side is no exception.

    Args:
        values: at least one.
        floor: least spread, in the values' unit: differences far below it mean nothing.
    """
    middle = np.median(values)
    sides = []
    for sign in (1, -1):
        reach = [(np.quantile(sign * values, share) - sign * middle) / place for share, place in (_QUARTER, _TWENTIETH)]
        sides.append(max(*reach, floor))
    return np.asarray((values - middle) / np.where(values > middle, sides[0], sides[1]), dtype=np.float64)
