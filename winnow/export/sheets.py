"""Tables without pictures: a .csv for spreadsheets, and cleanlab's table of label issues."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from winnow.data.classes import MISSING_TEXTS
from winnow.data.copying import file_path
from winnow.errors import InputError, UsageError
from winnow.export.content import Content
from winnow.export.spreadsheet import runs, safe_cell, safe_path
from winnow.files import atomic_write

_SEPARATORS = ";|,/&+ "


def write_csv(content: Content, out: Path) -> None:
    """One row an exported image: path of its file, id, class names, quality. No cell is a formula to a spreadsheet.

    Several classes of an image stand in one cell, between them the first of `; | , / & +` that is in no class name.

    Raises:
        InputError: a class name or path cannot stand in a .csv.
    """
    judged, names = content.judged, content.class_names
    unclear = [name for name in names if name != name.strip() or name in MISSING_TEXTS]
    if unclear:
        raise InputError(f"{out}: a .csv cannot hold the class name {unclear[0]!r} safely; write --to parquet")
    separator = _separator(names, out) if content.several else ""
    rows = list(content.rows())
    paths = _paths(content, rows)
    cells: list[list[str]] = []
    for place, row in enumerate(rows):
        labels, given = (
            separator.join(names[k] for k in content.classes(of, row))
            for of in (content.fates.labels, judged.given_label)
        )
        texts = [judged.source.ids[row], labels, given]
        quality = _number(judged.label_quality[row])
        cells.append([*([safe_path(paths[place])] if paths else []), *map(safe_cell, texts), quality])
    header = [*(["path"] if paths else []), "id", "label", "given_label", "label_quality"]
    _write_csv(out, [header, *cells])
    altered = sum(runs(name) for name in names)
    if altered:
        content.notes.append(
            f"Class names that begin like a formula: {altered:,}; an apostrophe stands before them. Parquet is exact."
        )
    if content.several:
        content.notes.append(f"Several classes stand in a cell: read them with --label-separator '{separator}'.")
        labels_left = content.fates.labels[content.fates.exported]
        unclear_rows = ((labels_left < 0).any(axis=1) | (labels_left == 0).all(axis=1)).sum()
        if unclear_rows:
            content.notes.append(
                f"Images without a class or with unknown ones: {unclear_rows:,}; a .csv cannot tell them apart, "
                "Parquet does."
            )


def write_cleanlab(content: Content, out: Path) -> None:
    """cleanlab's columns `is_label_issue`, `label_quality`, `given_label`, `predicted_label`, as .csv or .npz.

    Labels are class indices, as cleanlab counts them. Several classes of an image are a list in a .csv, in an .npz the
    matrix (n, K) of 1, 0 and -1. `row` is the image's place in the source.
    """
    judged = content.judged
    rows = np.array(list(content.rows()), dtype=np.int64)
    is_issue = judged.found("wrong_label")[rows]
    quality = judged.label_quality[rows]
    given, suggested = judged.given_label[rows], judged.suggested_label[rows]
    ids = [judged.source.ids[row] for row in rows]
    if out.suffix.lower() == ".npz":
        arrays: dict[str, Any] = {
            "id": np.array(ids, dtype=np.str_),
            "row": rows,
            "is_label_issue": is_issue,
            "label_quality": quality,
            "given_label": given,
            "predicted_label": suggested,
            "labels": given,
            "class_names": np.array(content.class_names, dtype=np.str_),
        }

        def write(file: BinaryIO) -> None:
            np.savez_compressed(file, allow_pickle=False, **arrays)

        atomic_write(out, write)
        return
    lines = (
        [
            safe_cell(ids[place]),
            str(row),
            str(bool(is_issue[place])),
            _number(quality[place]),
            _index(content, judged.given_label, row),
            _index(content, judged.suggested_label, row),
        ]
        for place, row in enumerate(rows.tolist())
    )
    header = ["id", "row", "is_label_issue", "label_quality", "given_label", "predicted_label"]
    _write_csv(out, [header, *lines])


def _index(content: Content, labels: np.ndarray, row: int) -> str:
    """A class index, or the list of them; empty where nothing is known."""
    found = content.classes(labels, row)
    if labels.ndim == 2:
        return json.dumps(found) if (labels[row] >= 0).any() else ""
    return str(found[0]) if found else ""


def _paths(content: Content, rows: Sequence[int]) -> list[str]:
    """Where each image's file is, seen from the table; nothing if any has no file of its own."""
    folder = os.path.abspath(content.out.parent)
    paths = [file_path(content.judged.source.pictures, row) for row in rows]
    if not all(paths):
        return []
    found = [os.path.relpath(path, folder) for path in paths]
    for path in found:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{content.out}: the file name {path!r} is not UTF-8; rename it, or write --to parquet"
            ) from None
    return found


def _separator(class_names: Sequence[str], out: Path) -> str:
    for separator in _SEPARATORS:
        if not any(separator in name for name in class_names):
            return separator
    raise UsageError(f"{out}: every separator occurs in a class name; write --to parquet")


def _number(value: float) -> str:
    return "" if math.isnan(value) else f"{float(value):.9g}"


def _write_csv(out: Path, lines: Iterable[Sequence[str]]) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows(lines)
    atomic_write(out, text.getvalue().encode())
