"""A measured number with its interval and what it rests on; the few intervals that the diagnostics need."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy.stats import norm, t

LEVEL = 0.95
ADDED = "the present wrong labels act as random ones would"
COUNTED = "a count of this data"
DRAWS = "interval over draws of images and of added noise"


@dataclass(frozen=True)
class Measure:
    """One number.

    Attributes:
        name: stable, for programs.
        value: the estimate.
        interval: of 95 %; None for what is exact, such as a count.
        assumption: what the value rests on, part of a sentence.
    """

    name: str
    value: float
    interval: tuple[float, float] | None
    assumption: str

    def record(self) -> dict[str, Any]:
        """As it stands in `summary.json`."""
        told: dict[str, Any] = {"name": self.name, "value": self.value}
        if self.interval is None:
            return told | {"exact": True, "assumption": self.assumption}
        return told | {"low": self.interval[0], "high": self.interval[1], "assumption": self.assumption}


@dataclass(frozen=True)
class Diagnostic:
    """One of the five consequences, measured.

    Attributes:
        measures: by name, in order.
        withheld: what is not told, and why: sentences.
        curves: tables for the plots; a row maps a name to a `Measure`, or to a number or word that is exact.
    """

    measures: Mapping[str, Measure] = field(default_factory=dict)
    withheld: Sequence[str] = ()
    curves: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)

    @classmethod
    def of(cls, *measures: Measure, withheld: Sequence[str] = (), **curves: Sequence[Mapping[str, Any]]) -> Diagnostic:
        """From measures in order."""
        return cls({measure.name: measure for measure in measures}, withheld, curves)

    def record(self) -> dict[str, Any]:
        """As it stands in `summary.json`."""
        curves = {
            name: [{k: v.record() if isinstance(v, Measure) else v for k, v in row.items()} for row in rows]
            for name, rows in self.curves.items()
        }
        measures = [measure.record() for measure in self.measures.values()]
        return {"measures": measures, "withheld": list(self.withheld), **({"curves": curves} if curves else {})}


def mean_interval(values: Sequence[float] | np.ndarray) -> tuple[float, float]:
    """The 95 % interval of the mean of independent draws, by Student's t; needs two."""
    array = np.asarray(values, dtype=np.float64)
    half = float(t.ppf((1 + LEVEL) / 2, len(array) - 1) * array.std(ddof=1) / math.sqrt(len(array)))
    return float(array.mean()) - half, float(array.mean()) + half


def over_draws(
    name: str,
    values: Sequence[float] | np.ndarray,
    assumption: str,
    bounds: tuple[float, float] = (-math.inf, math.inf),
) -> Measure:
    """The mean of independent draws; exact where every draw is the same."""
    array = np.asarray(values, dtype=np.float64)
    if (array == array[0]).all():
        return Measure(name, float(array[0]), None, f"{assumption}; the same in every draw")
    low, high = mean_interval(array)
    return Measure(name, float(array.mean()), (max(bounds[0], low), min(bounds[1], high)), f"{assumption}; {DRAWS}")


def bootstrap_interval(
    value: float, copies: np.ndarray, bounds: tuple[float, float] = (-math.inf, math.inf), among: int = 1
) -> tuple[float, float]:
    """The normal 95 % interval around a value from its bootstrap copies, so wide that `among` of them hold together.

    The spread of a few hundred copies is known well, their outermost ones are not; so it is taken from the spread.
    """
    half = float(norm.ppf(1 - (1 - LEVEL) / 2 / among) * np.std(copies, ddof=1))
    return max(bounds[0], value - half), min(bounds[1], value + half)


def hull(*intervals: tuple[float, float]) -> tuple[float, float]:
    """The smallest interval that holds all of them."""
    return min(low for low, _ in intervals), max(high for _, high in intervals)
