"""The work of `winnow study mislabel`: what is missing is trained; tables, CSV and page are written from the lines."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from winnow.bench.cells import Cell
from winnow.bench.command import RESULTS, WORK
from winnow.bench.mislabel import Design, design, run_study
from winnow.bench.mislabel_numbers import FEWEST
from winnow.bench.mislabel_page import write_study_report
from winnow.bench.mislabel_summary import summarised
from winnow.bench.mislabel_words import csv_text
from winnow.bench.results import Results
from winnow.bench.runner import CellProgress, Outcome, clear_runs
from winnow.bench.shared import prepare
from winnow.errors import InputError
from winnow.files import atomic_write


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        out: the folder.
        summary: see `summarised`.
        outcome: how it ended.
    """

    out: Path
    summary: Mapping[str, Any]
    outcome: Outcome

    @property
    def csv(self) -> Path:
        """One line a condition."""
        return self.out / "study.csv"

    @property
    def report(self) -> Path:
        """The page."""
        return self.out / "report.html"

    @property
    def failure(self) -> str:
        """The one line about failed cells."""
        failed = self.outcome.failed
        cells = "1 cell" if len(failed) == 1 else f"{len(failed)} cells"
        return (
            f"{cells} failed, the first with: {failed[0]['error']}; all are in {self.out / RESULTS}, "
            "the same command tries them again"
        )


def run_mislabel(
    opening: Mapping[str, Any],
    out: Path,
    *,
    root: Path | None = None,
    workers: int | None = None,
    budget_minutes: float | None = None,
    progress: CellProgress | None = None,
    **chosen: Any,
) -> Study:
    """Runs what is not done yet, and writes `study.csv`, `summary.json` and `report.html` beside `results.jsonl`.

    Args:
        opening: how the data is opened, see `winnow.bench.shared.prepare`.
        out: the folder; results of other designs in it stay, and are not shown.
        root: where the files of built-in collections lie.
        workers: trainings at once; by default one a core, on an accelerator one.
        budget_minutes: see `run_cells`; 0 runs nothing and tells what is there.
        progress: hears of the work.
        chosen: see `winnow.bench.mislabel.design`.

    Raises:
        UsageError, InputError: design or data are not possible.
        MachineError: the disk is full, or the folder cannot be written.
        Interrupted: a signal stopped it; what is there has been written.
    """
    progress = progress or CellProgress()
    place = Path(str(opening["data"]))
    if place.is_dir() and out.resolve().is_relative_to(place.resolve()):
        raise InputError(f"{out} lies inside {place}: it would become a class; name another --out")
    with Results(out / RESULTS) as results:
        work = out / WORK
        clear_runs(work)
        data = prepare(opening, work, root=root, progress=progress.stage)
        grid = design(data, opening, **chosen)
        cells = grid.cells()
        done = sum(results.done(cell.key) for cell in cells)
        for label, words in _understood(grid, cells, done):
            progress.understood(label, words)
        outcome = Outcome(done, [], len(cells) - done)
        try:
            if budget_minutes != 0:
                outcome = run_study(
                    grid,
                    results,
                    folder=work,
                    workers=workers or (None if grid.device == "cpu" else 1),
                    budget_minutes=budget_minutes,
                    progress=progress,
                )
        finally:
            study = _written(out, results, cells, outcome)
        if not outcome.left and not outcome.failed:
            shutil.rmtree(work, ignore_errors=True)
        return study


def _written(out: Path, results: Results, cells: list[Cell], outcome: Outcome) -> Study:
    records = {cell.key: record for cell in cells if (record := results.get(cell.key)) is not None}
    study = Study(out, summarised(list(records.values())), outcome)
    atomic_write(study.csv, csv_text(study.summary).encode())
    atomic_write(out / "summary.json", (json.dumps(study.summary, indent=1) + "\n").encode())
    write_study_report(study.report, study.summary)
    return study


def _understood(grid: Design, cells: list[Cell], done: int) -> list[tuple[str, str]]:
    sizes = ", ".join(f"{size:,}" for size in grid.sizes)
    rates = ", ".join(f"{100 * rate:g}" for rate in grid.rates)
    return [
        ("Data", f"{grid.opening['data']}; {sizes} images"),
        ("Noise", f"{', '.join(grid.kinds)} mistakes; {rates} % of the labels"),
        ("Learners", "; ".join(learner.name for learner in grid.learners)),
        (
            "Plan",
            f"{len(cells):,} trainings: {_repeats(min(grid.repeats, FEWEST))} of everything"
            + (f", {grid.repeats - FEWEST} more where the band is widest first" if grid.repeats > FEWEST else "")
            + (f"; {done:,} are done already" if done else ""),
        ),
    ]


def _repeats(number: int) -> str:
    return "1 repeat" if number == 1 else f"{number} repeats"
