"""The mislabelling study: what a wrong label costs, and whether more labels or better ones are worth more.

After Fard, Hollensen, McIlory & Trappenberg, "Impact of biased mislabeling on learning with deep networks", IJCNN 2017:
sizes x shares of wrong labels x unbiased or biased mistakes x learners, with repeats. This module says which cells
there are and in which order they run; `mislabel_data` who learns from what, `mislabel_cell` how.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from winnow.bench.cells import Cell, code_version
from winnow.bench.learner import Learner, Trainings
from winnow.bench.mislabel_data import BIASED, CLEAN, UNBIASED, Pool, pool_of, subset_rows, wrong_labels
from winnow.bench.mislabel_numbers import FEWEST, estimate
from winnow.bench.results import Results
from winnow.bench.runner import CellProgress, Outcome, run_cells
from winnow.bench.shared import Data
from winnow.errors import UsageError
from winnow.methods import find_method
from winnow.models import ModelSpec, default_model
from winnow.noise.kinds import KINDS

FUNCTION = "winnow.bench.mislabel_cell:run_cell"
_MODULES = ("winnow.bench.mislabel_cell", "winnow.bench.mislabel_data")
RATES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)
_STEPS, _DIGITS_STEPS = 1000, 400
_KNOWN: Mapping[str, tuple[tuple[int, ...], tuple[str, ...]]] = {
    "mnist": ((500, 8000, 55_000), ("shallow-mlp", "convnet")),
    "digits": ((80, 300, 1200), ("shallow-mlp", "mlp")),
}
"""Sizes and networks: for MNIST the paper's sizes and the like of its two networks, for the digits a small copy."""


@dataclass(frozen=True)
class Condition:
    """A cell without its repeat. Clean labels are one kind, whatever the others are."""

    learner: Learner
    kind: str
    rate: float
    size: int


@dataclass(frozen=True)
class Design(Trainings):
    """The grid.

    Attributes:
        opening: how the data is opened, see `winnow.bench.shared.prepare`.
        fingerprint: of the data.
        learners: what is trained.
        sizes: numbers of training images, ascending.
        rates: shares of wrong labels, ascending.
        kinds: `unbiased`, `biased`, or kinds of `winnow noise`.
        class_map: which class is taken for which in biased noise; by default each for the next.
    """

    opening: Mapping[str, Any]
    fingerprint: str
    learners: tuple[Learner, ...]
    sizes: tuple[int, ...]
    rates: tuple[float, ...] = RATES
    kinds: tuple[str, ...] = (UNBIASED, BIASED)
    class_map: str | None = None

    def conditions(self) -> list[Condition]:
        """All conditions, coarse first: the ends of every range before what lies between."""
        found = [
            Condition(learner, kind if rate else CLEAN, rate, size)
            for rate in coarse_first(self.rates)
            for size in coarse_first(self.sizes)
            for kind in self.kinds
            for learner in self.learners
        ]
        return list(dict.fromkeys(found))

    def cell(self, condition: Condition, repeat: int) -> Cell:
        """The cell of a condition and a repeat."""
        learner = condition.learner
        config = {
            "study": "mislabel",
            "data": dict(self.opening),
            "kind": condition.kind,
            "map": self.class_map if condition.kind not in (CLEAN, UNBIASED) else None,
            "rate": float(condition.rate),
            "size": condition.size,
            **self.config(learner, repeat),
        }
        code = code_version(learner.method, *_MODULES)
        return Cell(config, self.fingerprint, code, _cost(learner, condition.size, self.batch_size))

    def cells(self) -> list[Cell]:
        """Every cell, the first repeat of all conditions before the second of any."""
        return [self.cell(each, repeat) for repeat in range(self.repeats) for each in self.conditions()]


def design(data: Data, opening: Mapping[str, Any], **chosen: Any) -> Design:
    """A grid with whatever was not chosen filled in from the data, checked before anything runs.

    Args:
        data: prepared by the runner.
        opening: how it was opened.
        chosen: fields of `Design`, None where the choice is left; and `methods`, `models` and `schedules` (pairs of
            `steps` or `epochs` and a number or None), whose combinations are the learners.

    Raises:
        UsageError: a method, network, kind, rate or size is not possible.
    """
    pool = pool_of(data)
    available = len(pool.train_rows)
    device = str(chosen.get("device") or Design.device)
    sizes, models = _KNOWN.get(str(opening["data"]), ((available + 1,), (default_model(pool.images.shape[1], device),)))
    if max(sizes) > available:  # also with --limit
        sizes = default_sizes(available)
    chosen["sizes"] = tuple(sorted(set(chosen.get("sizes") or sizes)))
    steps = _DIGITS_STEPS if opening["data"] == "digits" else _STEPS
    lengths = {"steps": steps, "epochs": max(1, round(steps * Design.batch_size / max(chosen["sizes"])))}
    schedules = chosen.pop("schedules", None) or (("steps", None),)
    for schedule, _ in schedules:
        if schedule not in lengths:
            raise UsageError(f"--schedule {schedule}: must be steps or epochs")
    learners = tuple(
        Learner(method, model, schedule, lengths[schedule] if number is None else number)
        for method in dict.fromkeys(chosen.pop("methods", None) or ("cross-entropy",))
        for model in dict.fromkeys(chosen.pop("models", None) or models)
        for schedule, number in dict.fromkeys(schedules)
    )
    chosen["rates"] = tuple(sorted(set(chosen.get("rates") or RATES)))
    chosen["kinds"] = tuple(dict.fromkeys(chosen.get("kinds") or (UNBIASED, BIASED)))
    given = {name: value for name, value in chosen.items() if value is not None}
    result = Design(opening=opening, fingerprint=data.fingerprint, learners=learners, **given)
    _check(result, pool)
    return result


