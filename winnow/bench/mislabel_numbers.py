"""Intervals, effective sizes and exchange rates of the mislabelling study: arithmetic on accuracies, nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FEWEST = 3
"""Repeats below which there is no interval."""
_LEVEL = 0.95
_EXPONENTS = np.geomspace(0.02, 4, 400)

ByRepeat = Mapping[int, float]
"""A number of each repeat."""


@dataclass(frozen=True)
class Estimate:
    """A mean over repeats with its 95 % t interval, None below three repeats."""

    mean: float
    low: float | None
    high: float | None
    repeats: int


def estimate(values: Sequence[float]) -> Estimate:
    """Mean and t interval of some repeats, at least one."""
    number = len(values)
    mean = float(np.mean(values))
    if number < FEWEST:
        return Estimate(mean, None, None, number)
    from scipy.special import stdtrit

    half = float(stdtrit(number - 1, (1 + _LEVEL) / 2) * np.std(values, ddof=1) / math.sqrt(number))
    return Estimate(mean, mean - half, mean + half, number)


def interval(name: str, value: Estimate | None) -> dict[str, Any]:
    """A mean and its interval under `name`, `name_low` and `name_high`."""
    return {
        name: value.mean if value else None,
        f"{name}_low": value.low if value else None,
        f"{name}_high": value.high if value else None,
    }


def paired(first: ByRepeat, second: ByRepeat) -> list[float]:
    """First minus second in every repeat that both have."""
    return [first[repeat] - second[repeat] for repeat in sorted(first.keys() & second.keys())]


def binomial_error(accuracy: float, num_test: int) -> float:
    """Standard error of an accuracy that a test set of that size cannot go below."""
    return math.sqrt(max(0.0, accuracy * (1 - accuracy)) / num_test)


@dataclass(frozen=True)
class PowerLaw:
    """Accuracy a - b n^-c of n clean labels; it rises with n to a."""

    a: float
    b: float
    c: float

    def __call__(self, size: float) -> float:
        """The accuracy at a size."""
        return self.a - self.b * size**-self.c

    def size(self, accuracy: float) -> float:
        """The size with that accuracy; infinite from `a` on, and where the accuracy does not depend on the size."""
        if accuracy >= self.a or self.b <= 0:
            return math.inf
        try:
            return ((self.a - accuracy) / self.b) ** (-1 / self.c)
        except OverflowError:
            return math.inf


def power_law(sizes: Sequence[int], accuracies: Sequence[float]) -> PowerLaw | None:
    """The least-squares power law with b >= 0 and a <= 1; None below three sizes, which cannot tell its exponent.

    Accuracies that fall from one size to the next are first brought level (isotonic regression), so that one bad
    mean does not bend the curve. For each exponent of a grid a and b follow in closed form.
    """
    if len(sizes) < 3:
        return None
    values = rising(accuracies)
    powers = np.asarray(sizes, dtype=float) ** -_EXPONENTS[:, None]
    deviations = powers - powers.mean(axis=1, keepdims=True)
    b = np.maximum(0.0, -(deviations @ values) / (deviations**2).sum(axis=1))
    a = values.mean() + b * powers.mean(axis=1)
    through_one = np.maximum(0.0, powers @ (1 - values) / (powers**2).sum(axis=1))
    a, b = np.where(a > 1, 1.0, a), np.where(a > 1, through_one, b)
    errors = ((a[:, None] - b[:, None] * powers - values) ** 2).sum(axis=1)
    best = int(np.argmin(np.round(errors, 15)))  # of equals the smallest exponent, whatever the last bits are
    return PowerLaw(float(a[best]), float(b[best]), float(_EXPONENTS[best]))


def rising(values: Sequence[float]) -> np.ndarray:
    """The nearest sequence that never falls: neighbours that do are replaced by their mean."""
    blocks: list[tuple[float, int]] = []
    for value in values:
        blocks.append((float(value), 1))
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            (second, m), (first, n) = blocks.pop(), blocks.pop()
            blocks.append(((first * n + second * m) / (n + m), n + m))
    return np.concatenate([np.full(n, value) for value, n in blocks]) if blocks else np.empty(0)


def first_order_size(size: float, rate: float, num_classes: int) -> float:
    """What n labels with unbiased noise are worth, to first order: n (1 - rate K / (K - 1))^2.

    The signal shrinks by that factor at unchanged variance; derived for a binary margin, a guide and no measurement.
    """
    return size * max(0.0, 1 - rate * num_classes / (num_classes - 1)) ** 2


def tipping_rate(kind: str, num_classes: int) -> float | None:
    """The rate from which the most frequent label of a class is no longer its own; None for kinds without one."""
    return {"unbiased": (num_classes - 1) / num_classes, "biased": 0.5}.get(kind)


def at_rate(row: Mapping[float, ByRepeat], rate: float) -> dict[int, float]:
    """Accuracy of each repeat at a rate, on the straight line between the measured neighbours.

    Args:
        row: accuracies by measured rate, at one size.
        rate: between two measured ones.

    Returns:
        The repeats that both neighbours have; none outside the measured rates.
    """
    if rate in row:
        return dict(row[rate])
    below = max((r for r in row if r < rate), default=None)
    above = min((r for r in row if r > rate), default=None)
    if below is None or above is None:
        return {}
    share = (rate - below) / (above - below)
    both = row[below].keys() & row[above].keys()
    return {repeat: (1 - share) * row[below][repeat] + share * row[above][repeat] for repeat in both}


@dataclass(frozen=True)
class Times:
    """How many times more data does the same.

    Attributes:
        value: the factor; infinite where no amount of data does.
        measured: whether it lies within the measured sizes; otherwise it follows the fitted curve.
    """

    value: float
    measured: bool


def times_more(sizes: Sequence[int], accuracies: Sequence[float], size: int, gain: float) -> Times | None:
    """How many times more images at the same noise are worth a gain in accuracy.

    Args:
        sizes: ascending.
        accuracies: their means at this noise.
        size: where to start, one of `sizes`.
        gain: in accuracy.

    Returns:
        None where neither the measured sizes reach the gain nor a curve can be fitted.
    """
    values = rising(accuracies)
    place = list(sizes).index(size)
    target = values[place] + gain
    if gain <= 0:
        return Times(1.0, True)
    logs = np.log(np.asarray(sizes, dtype=float))
    for left in range(place, len(sizes) - 1):
        if values[left + 1] >= target:
            share = (target - values[left]) / (values[left + 1] - values[left])
            return Times(float(math.exp(logs[left] + share * (logs[left + 1] - logs[left])) / size), True)
    law = power_law(sizes, accuracies)
    if law is None:
        return None
    # The curve starts from where it says the present accuracy is, or a misfit would count as data.
    here = law.size(law(size)) if law.b > 0 else math.inf
    wanted = law.size(law(size) + gain)
    return Times(wanted / here if math.isfinite(wanted) else math.inf, False)


def bias_and_variance(mistakes: Sequence[np.ndarray]) -> tuple[float, float] | None:
    """Bias and variance of the 0-1 loss (Domingos 2000) over the repeats; None below three.

    Bias is the share of test images on which the most frequent prediction is wrong, variance the share of predictions
    that differ from the most frequent one. More labels of the same kind cure variance, not bias.

    Args:
        mistakes: of each repeat, (predicted - true class) mod K of the same images, (T,).
    """
    if len(mistakes) < FEWEST:
        return None
    every = np.stack(mistakes)
    votes = np.zeros((int(every.max()) + 1, every.shape[1]), dtype=np.int64)
    for each in every:
        votes[each, np.arange(every.shape[1])] += 1
    main = votes.argmax(axis=0)
    return float((main != 0).mean()), float((every != main).mean())


def contours(
    sizes: Sequence[int],
    rates: Sequence[float],
    accuracies: Mapping[tuple[int, float], float],
    levels: Sequence[float],
) -> dict[float, list[list[float]]]:
    """For each level of accuracy the points [size, rate] that have it, in the order of the rates.

    Between measured points accuracy lies on straight lines in the rate and in the logarithm of the size.

    Args:
        sizes: ascending.
        rates: ascending.
        accuracies: means by (size, rate), complete.
        levels: accuracies.
    """
    found: dict[float, list[list[float]]] = {level: [] for level in levels}
    logs = np.log(np.asarray(sizes, dtype=float))
    between = np.linspace(rates[0], rates[-1], 101)
    rows = np.array([np.interp(between, rates, [accuracies[size, rate] for rate in rates]) for size in sizes])
    for rate, column in zip(between, map(rising, rows.T), strict=True):
        for level in levels:
            # The first size with that accuracy; none if the smallest has more or the largest less.
            right = int(np.searchsorted(column, level))
            if 0 < right < len(sizes):
                share = (level - column[right - 1]) / (column[right] - column[right - 1])
                size = math.exp(logs[right - 1] + share * (logs[right] - logs[right - 1]))
                found[level].append([size, float(rate)])
    return found
