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
        at_least: the difference that is asked for, as a fraction; negative where falling behind is allowed.
        differences: seed by seed; where no other method is named, the values themselves.
        each: whether every seed must reach it, rather than their mean.
        at_least: the mean difference that is asked for, as a fraction; negative where falling behind is allowed. Of a
            relation to no other method, the mean itself.
        differences: seed by seed.
    """

    claim: str
    at_least: float
    differences: Sequence[float]
    each: bool = False

    @property
    def measured(self) -> float | None:
        """The mean difference."""
        return statistics.fmean(self.differences) if self.differences else None

    @property
    def holds(self) -> bool | None:
        """Whether it holds; None while nothing is measured."""
        if self.measured is None:
            return None
        return (min(self.differences) if self.each else self.measured) >= self.at_least

    @property
    def word(self) -> str:
        """The same for a person."""
        return {True: "holds", False: "does not hold", None: "not measured"}[self.holds]


def judged(relations: Sequence[Mapping[str, Any]], conditions: Sequence[Condition]) -> list[Verdict]:
    """Every relation of a grid: `better` minus `than`, seed by seed, in `measure` (by default the last epoch's test
    accuracy) under `noise` (on `data`, where a grid has several), at least `by`; without `than` the value of `better`
    itself, at least `at_least`. It must hold in the mean, or in `each` seed."""
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
    at_least = float(relation.get("by" if against else "at_least", 0.0))
    return Verdict(str(claim), at_least, differences, each=bool(relation.get("each", False)))
