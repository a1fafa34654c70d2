"""A run folder as the report needs it: summary, epochs, labels, what was set aside."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.errors import InputError


@dataclass(frozen=True)
class Labels:
    """The columns of `labels.parquet` that a page shows, one entry per image in source order.

    Where an image may have several classes there is an entry for each known class of each image, and absence is a class
    of its own: `no cat` stands behind all the classes that can be present.

    Args:
        class_names: in index order.
        given, suggested: class indices, -1 where there is none.
        quality, probability: `label_quality` and `suggested_probability`.
        doubted: the given label looks wrong.
        texts: the columns `id` and `reason`, read one row at a time.
        rows: the image of each entry.
    """

    class_names: list[str]
    given: np.ndarray
    suggested: np.ndarray
    quality: np.ndarray
    probability: np.ndarray
    doubted: np.ndarray
    texts: pa.Table
    rows: np.ndarray

    def __len__(self) -> int:
        return len(self.given)

    def name(self, index: int) -> str:
        """The name of a class."""
        return self.class_names[index] if 0 <= index < len(self.class_names) else f"class {index}"

    def text(self, entry: int, column: str) -> str:
        """The text of an entry's `id` or `reason`, "" where there is none."""
        value = self.texts.column(column)[int(self.rows[entry])].as_py() if column in self.texts.column_names else None
        return "" if value is None else str(value)


@dataclass(frozen=True)
class SetAside:
    """Images that were not used: how many for which reason, and the first few."""

    total: int
    reasons: list[tuple[str, int]]
    examples: list[tuple[str, str]]


def read_summary(run: Path) -> dict[str, Any]:
    """What the command said about its run.

    Raises:
        InputError: there is no readable `summary.json`.
    """
    try:
        summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{run}: no readable summary.json, is this a finished run? ({error})") from error
    if not isinstance(summary, dict):
        raise InputError(f"{run}/summary.json: expected an object, found {type(summary).__name__}")
    return summary


def read_epochs(run: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, none without the file; a last line cut short by a crash is left out.

    Raises:
        InputError: a line before the last is no JSON.
    """
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    epochs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            epochs.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{run}/metrics.jsonl line {number}: no JSON ({error})") from error
    return epochs


def read_labels(run: Path, class_names: list[str]) -> Labels:
    """The label table of a run; `class_names` are used where the file itself carries none.

    Raises:
        InputError: the table is missing, damaged or lacks a column.
    """
    wanted = ["id", "given_label", "label_quality", "suggested_label", "suggested_probability", "is_issue"]
    path = run / "labels.parquet"
    try:
        schema = pq.read_schema(path)
        several = "given_label" in schema.names and pa.types.is_list(schema.field("given_label").type)
        optional = [name for name in ("issue", "reason") if name in schema.names]
        optional += ["unknown_label", "label_quality_by_class"] if several else []
        table = pq.read_table(path, columns=[*wanted, *optional])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable label table ({error})") from error
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}")
    stored = (schema.metadata or {}).get(b"class_names")
    names = json.loads(stored) if stored else class_names
    texts = table.select(["id", *(name for name in ("reason",) if name in table.column_names)])
    if several:
        return _cells(table, names, texts)

    def classes(column: str) -> np.ndarray:
        return pc.fill_null(table.column(column).cast(pa.int64()), -1).to_numpy()

    def numbers(column: str) -> np.ndarray:
        return pc.fill_null(table.column(column).cast(pa.float64()), np.nan).to_numpy()

    given, suggested = classes("given_label"), classes("suggested_label")
    flagged = pc.fill_null(table.column("is_issue"), False).to_numpy().astype(bool)
    if "issue" in table.column_names:
        kind = pc.fill_null(table.column("issue").cast(pa.string()), "wrong_label")
        flagged = flagged & pc.equal(kind, "wrong_label").to_numpy().astype(bool)
    return Labels(
        class_names=names,
        given=given,
        suggested=suggested,
        quality=numbers("label_quality"),
        probability=numbers("suggested_probability"),
        doubted=flagged & (given >= 0) & (suggested >= 0),
        texts=texts,
        rows=np.arange(len(given)),
    )


def _cells(table: pa.Table, names: list[str], texts: pa.Table) -> Labels:
    """An entry for each known class of each image."""
    num, classes = table.num_rows, len(names)

    def member(column: str) -> np.ndarray:
        lists = table.column(column).combine_chunks()
        lengths = pc.fill_null(lists.value_lengths(), 0).to_numpy()
        found = np.zeros((num, classes), dtype=bool)
        found[np.repeat(np.arange(num), lengths), lists.flatten().to_numpy()] = True
        return found

    known = ~member("unknown_label") & pc.is_valid(table.column("given_label")).to_numpy()[:, None]
    known &= pc.is_valid(table.column("suggested_label")).to_numpy()[:, None]
    rows, columns = np.nonzero(known)
    given, suggested = (np.where(member(c), 0, classes)[known] + columns for c in ("given_label", "suggested_label"))
    qualities = pc.fill_null(
        table.column("label_quality_by_class").combine_chunks().flatten().cast(pa.float64()), np.nan
    )
    quality = qualities.to_numpy().reshape(num, classes)[known]
    return Labels(
        class_names=[*names, *(f"no {name}" for name in names)],
        given=given,
        suggested=suggested,
        quality=quality,
        probability=np.where(given == suggested, quality, 1 - quality),
        doubted=(quality < 0.5) & (given != suggested),
        texts=texts,
        rows=rows,
    )


def read_set_aside(run: Path, examples: int = 10) -> SetAside:
    """What `quarantine.parquet` lists; nothing if there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = run / "quarantine.parquet"
    if not path.exists():
        return SetAside(0, [], [])
    try:
        table = pq.read_table(path, columns=["id", "code", "reason"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable list ({error})") from error
    first = table.slice(0, examples).to_pylist()
    return SetAside(
        total=table.num_rows,
        reasons=Counter(str(code) for code in table.column("code").to_pylist()).most_common(),
        examples=[(str(row["id"]), f"{row['code']}: {row['reason']}") for row in first],
    )
