"""The work of `winnow bench`: a grid's cells run, its table, its .csv and its page written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from winnow.bench.comparison import Condition
from winnow.bench.folder import clean_up, default_workers, failure, grid_folder
from winnow.bench.grid import FUNCTION, Grid, made_grid, parsed_method, parsed_noise, read_grid
from winnow.bench.grid_content import tables
from winnow.bench.headline import sentence
from winnow.bench.page import write_bench_page
from winnow.bench.results import Record
from winnow.bench.runner import CellProgress, Outcome, run_cells
from winnow.bench.shared import Data, donor_opening, prepare
from winnow.bench.table import csv_text, summary, table_lines
from winnow.bench.verdicts import Verdict, judged
from winnow.errors import InputError, UsageError
from winnow.files import atomic_write
from winnow.report import words

_SHIPPED = ("grids", "relations")


@dataclass(frozen=True)
class Found:
    """What a grid found.

    Attributes:
        grid: what was asked for.
        out: the folder.
        records: of its cells, in its order.
        conditions: the comparisons.
        outcome: how it ended.
    """

    grid: Grid
    out: Path
    records: Sequence[Record]
    conditions: Sequence[Condition]
    outcome: Outcome

    @property
    def csv(self) -> Path:
        """One line a cell."""
        return self.out / "results.csv"

    @property
    def report(self) -> Path:
        """The page."""
        return self.out / "report.html"

    @property
    def sentence(self) -> str:
        """The answer."""
        return sentence(self.conditions, self.grid.num_cells)

    @property
    def verdicts(self) -> list[Verdict]:
        """The grid's relations against what was measured."""
        return judged(self.grid.relations, self.conditions)

    @property
    def left(self) -> int:
        """Cells that were not begun."""
        return self.outcome.left or 0

    @property
    def failed(self) -> list[Record]:
        """Records of failed cells."""
        return self.outcome.failed

    @property
    def failure(self) -> str:
        """The one line about them."""
        return failure(self.failed, self.out, of=len(self.records))

    def lines(self) -> list[str]:
        """The tables, and the relations."""
        told = [f"  {verdict.word}: {verdict.claim}" for verdict in self.verdicts]
        return [*table_lines(self.conditions), *told]

    def summary(self) -> dict[str, Any]:
        """For programs."""
        return {
            "schema_version": 1,
            "grid": self.grid.name,
            "title": self.grid.title,
            "out": str(self.out),
            "cells": len(self.records) + self.left,
            "done": self.outcome.done,
            "failed": len(self.failed),
            "left": self.left,
            "rows": summary(self.conditions),
            "relations": [
                {
                    "claim": verdict.claim,
                    "holds": verdict.holds,
                    "measured": verdict.measured,
                    "at_least": verdict.at_least,
                    "at_most": verdict.at_most,
                    "each": verdict.each,
                    "differences": list(verdict.differences),
                }
                for verdict in self.verdicts
            ],
        }


def shipped() -> dict[str, Path]:
    """The grids that come with the package, by name."""
    folder = Path(__file__).parent
    return {path.stem: path for kind in _SHIPPED for path in sorted((folder / kind).glob("*.toml"))}


def wanted_grid(
    grid: str | None,
    *,
    data: Sequence[str],
    noise: Sequence[str],
    methods: Sequence[str],
    seeds: int | None,
    size: str,
    training: Mapping[str, Any],
    reading: Mapping[str, Any],
) -> Grid:
    """A grid from a file or a name, flags in place of what it says; or from flags alone.

    Args:
        grid: a .toml file, or a name of `shipped`.
        data: in place of the grid's.
        noise: such as `symmetric:0.2,0.4`, in place of the grid's.
        methods: such as `bootstrap-soft beta=0.9`, in place of the grid's.
        seeds: how many.
        size: of the grid.
        training: of `Settings`, over those of the grid.
        reading: how every collection is opened, over what the grid says.

    Raises:
        UsageError: something in it is not known, with what was meant, perhaps.
        InputError: there is no such file.
    """
    content: dict[str, Any] = {}
    name = "flags"
    if grid is None and size != "cpu":
        raise UsageError(f"--size {size}: sizes belong to a grid, and none is named")
    if grid is not None:
        path = _path(grid)
        name = path.stem
        content = read_grid(path, size=size)
    if data:
        content["data"] = list(data)
    if noise:
        content["noise"] = [parsed_noise(text) for text in noise]
    replaced = tables(content, "method", name, "name") if methods else []
    if methods:
        content["method"] = [parsed_method(text) for text in methods]
    content.setdefault("method", ["winnow"])
    given = content.get("data", [])
    items: list[dict[str, Any]] = [
        {"data": item} if isinstance(item, str) else dict(item)
        for item in (given if isinstance(given, list) else [given])
    ]
    for item in items:
        item.update(reading)
        if noise:
            item.pop("noise", None)
        if training and isinstance(item.get("train"), Mapping):
            item["train"] = {**item["train"], **training}
    content["data"] = items
    if isinstance(content.get("train", {}), Mapping):
        content["train"] = {**content.get("train", {}), **training}
    if grid is None and data:
        name = "-".join(Path(item).stem.replace(":", "-") for item in data)
    return made_grid(content, name, seeds=seeds, replaced=replaced)


