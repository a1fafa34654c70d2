"""labels.parquet: one row an image, in source order."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.files import atomic_write

SCHEMA_VERSION = 1


def labels_table(
    *,
    ids: Sequence[str],
    class_names: Sequence[str],
    given_label: np.ndarray,
    label_quality: np.ndarray,
    suggested_label: np.ndarray,
    suggested_probability: np.ndarray,
    outlier_score: np.ndarray | None,
    found: Mapping[str, np.ndarray],
    reasons: Mapping[int, str],
    duplicate_group: np.ndarray | None = None,
    further: Mapping[str, np.ndarray] | None = None,
) -> pa.Table:
    """The table of design section 4; class indices -1 and numbers NaN become nulls.

    Args:
        ids: stable names of the images.
        class_names: stored in the file's metadata.
        given_label: as annotated, (N,); or 1, 0, -1 for each class, (N, K): the columns of labels then hold the list of
            classes that are present, null where nothing is known, and three more columns say which are unknown, which
            are doubted, and the quality of each class.
        label_quality: probability that it is right, in the same shape; of several classes the least is written.
        suggested_label: most probable class, in the same shape.
        suggested_probability: of that class, in the same shape; of several the least is written.
        outlier_score: (N,), or None where nothing was measured.
        found: rows of each kind of finding, the most important kind first.
        reasons: a sentence for a person, by row.
        duplicate_group: number of the group of copies that an image belongs to, (N,), -1 = none.
        further: numbers that only some methods give, (N,) each, as last columns by their names.

    Raises:
        ValueError: one of `further` has the name of another column.
    """
    num = len(ids)
    scores = np.full(num, np.nan) if outlier_score is None else outlier_score
    several = given_label.ndim == 2
    columns = {
        "id": pa.array(list(ids), pa.string()),
        "given_label": _lists(given_label) if several else index_column(given_label),
        "label_quality": _numbers(_least(label_quality)),
        "suggested_label": _lists(suggested_label) if several else index_column(suggested_label),
        "suggested_probability": _numbers(_least(suggested_probability)),
        "outlier_score": _numbers(scores),
        "duplicate_group": pa.nulls(num, pa.int64()) if duplicate_group is None else index_column(duplicate_group),
        **_issues(found, num),
        "reason": pa.array([reasons.get(row) for row in range(num)], pa.string()),
    }
    if several:
        doubted = (given_label >= 0) & (label_quality < 0.5) & (suggested_label != given_label)
        columns["unknown_label"] = _sets(given_label < 0)
        columns["doubted_label"] = _sets(doubted)
        flat = _numbers(label_quality.reshape(-1))
        columns["label_quality_by_class"] = pa.FixedSizeListArray.from_arrays(flat, given_label.shape[1])
    for name, values in (further or {}).items():
        if name in columns:
            raise ValueError(f"labels.parquet has a column {name!r} already")
        columns[name] = _numbers(values)
    metadata = {"class_names": json.dumps(list(class_names)), "winnow_schema_version": str(SCHEMA_VERSION)}
    return pa.table(columns).replace_schema_metadata(metadata)


def write_table(table: pa.Table, path: Path) -> None:
    """Writes the table atomically, the same bytes for the same table."""
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _issues(found: Mapping[str, np.ndarray], num: int) -> dict[str, pa.Array]:
    """Whether an image has findings, their names, and the first of them."""
    kinds = pa.array(list(found), pa.string())
    rows = np.concatenate([np.empty(0, np.int64), *found.values()])
    kind = np.repeat(np.arange(len(found)), [len(part) for part in found.values()])
    order = np.argsort(rows, kind="stable")  # of one image's findings, the most important stays first
    counts = np.bincount(rows, minlength=num)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    names = kinds.take(pa.array(kind[order]))
    first = pa.array(offsets[:-1], mask=counts == 0)
    return {
        "is_issue": pa.array(counts > 0),
        "issues": pa.ListArray.from_arrays(pa.array(offsets.astype(np.int32)), names),
        "issue": names.take(first),
    }


def index_column(values: np.ndarray) -> pa.Array:
    """Indices as int64; negative ones become nulls."""
    return pa.array(values.astype(np.int64), mask=values < 0)


def _lists(labels: np.ndarray) -> pa.Array:
    """Classes present in each row of (N, K); null where every class is unknown."""
    return _sets(labels == 1, missing=np.asarray((labels < 0).all(axis=1)))


def _sets(member: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    offsets = np.concatenate([[0], np.cumsum(member.sum(axis=1))]).astype(np.int32)
    classes = pa.array(np.nonzero(member)[1].astype(np.int64))
    return pa.ListArray.from_arrays(pa.array(offsets), classes, mask=None if missing is None else pa.array(missing))


def _least(values: np.ndarray) -> np.ndarray:
    """The smallest number of each row; NaN where there is none."""
    if values.ndim == 1:
        return values
    return np.where(np.isnan(values).all(axis=1), np.nan, np.nanmin(np.nan_to_num(values, nan=np.inf), axis=1))


def _numbers(values: np.ndarray) -> pa.Array:
    values = values.astype(np.float32)
    return pa.array(values, mask=np.isnan(values))