def default_sizes(available: int) -> tuple[int, ...]:
    """A sixteenth, a quarter and all of the images, to two digits."""
    sizes = []
    for share in (16, 4, 1):
        unit = 10 ** max(0, math.floor(math.log10(max(1, available / share))) - 1)
        sizes.append(max(1, int(available / share / unit) * unit))
    return tuple(sizes)


def coarse_first(values: Sequence[Any]) -> list[Any]:
    """Some values in order, rearranged: the ends, then the middle of every gap, again and again."""
    chosen = [0, len(values) - 1][: len(values)]
    while len(chosen) < len(values):
        places = sorted(chosen)
        chosen += [(a + b) // 2 for a, b in pairwise(places) if b - a > 1]
    return [values[place] for place in dict.fromkeys(chosen)]


def run_study(
    design: Design,
    results: Results,
    *,
    folder: Path,
    workers: int | None = None,
    budget_minutes: float | None = None,
    progress: CellProgress | None = None,
) -> Outcome:
    """Runs what is not there yet: three repeats of everything, then further ones where the band is widest.

    Args:
        design: the grid.
        results: where the records go.
        folder: the runner's own.
        workers: processes; by default one a core.
        budget_minutes: of both parts together.
        progress: hears of the work.

    Raises:
        See `run_cells`.
    """
    begun = time.monotonic()
    first = replace(design, repeats=min(design.repeats, FEWEST)).cells()
    outcome = run_cells(
        first, FUNCTION, results, folder=folder, workers=workers, budget_minutes=budget_minutes, progress=progress
    )
    every = design.cells()
    left = None if budget_minutes is None else budget_minutes - (time.monotonic() - begun) / 60
    failed = list(outcome.failed)
    if len(every) > len(first) and not outcome.left and (left is None or left > 0):
        failed += run_cells(
            widest_first(design, results),
            FUNCTION,
            results,
            folder=folder,
            workers=workers,
            budget_minutes=left,
            progress=progress,
        ).failed
    results.settle([cell.key for cell in every])
    done = sum(results.done(cell.key) for cell in every)
    return Outcome(done, failed, len(every) - done - len({record["key"] for record in failed}))


def widest_first(design: Design, results: Results) -> Iterator[Cell]:
    """Repeats beyond the third, each of the condition whose band of accuracy is the widest as things stand."""
    given = dict.fromkeys(design.conditions(), min(design.repeats, FEWEST))
    while open_ones := [condition for condition, repeats in given.items() if repeats < design.repeats]:
        widest = max(open_ones, key=lambda each: _band(design, results, each, given[each]))
        cell = design.cell(widest, given[widest])
        given[widest] += 1
        yield cell


def _band(design: Design, results: Results, condition: Condition, repeats: int) -> float:
    """Width of a condition's band once the repeats under way are there; none where too few could be measured."""
    records = [results.get(design.cell(condition, repeat).key) for repeat in range(repeats)]
    values = [record["result"]["test_accuracy_last"] for record in records if record and "result" in record]
    found = estimate(values) if values else None
    if found is None or found.high is None or found.low is None:
        return 0.0
    return (found.high - found.low) * math.sqrt(len(values) / repeats)


def _cost(learner: Learner, size: int, batch_size: int) -> float:
    steps = learner.length if learner.schedule == "steps" else learner.length * max(1, size // batch_size)
    return steps * (1.0 if "mlp" in learner.model else 10.0)


def _check(design: Design, pool: Pool) -> None:
    for rate in design.rates:
        if not 0 <= rate <= 1:
            raise UsageError(f"--rates {rate:g}: must lie in [0, 1]")
    classes = pool.source.num_classes
    for size in design.sizes:
        if not classes <= size <= len(pool.train_rows):
            raise UsageError(
                f"--sizes {size}: must lie in {classes} (one image a class) to {len(pool.train_rows):,}: so many are "
                f"left beside {len(pool.validation_rows):,} for validation and {len(pool.test_labels):,} for tests"
            )
    for learner in design.learners:
        find_method(learner.method)
        ModelSpec(learner.model, pool.images.shape[1], pool.images.shape[3], classes)
        if learner.length < 1:
            raise UsageError(f"--{learner.schedule} must be at least 1, got {learner.length}")
    rows = subset_rows(pool, design.sizes[0], design.seed, 0)
    rate = design.rates[-1]
    for kind in design.kinds:
        if kind not in (known := (UNBIASED, BIASED, *KINDS)):
            near = get_close_matches(kind, known, n=1)
            hint = f"; did you mean {near[0]}?" if near else f" ({', '.join(known)})"
            raise UsageError(f"--kinds {kind}: no such noise{hint}")
        labels = wrong_labels(pool, rows, kind, rate, design.class_map, design.seed)
        if (labels < 0).any() or (rate and (labels == pool.labels[rows]).all()):
            raise UsageError(f"--kinds {kind}: the study needs noise that changes labels, and this leaves them")
