"""The relations that papers published or that we promise, run by `winnow bench` and recorded.

    python -m benchmarks.relations                         # every grid of winnow/bench/relations
    python -m benchmarks.relations winnow                  # one
    python -m benchmarks.relations --oldest 2 --out DIR    # the two whose records are oldest; records go to DIR

A grid's record is `results/relations/NAME.json`. Every relation of a grid must hold, with the tolerance that the grid
states: the exit code is 1 if one does not, or a cell failed. Where WINNOW_DATA names no folder, grids whose data is
not here are left out, and told.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.record import RESULTS
from winnow.bench import command
from winnow.bench.comparison import LEADS, data_label
from winnow.bench.machine import circumstances
from winnow.cli.bench_progress import BenchProgress
from winnow.errors import InputError, WinnowError
from winnow.files import atomic_write

GRIDS = Path(command.__file__).parent / "relations"
RECORDS = RESULTS / "relations"


def chosen(names: Sequence[str], oldest: int | None, records: Path = RECORDS) -> list[str]:
    """The grids that were asked for; of those, perhaps only some whose records are oldest, or missing.

    Raises:
        ValueError: there is no such grid.
    """
    known = sorted(path.stem for path in GRIDS.glob("*.toml"))
    if unknown := [name for name in names if name not in known]:
        raise ValueError(f"no relations are called {unknown[0]!r} ({', '.join(known)})")
    wanted = list(dict.fromkeys(names)) or known
    if oldest is None:
        return wanted
    return sorted(wanted, key=lambda name: _date(records / f"{name}.json"))[:oldest]


def measured(name: str, *, seeds: int | None = None, training: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Runs a grid afresh and gives its record.

    Args:
        name: of the grid.
        seeds: how many, instead of the grid's.
        training: settings over those of the grid.

    Raises:
        InputError: its data is not here.
    """
    grid = command.wanted_grid(
        str(GRIDS / f"{name}.toml"),
        data=[],
        noise=[],
        methods=[],
        seeds=seeds,
        size="cpu",
        training=training or {},
        reading={},
    )
    began, used = time.monotonic(), _cpu_seconds()
    with BenchProgress() as progress, tempfile.TemporaryDirectory(prefix=f"relations-{name}-") as folder:
        found = command.run_grid(grid, Path(folder) / name, progress=progress)
    summary = found.summary()
    return {
        "relations": name,
        "title": grid.title,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **circumstances(),
        "seeds": list(grid.seeds),
        "training": [{"data": data_label(part.opening), **part.train} for part in grid.parts],
        "cells": summary["cells"],
        "failed": summary["failed"],
        "wall_seconds": round(time.monotonic() - began, 1),
        "cpu_seconds": round(_cpu_seconds() - used, 1),
        "verdicts": summary["relations"],
        "rows": [
            {key: row[key] for key in ("data", "noise", "method", "control", "seeds", LEADS)} for row in summary["rows"]
        ],
    }


def met(record: Mapping[str, Any]) -> bool:
    """Whether every relation of a record holds and no cell failed."""
    return not record["failed"] and all(verdict["holds"] for verdict in record["verdicts"])


def lines(record: Mapping[str, Any]) -> Iterator[str]:
    """A record for the terminal: a line for every relation, differences in points."""
    yield (
        f"{record['relations']}: {record['cells']} cells in {record['wall_seconds']:.0f} s, seeds "
        f"{', '.join(map(str, record['seeds']))}" + (f"; {record['failed']} failed" if record["failed"] else "")
    )
    for verdict in record["verdicts"]:
        seeds = " ".join(f"{100 * difference:+.1f}" for difference in verdict["differences"])
        word = {True: "holds", False: "DOES NOT HOLD", None: "NOT MEASURED"}[verdict["holds"]]
        mean = "-" if verdict["measured"] is None else f"{100 * verdict['measured']:+.1f}"
        most = verdict.get("at_most")
        asked = f"at least {100 * verdict['at_least']:+.1f}" if most is None else f"at most {100 * most:+.1f}"
        yield f"  {word:<13} {mean:>6} ({'each ' if verdict['each'] else ''}{asked}; {seeds})  {verdict['claim']}"


def write(record: Mapping[str, Any], folder: Path = RECORDS) -> Path:
    """Replaces a grid's record."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{record['relations']}.json"
    atomic_write(path, (json.dumps(record, indent=1) + "\n").encode())
    return path


def _cpu_seconds() -> float:
    """Of this process and of the workers that have ended."""
    spent = os.times()
    return spent.user + spent.system + spent.children_user + spent.children_system


def _date(path: Path) -> str:
    """When a record was made; before all others if there is none."""
    return str(json.loads(path.read_text(encoding="utf-8"))["date"]) if path.is_file() else ""


def main(arguments: list[str] | None = None) -> int:
    """1 if a relation does not hold or a cell failed."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.relations", description="Runs and records the relations that must hold."
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="default: all")
    parser.add_argument("--oldest", type=int, metavar="N", help="only the N whose records are oldest, or missing")
    parser.add_argument("--out", type=Path, default=RECORDS, help="folder of the new records")
    given = parser.parse_args(arguments)
    try:
        names = chosen(given.names, given.oldest)
    except ValueError as error:
        parser.error(str(error))
    fine = True
    for name in names:
        try:
            record = measured(name)
        except WinnowError as error:
            if isinstance(error, InputError) and not Path(os.environ.get("WINNOW_DATA") or "-").is_dir():
                print(f"{name}: not run, WINNOW_DATA names no folder: {error}", flush=True)
                continue
            print(f"{name}: error: {error}", file=sys.stderr)
            return error.exit_code
        print("\n".join(lines(record)), flush=True)
        write(record, given.out)
        fine = fine and met(record)
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
