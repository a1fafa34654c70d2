"""The work of `winnow study mislabel`: what is missing is trained; tables, CSV and page are written from the lines."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from winnow.bench.cells import Cell
from winnow.bench.folder import default_workers, grid_folder
from winnow.bench.mislabel import Design, design, run_study
from winnow.bench.mislabel_numbers import FEWEST
from winnow.bench.mislabel_page import study_page
from winnow.bench.mislabel_summary import summarised
from winnow.bench.mislabel_words import csv_text
from winnow.bench.phrases import several
from winnow.bench.runner import CellProgress, check_limits
from winnow.bench.shared import prepare
from winnow.bench.study import Study, Telling, studied

_TELLING = Telling(summarised, csv_text, study_page)


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
    check_limits(workers, budget_minutes or None)
    with grid_folder(out, [opening]) as (results, work):
        data = prepare(opening, work, root=root, progress=progress.stage)
        grid = design(data, opening, **chosen)
        cells = grid.cells()
        done = sum(results.done(cell.key) for cell in cells)
        for label, words in _understood(grid, cells, done):
            progress.understood(label, words)
        run = partial(
            run_study,
            grid,
            results,
            folder=work,
            workers=default_workers(workers, on_cpu=grid.device == "cpu"),
            budget_minutes=budget_minutes,
            progress=progress,
        )
        return studied(Study, out, results, cells, _TELLING, None if budget_minutes == 0 else run, work=work)


def _understood(grid: Design, cells: list[Cell], done: int) -> list[tuple[str, str]]:
    sizes = ", ".join(f"{size:,}" for size in grid.sizes)
    rates = ", ".join(f"{100 * rate:g}" for rate in grid.rates)
    return [
        ("Data", f"{grid.opening['data']}; {sizes} images"),
        ("Noise", f"{', '.join(grid.kinds)} mistakes; {rates} % of the labels"),
        ("Learners", "; ".join(learner.name for learner in grid.learners)),
        (
            "Plan",
            f"{len(cells):,} cells: {several(min(grid.repeats, FEWEST), 'repeat')} of everything"
            + (f", {grid.repeats - FEWEST} more where the band is widest first" if grid.repeats > FEWEST else "")
            + (f"; {done:,} are done already" if done else ""),
        ),
    ]
