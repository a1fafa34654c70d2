"""A collection together with what an audit or a training run said of it, read back from the folder it left."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.audit.folder import READING, SOURCE, read_source_record, refuse_made
from winnow.data.folder import printable
from winnow.data.open import open_source
from winnow.data.source import Source, first_line
from winnow.errors import InputError

_COLUMNS = ("id", "given_label", "label_quality", "suggested_label", "suggested_probability", "issues", "reason")


@dataclass(frozen=True)
class Judged:
    """The images of a source, and what is said of each.

    Attributes:
        folder: of the audit or run.
        source: the images, opened as they were then.
        given_label: as annotated, int64 (N,), -1 where missing; with several classes an image 1, 0, -1, int8 (N, K).
        suggested_label: in the same shape; -1 where nothing is suggested.
        doubted: which labels (cells) look wrong, boolean, in the same shape.
        label_quality: probability that the given label is right, float32 (N,), NaN where it was not judged.
        suggested_probability: of the suggested label, float32 (N,), NaN where there is none.
        outlier_score: in [0, 1], float32 (N,), NaN where it was not measured.
        issues: the kinds of findings of each image, the most important first, list of strings.
        reasons: of the most important one, string.
        copy_of: the first of the pictures that are exactly equal to this one, int64 (N,), -1 = itself.
    """

    folder: Path
    source: Source
    given_label: np.ndarray
    suggested_label: np.ndarray
    doubted: np.ndarray
    label_quality: np.ndarray
    suggested_probability: np.ndarray
    outlier_score: np.ndarray
    issues: pa.ListArray
    reasons: pa.StringArray
    copy_of: np.ndarray

    def __len__(self) -> int:
        return len(self.source)

    def found(self, kind: str) -> np.ndarray:
        """Which images have a finding of some kind, boolean (N,)."""
        rows = pc.list_parent_indices(self.issues).to_numpy(zero_copy_only=False)
        has = np.zeros(len(self), dtype=bool)
        has[rows[np.asarray(pc.equal(pc.list_flatten(self.issues), kind))]] = True
        return has


def read_judged(folder: Path, progress: Callable[[str, int, int], None] | None = None) -> Judged:
    """Opens the source of an audit or run again, and reads what was found.

    Args:
        folder: what `winnow audit` or `winnow train` left.
        progress: hears of a download, see `open_source`.

    Raises:
        InputError: the folder holds neither, is damaged, or the source is no longer the one that was judged.
    """
    address, reading = _record(folder)
    table = _read(folder / "labels.parquet", _COLUMNS)
    class_names = _class_names(table, folder)
    known = {name: value for name, value in reading.items() if name in READING and value is not None}
    source = open_source(address, **known, progress=progress)
    _refuse_other(source, table.column("id").to_pylist(), class_names, folder)
    num, classes = table.num_rows, len(class_names)
    given, suggested = (_labels(table, name, classes, folder) for name in ("given_label", "suggested_label"))
    issues = _whole(table, "issues")
    if given.shape != suggested.shape or not pa.types.is_list(issues.type):
        raise _damaged(folder, "its columns are not those of a table of labels")
    judged = Judged(
        folder=folder,
        source=source,
        given_label=given,
        suggested_label=suggested,
        doubted=np.zeros(given.shape, dtype=bool),
        label_quality=_numbers(table, "label_quality"),
        suggested_probability=_numbers(table, "suggested_probability"),
        outlier_score=_numbers(table, "outlier_score"),
        issues=issues,
        reasons=_whole(table, "reason"),
        copy_of=_copies(folder / "findings.parquet", num),
    )
    flagged = judged.found("wrong_label")
    if given.ndim == 1:
        judged.doubted[:] = flagged
    else:
        judged.doubted[:] = flagged[:, None] & (_cells(table, "doubted_label", classes, folder) == 1)
    return judged


def _record(folder: Path) -> tuple[str, Mapping[str, Any]]:
    """The address of the source, and how it was read."""
    run = folder / "config.toml"
    if (folder / SOURCE).is_file():
        record = read_source_record(folder)
        refuse_made(record, folder)
        return record["address"], record["settings"]
    try:
        if run.is_file():
            record = tomllib.loads(run.read_text(encoding="utf-8"))
            address, reading = record["data"]["address"], record["data"]
        else:
            what = "holds no audit and no run" if folder.is_dir() else "no such folder"
            raise InputError(f"{folder}: {what}; name what winnow audit or winnow train left")
        if record["schema_version"] != 1:
            raise InputError(f"{folder}: written by another version of winnow (schema {record['schema_version']})")
        return str(address), dict(reading)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, f"its record cannot be read: {first_line(error)}") from error


def _read(path: Path, columns: Sequence[str]) -> pa.Table:
    if not path.is_file():
        raise InputError(f"{path.parent}: not finished, it has no {path.name}; go on with it, or make it anew")
    try:
        table = pq.read_table(path)
    except (pa.ArrowException, OSError) as error:
        raise _damaged(path.parent, f"{path.name} cannot be read: {first_line(error)}") from error
    absent = [name for name in columns if name not in table.column_names]
    if absent:
        raise _damaged(path.parent, f"{path.name} has no column '{absent[0]}'")
    return table


def _class_names(table: pa.Table, folder: Path) -> tuple[str, ...]:
    try:
        return tuple(map(str, json.loads((table.schema.metadata or {})[b"class_names"])))
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(folder, "labels.parquet does not name its classes") from error


def _refuse_other(source: Source, ids: list[str], class_names: tuple[str, ...], folder: Path) -> None:
    """The images must be those that were judged, in their order; what a person corrected of the labels may differ."""
    again = "it has changed since; judge it again"
    if len(source) != len(ids):
        raise InputError(f"{source.address}: {len(source):,} images, but {folder} is about {len(ids):,}: {again}")
    if source.class_names != class_names:
        raise InputError(f"{source.address}: other classes than in {folder}: {again}")
    for row, (now, then) in enumerate(zip(source.ids, ids, strict=True)):
        if now != then:
            names = f"{printable(now)!r}, in {folder} {printable(str(then))!r}"
            raise InputError(f"{source.address}: image {row + 1:,} is {names}: {again}")


def _labels(table: pa.Table, name: str, classes: int, folder: Path) -> np.ndarray:
    """A column of class indices, or of lists of them as cells."""
    column = _whole(table, name)
    if pa.types.is_list(column.type):
        return _cells(table, name, classes, folder)
    if not pa.types.is_integer(column.type):
        raise _damaged(folder, f"column '{name}' holds no class indices")
    labels = column.fill_null(-1).to_numpy(zero_copy_only=False).astype(np.int64)
    if len(labels) and not -1 <= labels.min() <= labels.max() < classes:
        raise _damaged(folder, f"column '{name}' names a class that is not there")
    return labels


def _cells(table: pa.Table, name: str, classes: int, folder: Path) -> np.ndarray:
    """Lists of classes as 1, 0 and -1, int8 (N, K); of the given label what `unknown_label` lists is unknown."""
    if name not in table.column_names or not pa.types.is_list(table.schema.field(name).type):
        raise _damaged(folder, f"labels.parquet has no lists '{name}'")
    cells = np.zeros((table.num_rows, classes), dtype=np.int8)

    def mark(column: str, value: int) -> None:
        lists = _whole(table, column)
        rows, entries = (part.to_numpy(zero_copy_only=False) for part in _flat(lists))
        if len(entries) and not 0 <= entries.min() <= entries.max() < classes:
            raise _damaged(folder, f"column '{column}' names a class that is not there")
        cells[rows, entries] = value

    mark(name, 1)
    if name == "given_label" and "unknown_label" in table.column_names:
        mark("unknown_label", -1)
    cells[np.asarray(_whole(table, name).is_null())] = -1
    return cells


def _flat(lists: pa.ListArray) -> tuple[pa.Array, pa.Array]:
    return pc.list_parent_indices(lists), pc.list_flatten(lists)


def _whole(table: pa.Table, name: str) -> pa.Array:
    """A column as one array."""
    found = table.column(name).combine_chunks()
    return pa.concat_arrays(found.chunks) if isinstance(found, pa.ChunkedArray) else found


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column of numbers, float32 (N,); NaN where there is none."""
    if name not in table.column_names:
        return np.full(table.num_rows, np.nan, dtype=np.float32)
    return np.asarray(pc.cast(_whole(table, name), pa.float32()).to_numpy(zero_copy_only=False), dtype=np.float32)


def _copies(findings: Path, num: int) -> np.ndarray:
    """The first of the exact copies that each image belongs to, int64 (N,), -1 = it is the first, or has none.

    A finding `exact_duplicate` names a copy, and the first one of its group as the other image.
    """
    copy_of = np.full(num, -1, dtype=np.int64)
    if not findings.is_file():  # a run looks for none
        return copy_of
    table = _read(findings, ("kind", "row", "other_row"))
    exact = table.filter(pc.equal(table.column("kind"), "exact_duplicate"))
    rows, first = (exact.column(name).fill_null(-1).to_numpy() for name in ("row", "other_row"))
    if len(rows) and (min(rows.min(), first.min()) < 0 or max(rows.max(), first.max()) >= num):
        raise _damaged(findings.parent, "findings.parquet names an image that is not there")
    copy_of[rows] = first
    return copy_of


def _damaged(folder: Path, why: str) -> InputError:
    return InputError(f"{folder}: damaged: {why}; make it anew")
