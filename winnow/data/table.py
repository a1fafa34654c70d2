"""Tables: csv and tsv with a path column, Parquet with a path, bytes or struct column."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

import numpy as np

from winnow.data.classes import RawLabels, are_class_labels, encode, from_texts, indices_of
from winnow.data.columns import Columns, DelimitedColumns, ParquetColumns
from winnow.data.decode import Limits
from winnow.data.metadata import TableMetadata
from winnow.data.source import UNLABELLED, Source
from winnow.errors import InputError
from winnow.labels.truth import CleanLabels

IMAGE_COLUMNS = (
    "image",
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "img",
    "img_path",
)
_SHOWN = 10


class MissingColumn(InputError):
    """A table or array file lacks a column that was asked for."""


def no_column(wanted: str, columns: Sequence[str], where: str, option: str) -> MissingColumn:
    """The error for a column that is not there, with the nearest that is."""
    near = get_close_matches(wanted, columns, n=1)
    advice = f"did you mean {option} {near[0]}?" if near else f"name it with {option}"
    return MissingColumn(f"{where}: no column '{wanted}' ({', '.join(columns)}); {advice}")


def choose_columns(
    columns: Sequence[str],
    label_column: str | None,
    clean_label_column: str | None,
    metadata: TableMetadata,
    *,
    where: str,
    default: str = "label",
) -> tuple[str, str | None, str | None]:
    """The label column, the truth column if there is one, and a remark where the choice was ours."""
    remark = None
    if label_column is None:
        label_column = metadata.label_column
        if label_column is None and {"noisy_label", default} <= set(columns):
            label_column, clean_label_column = "noisy_label", clean_label_column or default
            remark = f"Labels are read from 'noisy_label', their truth from '{clean_label_column}'."
        label_column = label_column or default
    clean_label_column = clean_label_column or metadata.clean_label_column
    if label_column not in columns:
        raise no_column(label_column, columns, where, "--label-column")
    if clean_label_column is not None and clean_label_column not in columns:
        raise no_column(clean_label_column, columns, where, "--clean-label-column")
    return label_column, clean_label_column, remark


def open_table(
    path: Path,
    *,
    label_column: str | None = None,
    clean_label_column: str | None = None,
    image_column: str | None = None,
    class_names: Sequence[str] | None = None,
    limits: Limits,
    unlabelled_ok: bool = False,
) -> Source:
    """Read a .csv, .tsv or .parquet table; paths in it are relative to the table.

    Args:
        path: the table.
        label_column: class names or indices; by default what the file says of itself, else `label`.
        clean_label_column: the truth, for evaluation.
        image_column: paths or encoded pictures; by default found by its name or type.
        class_names: the only classes allowed, in index order.
        limits: what pictures may be.
        unlabelled_ok: accept a table without a label column: every row is unlabelled.

    Raises:
        InputError: the table is damaged, a column is missing or labels cannot be used.
    """
    table: Columns = ParquetColumns(path) if path.suffix.lower() == ".parquet" else DelimitedColumns(path)
    if not table.num_rows:
        raise InputError(f"{path}: the table has no rows")
    image_column = _image_column(table, image_column or table.metadata.image_column)
    remark: str | None = None
    wanted: list[str] = []
    if label_column or table.metadata.label_column or "label" in table.columns or not unlabelled_ok:
        label_column, clean_label_column, remark = choose_columns(
            table.columns, label_column, clean_label_column, table.metadata, where=table.header
        )
        wanted = [label_column] + ([clean_label_column] if clean_label_column else [])
    pictures = table.pictures(image_column, limits)
    ids = _ids(table, image_column)
    raw = {name: table.labels(name) for name in wanted}
    own_names = table.metadata.class_names
    if class_names is None or own_names is None or list(class_names) == own_names:
        names, encoded = encode(list(raw.values()), ids, class_names=class_names or own_names, where=str(path))
    else:
        names, encoded = _by_name(list(raw.values()), ids, own_names, class_names, str(path))
    labels = encoded[0] if encoded else np.full(table.num_rows, UNLABELLED)
    _refuse_conflicts(table, image_column, ids, labels, names)

    def other_labels() -> Mapping[str, np.ndarray]:
        taken = {*wanted, image_column, "id"}
        columns = {name: table.labels(name) for name in table.label_like if name not in taken}
        return {name: indices_of(found, names) for name, found in columns.items() if are_class_labels(found, names)}

    notes = [remark] if remark else []
    if not wanted:
        notes.append("No label column: every image is unlabelled.")
    return Source(
        address=str(path),
        ids=ids,
        class_names=names,
        noisy_labels=labels,
        pictures=pictures,
        clean_labels=CleanLabels(encoded[-1]) if clean_label_column and encoded else None,
        grey=table.metadata.grey,
        mirror=table.metadata.mirror,
        notes=tuple(notes),
        label_column=wanted[0] if wanted else None,
        clean_label_column=clean_label_column,
        test_address=table.metadata.test,
        other_labels=other_labels,
    )


def _image_column(table: Columns, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in table.columns:
            raise no_column(wanted, table.columns, table.header, "--image-column")
        return wanted
    by_name = [name for name in IMAGE_COLUMNS if name in table.columns]
    by_type = [name for name in table.columns if table.is_picture_like(name)]
    both = [name for name in by_name if name in by_type]
    for candidates in (both, by_type if len(by_type) == 1 else [], by_name):
        if candidates:
            return candidates[0]
    raise MissingColumn(
        f"{table.header}: no image column ({', '.join(table.columns)}); "
        "name the one with paths or bytes: --image-column"
    )


def _ids(table: Columns, image_column: str) -> list[str]:
    """Column `id`, else `name` or the path if every row has its own, else the row's number."""
    explicit = table.texts("id")
    if explicit is not None:
        rows_of = _rows_of(explicit)
        twice = [f"'{text}' at {_places(table, rows)}" for text, rows in rows_of.items() if len(rows) > 1]
        if twice:
            more = f" and {len(twice) - _SHOWN:,} more" if len(twice) > _SHOWN else ""
            raise InputError(f"{table.path}: 'id' names {len(twice):,} images twice: {', '.join(twice[:_SHOWN])}{more}")
        return explicit
    candidates = ["name"] if table.is_picture_like(image_column) else [image_column, "name"]
    for column in candidates:
        texts = table.texts(column)
        if texts is not None and all(texts) and len(set(texts)) == len(texts):
            return texts
    return [f"{row:06d}" for row in range(table.num_rows)]