def run_grid(
    grid: Grid,
    out: Path,
    *,
    root: Path | None = None,
    workers: int | None = None,
    budget_minutes: float | None = None,
    progress: CellProgress | None = None,
) -> Found:
    """Runs what is not done yet, and writes `results.csv` and `report.html` beside `results.jsonl`.

    Args:
        grid: from `wanted_grid`.
        out: the folder; results of other grids in it stay.
        root: where the files of built-in collections lie, see `prepare`.
        workers: trainings at once; by default one a core, on an accelerator one.
        budget_minutes: see `run_cells`.
        progress: hears of the work.

    Raises:
        UsageError, InputError: the data, or the noise for it, is not possible.
        MachineError: the disk is full, or the folder cannot be written.
        Interrupted: a signal stopped it.
    """
    progress = progress or CellProgress()
    with grid_folder(out, [part.opening for part in grid.parts]) as (results, work):
        data = [prepare(part.opening, work, root=root, progress=progress.stage) for part in grid.parts]
        donors = {name: prepare(donor_opening(name), work, root=root, progress=progress.stage) for name in grid.donors}
        grid.check(data, donors)
        cells = grid.cells(data, donors)
        progress.understood("Data", _data_words(grid, data))
        done = sum(results.done(key) for key in {cell.key for cell in cells})
        progress.understood("Plan", _plan_words(grid, len({cell.key for cell in cells}), done))
        outcome = run_cells(
            cells,
            FUNCTION,
            results,
            folder=work,
            workers=default_workers(workers, on_cpu=all(part.train["device"] == "cpu" for part in grid.parts)),
            budget_minutes=budget_minutes,
            progress=progress,
        )
        records = [record for cell in cells if (record := results.get(cell.key)) is not None]
        records = list({record["key"]: record for record in records}.values())
        clean_up(work, outcome)
        found = Found(grid, out, records, grid.compared(records), outcome)
        atomic_write(found.csv, csv_text(found.conditions).encode())
        write_bench_page(found.report, grid, records)
        return found


def _path(grid: str) -> Path:
    path = Path(grid)
    if path.suffix == ".toml":
        if not path.is_file():
            raise InputError(f"{grid}: no such file")
        return path
    known = shipped()
    if grid not in known:
        near = get_close_matches(grid, known, n=1)
        hint = f"; did you mean {near[0]}?" if near else f" (a .toml file, or {', '.join(known)})"
        raise UsageError(f"{grid}: no such grid{hint}")
    return known[grid]


def _data_words(grid: Grid, data: Sequence[Data]) -> str:
    return "; ".join(
        f"{part.opening['data']}, {len(opened.train):,} images, {opened.train.num_classes} classes"
        + (f", {len(opened.test):,} test images" if opened.test else ", no test images")
        for part, opened in zip(grid.parts, data, strict=True)
    )


def _plan_words(grid: Grid, cells: int, done: int) -> str:
    counts = {"condition": sum(len(part.noise) for part in grid.parts), "method": len(grid.entries)}
    counts["seed"] = len(grid.seeds)
    product = " x ".join(words.counted(number, noun) for noun, number in counts.items())
    text = f"{words.counted(cells, 'cell')}: {product}" + (f"; {done:,} are done already" if done else "")
    return text.replace(words.NO_BREAK, " ")
