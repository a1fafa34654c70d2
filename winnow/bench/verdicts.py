"""Relations between methods that were published or promised, held against what a grid measured."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from winnow.bench.comparison import LEADS, Condition, noise_label


@dataclass(frozen=True)
class Verdict:
    """A relation and what was measured.

    Attributes:
        claim: in words.
        at_least: the difference that is asked for, as a fraction; negative where falling behind is allowed. None where
            something else is.
        differences: seed by seed; where no other method is named, the values themselves.
        each: whether every seed must be within the bound, rather than their mean.
        at_most: the value that must not be exceeded, as a fraction; None where `at_least` is asked for.
    """

    claim: str
    at_least: float | None
    differences: Sequence[float]
    each: bool = False
    at_most: float | None = None

    @property
    def measured(self) -> float | None:
        """The mean difference."""
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def holds(self) -> bool | None:
        """Whether it holds; None while nothing is measured."""
        if self.measured is None:
            return None
        values = self.differences if self.each else [self.measured]
        if self.at_most is not None:
            return max(values) <= self.at_most
        return min(values) >= (self.at_least or 0.0)

    @property
    def word(self) -> str:
        """The same for a person."""
        return {True: "holds", False: "does not hold", None: "not measured"}[self.holds]


def judged(relations: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]) -> list[Verdict]:
    """Every relation of a grid: `better` minus `than`, seed by seed, in `measure` (by default the last epoch's test
    accuracy) under `noise` (on `data`, where a grid has several), at least `by`; without `than` the value of `better`
    itself, `at_least` or `at_most` so much. It must hold in the mean, or in `each` seed."""
    return [_judged(relation, conditions) for relation in relations]


def _judged(relation: Mapping[str, Any], conditions: Sequence[Condition]) -> Verdict:
    noise = noise_label(relation["noise"]) if "noise" in relation else None
    measure = relation.get("measure", LEADS)
    differences: list[float] = []
    for condition in conditions:
        if noise not in (None, condition.noise) or condition.data.split(",")[0] != relation.get(
            "data", condition.data.split(",")[0]
        ):
            continue
        better = condition.row(relation["better"])
        if better is None:
            continue
        ours = better.values(measure)
        if "than" not in relation:
            differences += ours.values()
        elif than := condition.row(relation["than"]):
            theirs = than.values(measure)
            differences += [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
    against = f" against {relation['than']}" if "than" in relation else ""
    claim = relation.get("claim", f"{relation['better']}{against}" + (f", {noise}" if noise else ""))
    each = bool(relation.get("each", False))
    if "at_most" in relation:
        return Verdict(str(claim), None, differences, each, at_most=float(relation["at_most"]))
    return Verdict(str(claim), float(relation.get("by" if against else "at_least", 0.0)), differences, each)