def _rows_of(texts: Sequence[str]) -> dict[str, list[int]]:
    rows_of: dict[str, list[int]] = defaultdict(list)
    for row, text in enumerate(texts):
        rows_of[text].append(row)
    return rows_of


def _places(table: Columns, rows: Sequence[int]) -> str:
    return "rows " + " and ".join(str(row + 1) for row in rows[:3])


def _refuse_conflicts(
    table: Columns, image_column: str, ids: Sequence[str], labels: np.ndarray, names: Sequence[str]
) -> None:
    """The same file twice with two labels is no training data but a question to the person."""
    if table.is_picture_like(image_column):
        return
    paths = table.texts(image_column) or []
    conflicts = [
        f"'{path}' is {' and '.join(_names(labels[rows], names))} at {_places(table, rows)}"
        for path, rows in _rows_of([os.path.normpath(path) if path else "" for path in paths]).items()
        if path and len(rows) > 1 and len(set(labels[rows].tolist())) > 1
    ]
    if conflicts:
        more = f" and {len(conflicts) - _SHOWN:,} more" if len(conflicts) > _SHOWN else ""
        raise InputError(f"{table.path}: images with two labels: {'; '.join(conflicts[:_SHOWN])}{more}")


def _names(labels: np.ndarray, names: Sequence[str]) -> Iterator[str]:
    return (names[label] if label >= 0 else "unlabelled" for label in dict.fromkeys(labels.tolist()))


def _by_name(
    raw: Sequence[RawLabels], ids: Sequence[str], own: Sequence[str], wanted: Sequence[str], where: str
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Indices into the file's own class list, turned into indices into another list by name."""
    _, encoded = encode(raw, ids, class_names=own, where=where)
    texts = [
        from_texts(column.column, [own[index] if index >= 0 else None for index in indices])
        for column, indices in zip(raw, encoded, strict=True)
    ]
    return encode(texts, ids, class_names=wanted, where=where)
