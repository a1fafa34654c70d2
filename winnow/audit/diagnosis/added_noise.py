"""Noise put on top of what is there: labels drawn, and a statistic followed back to no noise at all."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float, Int

from winnow.data.randomness import stream_key, uniforms

DELTAS = (0.0, 0.05, 0.1, 0.2)
REPEATS = 5


def remaining(rate: Float[np.ndarray, "*points"] | float, num_classes: int) -> Any:
    """Share of the signal that symmetric noise leaves: 1 - rate K / (K - 1), the eigenvalue of its matrix."""
    return 1 - rate * num_classes / (num_classes - 1)


def total_rate(rate: float, delta: float, num_classes: int) -> float:
    """Share of wrong labels after `delta` of them are made wrong on top of `rate`: signals that remain multiply."""
    return rate + delta - rate * delta * num_classes / (num_classes - 1)


def with_added_noise(
    labels: Int[np.ndarray, " n"], delta: float, num_classes: int, *, seed: int, draw: int
) -> Int[np.ndarray, " n"]:
    """Each label goes to another class with probability `delta`, each other one as likely; 0 changes nothing.

    The labels that change at one delta change in the same way at a larger one of the same draw.

    Args:
        labels: class indices, none missing.
        delta: in [0, 1].
        num_classes: K, at least 2.
        seed, draw: of the randomness.
    """
    chance = uniforms(stream_key(seed, "diagnose/noise", draw), np.arange(len(labels)), 2)
    moved = (labels + 1 + (chance[:, 1] * (num_classes - 1)).astype(np.int64)) % num_classes
    return np.where(chance[:, 0] < delta, moved, labels)


def inflation(rate: Float[np.ndarray, "*points"] | float, num_classes: int) -> Any:
    """How much more data symmetric noise asks for in theory: 1 / remaining^2, as variance goes with 1 / signal^2."""
    return 1 / remaining(rate, num_classes) ** 2


def lost_to_noise(
    deltas: Float[np.ndarray, " points"], values: Float[np.ndarray, " points"], rate: float, num_classes: int
) -> float:
    """How much of a statistic the present noise has cost: its value without noise less its present one.

    A straight line over the inflation of variance. Inflations multiply, so that the present noise divides a step seen
    with added noise: whatever the rate, the line is followed back over less than its first unit. (A quadratic in the
    rate must be followed far beyond what is measured, and at a rate of 0.3 told nothing.)

    Args:
        deltas: rates of the added noise, 0 among them.
        values: of the statistic there.
        rate: of the present noise, symmetric.
        num_classes: K.
    """
    slope = float(np.polyfit(inflation(deltas, num_classes), values, 1)[0])
    return slope * (1 / inflation(rate, num_classes) - 1)
