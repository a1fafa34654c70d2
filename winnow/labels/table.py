"""labels.parquet: one row an image, in source order."""

from __future__ import annotations

import json
from collections.abc import Sequence
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
    issue: Sequence[str | None],
    reason: Sequence[str | None],
) -> pa.Table:
    """The table of design section 4; class indices -1 and numbers NaN become nulls.

    Args:
        ids: stable names of the images.
        class_names: stored in the file's metadata.
        given_label: as annotated, (N,).
        label_quality: probability that it is right, (N,).
        suggested_label: most probable class, (N,).
        suggested_probability: of that class, (N,).
        outlier_score: (N,), or None where nothing was measured.
        issue: name of the finding, None where there is none.
        reason: a sentence for a person.
    """
    num = len(ids)
    scores = np.full(num, np.nan) if outlier_score is None else outlier_score
    columns = {
        "id": pa.array(list(ids), pa.string()),
        "given_label": _indices(given_label),
        "label_quality": _numbers(label_quality),
        "suggested_label": _indices(suggested_label),
        "suggested_probability": _numbers(suggested_probability),
        "outlier_score": _numbers(scores),
        "duplicate_group": pa.nulls(num, pa.int64()),
        "is_issue": pa.array([name is not None for name in issue], pa.bool_()),
        "issues": pa.array([[] if name is None else [name] for name in issue], pa.list_(pa.string())),
        "issue": pa.array(list(issue), pa.string()),
        "reason": pa.array(list(reason), pa.string()),
    }
    metadata = {"class_names": json.dumps(list(class_names)), "winnow_schema_version": str(SCHEMA_VERSION)}
    return pa.table(columns).replace_schema_metadata(metadata)


def write_labels(table: pa.Table, path: Path) -> None:
    """Writes the table atomically, the same bytes for the same table."""
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _indices(values: np.ndarray) -> pa.Array:
    return pa.array(values.astype(np.int64), mask=values < 0)


def _numbers(values: np.ndarray) -> pa.Array:
    values = values.astype(np.float32)
    return pa.array(values, mask=np.isnan(values))
