"""The work of `winnow study web`: fates first, then what is missing is trained; the rest follows from the lines."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from winnow.bench.cells import Cell
from winnow.bench.folder import default_workers, grid_folder
from winnow.bench.phrases import several
from winnow.bench.runner import CellProgress, check_limits, run_cells
from winnow.bench.shared import prepare
from winnow.bench.study import Study, Telling, studied
from winnow.bench.web import FUNCTION, Design, design
from winnow.bench.web_columns import Columns, read_columns
from winnow.bench.web_data import FATES, MERGED, SEVERAL, TEST_COPY, Crawl, crawl_of
from winnow.bench.web_page import web_page
from winnow.bench.web_summary import summarised
from winnow.bench.web_words import csv_text
from winnow.errors import UsageError
from winnow.files import atomic_write

_TELLING = Telling(summarised, csv_text, web_page)


class WebStudy(Study):
    """What a study found, and the fate of every image."""

    @property
    def fates(self) -> Path:
        """One line an image."""
        return self.out / "fates.csv"


def run_web(
    opening: Mapping[str, Any],
    out: Path,
    *,
    rank_column: str | None = None,
    foreign_column: str | None = None,
    likeness: float | None = None,
    root: Path | None = None,
    workers: int | None = None,
    budget_minutes: float | None = None,
    progress: CellProgress | None = None,
    **chosen: Any,
) -> WebStudy:
    """Writes `fates.csv`, runs what is not done yet, and writes `study.csv`, `summary.json` and `report.html`.

    Args:
        opening: how the data is opened, see `winnow.bench.shared.prepare`.
        out: the folder; results of other designs in it stay, and are not shown.
        rank_column: of the crawl's table, the place in the results of the search.
        foreign_column: of the crawl's table, true where an image is of none of the classes.
        likeness: what counts as a copy; by default calibrated on made copies of test images.
        root: where the files of built-in collections lie.
        workers: trainings at once; by default one a core, on an accelerator one.
        budget_minutes: see `run_cells`; 0 trains nothing and tells what is there.
        progress: hears of the work.
        chosen: see `winnow.bench.web.design`.

    Raises:
        UsageError, InputError: design or data are not possible.
        MachineError: the disk is full, or the folder cannot be written.
        Interrupted: a signal stopped it; what is there has been written.
    """
    progress = progress or CellProgress()
    check_limits(workers, budget_minutes or None)
    if likeness is not None and not 0 < likeness <= 1:
        raise UsageError(f"--likeness must lie above 0 and at most at 1, got {likeness:g}")
    with grid_folder(out, [opening]) as (results, work):
        data = prepare(opening, work, root=root, progress=progress.stage)
        columns = read_columns(data.train, opening, rank_column, foreign_column)
        crawl = crawl_of(data, columns, likeness)
        grid = design(
            crawl,
            opening,
            [data.fingerprint, columns.fingerprint],
            rank_column=rank_column,
            foreign_column=columns.foreign_column,
            likeness=likeness,
            simulated=columns.simulated,
            **chosen,
        )
        cells = grid.cells()
        done = sum(results.done(cell.key) for cell in cells)
        for label, words in _understood(grid, crawl, cells, done):
            progress.understood(label, words)
        atomic_write(out / "fates.csv", fates_csv(crawl, columns).encode("utf-8", "surrogateescape"))
        run = partial(
            run_cells,
            cells,
            FUNCTION,
            results,
            folder=work,
            workers=default_workers(workers, on_cpu=grid.device == "cpu"),
            budget_minutes=budget_minutes,
            progress=progress,
        )
        return studied(WebStudy, out, results, cells, _TELLING, None if budget_minutes == 0 else run, work=work)


def fates_csv(crawl: Crawl, columns: Columns) -> str:
    """One line an image: its fate, what it is a copy of, and how alike they are; unreadable ones at the end."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["id", "label", "rank", "fate", "copy_of", "likeness", "hash_bits"])
    names, ids = crawl.source.class_names, crawl.source.ids
    for row in range(len(ids)):
        fate, of = int(crawl.fate[row]), int(crawl.of[row])
        rank = f"{crawl.rank[row]:g}" if np.isfinite(crawl.rank[row]) else ""
        copy_of = ""
        likeness: list[Any] = ["", ""]
        if fate == TEST_COPY:
            copy_of = str(crawl.test_ids[of])
            likeness = [f"{crawl.match.likeness[row]:.3f}", int(crawl.match.bits[row])]
        elif fate in (SEVERAL, MERGED):
            copy_of = str(ids[of])
        writer.writerow([ids[row], names[crawl.labels[row]], rank, FATES[fate], copy_of, *likeness])
    there = set(ids)
    writer.writerows(
        [name, "", "", "unreadable or without label", "", "", ""] for name in columns.ids if name not in there
    )
    return file.getvalue()


def _understood(grid: Design, crawl: Crawl, cells: list[Cell], done: int) -> Iterator[tuple[str, str]]:
    checked = int(crawl.checked.sum())
    yield (
        "Data",
        f"{grid.opening['data']}: {len(crawl.labels):,} images, {crawl.source.num_classes} classes, "
        f"{len(crawl.test_labels):,} test images",
    )
    yield "Truth", f"known of {checked:,} images" if checked else "not known: no noise types, no annotators"
    yield "Copies", f"likeness of {crawl.calibration.rule.likeness:g} or more"
    yield "Learner", grid.learner.name
    yield (
        "Plan",
        f"{len(cells):,} cells: the crawl as a whole, then {several(len(grid.parts), 'part')} of it x "
        f"{several(grid.repeats, 'repeat')}" + (f"; {done:,} are done already" if done else ""),
    )
