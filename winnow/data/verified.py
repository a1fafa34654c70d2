"""Labels that a person has checked: a column of the data, or a table beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from winnow.data.classes import encode
from winnow.data.multilabel import Several, cells_from_columns, encode_several
from winnow.data.pictures import FilePictures
from winnow.data.source import Source, without_label
from winnow.errors import InputError, UsageError

if TYPE_CHECKING:
    from winnow.data.columns import Columns
    from winnow.data.label_map import LabelMap

_YES = {"true", "yes"}
_NO = {"false", "no", ""}
_SHOWN = 10


def flags(table: Columns, column: str, class_names: Sequence[str] | None) -> np.ndarray | None:
    """A column of true and false (or yes and no, or 1 and 0), boolean (N,); None if it holds something else.

    Args:
        table: where the column is.
        column: its name.
        class_names: with classes called 0 or 1, a column of 0 and 1 could be labels, and is refused.

    Raises:
        UsageError: the column may mean both.
    """
    texts = table.texts(column)
    words = [text.strip().lower() for text in texts] if texts is not None else []
    kinds = set(words)
    if not kinds or not kinds <= _YES | _NO | {"0", "1"} or kinds == {""}:
        return None
    if class_names is not None and kinds & {"0", "1"} and {"0", "1"} & set(class_names):
        raise UsageError(
            f"--verified {column}: 0 and 1 may be labels or answers; write true and false, or name a column of labels"
        )
    return np.fromiter((word in _YES or word == "1" for word in words), bool, len(words))


def verified_by_table(source: Source, table: Columns, label_map: LabelMap | None, separator: str | None) -> Source:
    """A source whose images in a table are verified: with the label there, or with their own if the table has none.

    The table names images by a column `id`, else by `path`, relative to the table. Where an image may have several
    classes, its labels are written there in any way in which they may be written in the data.

    Args:
        source: the images.
        table: what was checked.
        label_map: new names for its labels.
        separator: between the classes of an image in a cell of text.

    Raises:
        InputError: an image is unknown or stands there twice, or a label cannot be used.
    """
    rows = _rows(source, table)
    labels = source.noisy_labels.copy()
    checked = rows
    found = _labels(source, table, label_map, separator)
    if found is not None:
        labelled = ~without_label(found)
        checked = rows[labelled]
        labels[checked] = found[labelled]
    verified = np.zeros(len(source), bool)
    verified[checked] = ~without_label(labels[checked])
    note = f"{int(verified.sum()):,} labels are taken as verified, from {table.where}."
    return replace(source, noisy_labels=labels, verified=verified, notes=(*source.notes, note))


def _labels(source: Source, table: Columns, label_map: LabelMap | None, separator: str | None) -> np.ndarray | None:
    """The labels of the table in the source's classes, (N,) or (N, K) as there; None if it has none."""
    own = source.label_column or ""
    a_column_a_class = own.split(",") if own not in table.columns and "," in own else []
    column = next((name for name in ("label", own) if name in table.columns), None)
    several: Several | None = None
    if column is not None:
        several = table.several(column, separator)
    elif a_column_a_class and set(a_column_a_class) <= set(table.columns):
        several = cells_from_columns({name: table.labels(name) for name in a_column_a_class}, table.place, table.where)
    else:
        return None
    if several is None and source.is_multilabel:
        raise InputError(
            f"{table.header}: '{column}' names one class an image, {source.address} may have several: "
            "write lists, or say what separates them: --label-separator"
        )
    if several is not None:
        if not source.is_multilabel:
            raise InputError(f"{table.header}: '{column}' gives an image several classes, {source.address} one")
        _, (cells,) = encode_several(
            [several],
            [table.class_names(column) if column is not None else None],
            class_names=source.class_names,
            label_map=label_map,
            place=table.place,
            where=table.where,
        )
        return cells
    assert column is not None
    raw = table.labels(column)
    if label_map is not None:
        raw = label_map.applied(raw, table.class_names(column))
    _, (found,) = encode([raw], table.place, class_names=source.class_names, where=table.where)
    return found


def _rows(source: Source, table: Columns) -> np.ndarray:
    key = next((name for name in ("id", "path", "image", "file_name") if table.texts(name) is not None), None)
    if key is None:
        raise InputError(f"{table.header}: needs a column id or path beside label ({', '.join(table.columns)})")
    texts = table.texts(key) or []
    places = {name: row for row, name in enumerate(source.ids)}
    if isinstance(source.pictures, FilePictures):
        folder = os.path.dirname(os.path.abspath(table.where))
        by_path = {os.path.abspath(path): row for row, path in enumerate(source.pictures.paths) if path}
        rows = [places.get(text, by_path.get(os.path.abspath(os.path.join(folder, text)), -1)) for text in texts]
    else:
        rows = [places.get(text, -1) for text in texts]
    unknown = [f"'{texts[at]}' at {table.place(at)}" for at, row in enumerate(rows) if row < 0]
    if unknown:
        more = f" and {len(unknown) - _SHOWN:,} more" if len(unknown) > _SHOWN else ""
        raise InputError(
            f"{table.where}: not among the images of {source.address}: {', '.join(unknown[:_SHOWN])}{more}"
        )
    if len(set(rows)) < len(rows):
        seen: set[int] = set()
        twice = next(at for at, row in enumerate(rows) if row in seen or seen.add(row))  # type: ignore[func-returns-value]
        raise InputError(f"{table.where} {table.place(twice)}: '{texts[twice]}' stands there twice")
    return np.array(rows, dtype=np.int64)
