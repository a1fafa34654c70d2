"""Labels that a person has checked: a column of the data, or a table beside it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from winnow.data.classes import encode
from winnow.data.pictures import FilePictures
from winnow.data.source import Source
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


def verified_by_table(source: Source, table: Columns, label_map: LabelMap | None) -> Source:
    """A source whose images in a table are verified: with the label there, or with their own if the table has none.

    The table names images by a column `id`, else by `path`, relative to the table.

    Raises:
        InputError: an image is unknown or stands there twice, or a label cannot be used.
    """
    rows = _rows(source, table)
    labels = source.noisy_labels.copy()
    column = next((name for name in ("label", source.label_column) if name in table.columns), None)
    if column is None:
        checked = rows
    else:
        raw = table.labels(column)
        if label_map is not None:
            raw = label_map.applied(raw, table.class_names(column))
        _, (found,) = encode([raw], table.place, class_names=source.class_names, where=table.where)
        checked = rows[found >= 0]
        labels[checked] = found[found >= 0]
    verified = np.zeros(len(source), bool)
    verified[checked] = labels[checked] >= 0
    note = f"{int(verified.sum()):,} labels are taken as verified, from {table.where}."
    return replace(source, noisy_labels=labels, verified=verified, notes=(*source.notes, note))


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
