"""The folder that a grid of trainings leaves: its results, what its cells share, and what is said of failures."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from winnow.bench.phrases import several
from winnow.bench.results import Record, Results
from winnow.bench.runner import Outcome, clear_runs
from winnow.errors import InputError

RESULTS, _WORK = "results.jsonl", ".work"


@contextmanager
def grid_folder(out: Path, openings: Iterable[Mapping[str, Any]]) -> Iterator[tuple[Results, Path]]:
    """The results of a folder, and the place for what its cells share; who fails before the first cell leaves neither.

    Args:
        out: the folder; made if it is not there.
        openings: how the data is opened, see `winnow.bench.shared.prepare`.

    Raises:
        InputError: the folder lies inside the data, or another process has it.
        MachineError: it cannot be written.
    """
    for opening in openings:
        place = Path(str(opening["data"]))
        if place.is_dir() and out.resolve().is_relative_to(place.resolve()):
            raise InputError(f"{out} lies inside {place}: it would become a class; name another --out")
    work = out / _WORK
    with Results(out / RESULTS) as results:
        try:
            clear_runs(work)
            yield results, work
        finally:
            if not len(results):
                shutil.rmtree(work, ignore_errors=True)


def clean_up(work: Path, outcome: Outcome) -> None:
    """Takes away what cells shared, once there is no cell to run or to try again."""
    if not outcome.left and not outcome.failed:
        shutil.rmtree(work, ignore_errors=True)


def default_workers(workers: int | None, *, on_cpu: bool) -> int | None:
    """As many as were asked for; by default one a core (None), on an accelerator one."""
    return 1 if workers is None and not on_cpu else workers


def failure(failed: Sequence[Record], out: Path, of: int | None = None) -> str:
    """The one line about failed cells, perhaps with the number of all cells."""
    cells = several(len(failed), "cell") + (f" of {of}" if of is not None else "")
    return (
        f"{cells} failed, the first with: {failed[0]['error']}; all are in {out / RESULTS}, "
        "the same command tries them again"
    )
