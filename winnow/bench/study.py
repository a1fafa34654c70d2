"""What every study does around its trainings: run what is missing, and write what the lines tell."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from winnow.bench.cells import Cell
from winnow.bench.folder import clean_up, failure
from winnow.bench.results import Record, Results
from winnow.bench.runner import Outcome
from winnow.files import atomic_write
from winnow.report.page import write_page

Summary = Mapping[str, Any]


@dataclass(frozen=True)
class Study:
    """What a study found.

    Attributes:
        out: the folder.
        summary: see `Telling`.
        outcome: how it ended.
    """

    out: Path
    summary: Summary
    outcome: Outcome

    @property
    def csv(self) -> Path:
        """What stands in the table."""
        return self.out / "study.csv"

    @property
    def report(self) -> Path:
        """The page."""
        return self.out / "report.html"

    @property
    def failure(self) -> str:
        """The one line about failed cells."""
        return failure(self.outcome.failed, self.out)


@dataclass(frozen=True)
class Telling:
    """How a study is told, however much of it is finished.

    Attributes:
        summarised: from its result lines to everything that is shown; JSON can hold it.
        csv_text: of that the table.
        page: of that the page.
    """

    summarised: Callable[[Sequence[Record]], dict[str, Any]]
    csv_text: Callable[[Summary], str]
    page: Callable[[Summary], str]


S = TypeVar("S", bound=Study)


def studied(
    kind: type[S],
    out: Path,
    results: Results,
    cells: Sequence[Cell],
    telling: Telling,
    run: Callable[[], Outcome] | None,
    *,
    work: Path,
) -> S:
    """Runs, and writes `study.csv`, `summary.json` and `report.html`, also where something stopped it.

    Args:
        kind: of the study.
        out: the folder.
        results: its lines; those of other designs stay, and are not shown.
        cells: of this design.
        telling: how it is told.
        run: runs what is missing; None tells what is there.
        work: what cells share; goes once there is no cell to run.
    """
    done = sum(results.done(cell.key) for cell in cells)
    outcome = Outcome(done, [], len(cells) - done)
    try:
        if run is not None:
            outcome = run()
    finally:
        records = {cell.key: record for cell in cells if (record := results.get(cell.key)) is not None}
        study = kind(out, telling.summarised(list(records.values())), outcome)
        atomic_write(study.csv, telling.csv_text(study.summary).encode())
        atomic_write(out / "summary.json", (json.dumps(study.summary, indent=1) + "\n").encode())
        write_page(study.report, telling.page(study.summary))
    clean_up(work, outcome)
    return study
