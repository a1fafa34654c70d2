"""labels.parquet and findings.parquet of an audit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from winnow.audit.findings import KINDS, Found
from winnow.data.folder import printable
from winnow.labels.table import index_column

SCHEMA_VERSION = 1


def by_importance(found: Sequence[Found]) -> list[Found]:
    """Findings that are not empty, in the order of `KINDS`."""
    return sorted((part for part in found if len(part)), key=lambda part: KINDS.index(part.kind))


def rows_by_kind(found: Sequence[Found]) -> dict[str, np.ndarray]:
    """Rows of each kind, in the order of `KINDS`."""
    return {part.kind: part.rows for part in by_importance(found)}


def reasons_by_row(found: Sequence[Found]) -> dict[int, str]:
    """The reason of each image's most important finding."""
    reasons: dict[int, str] = {}
    for part in by_importance(found):
        for row, reason in zip(part.rows.tolist(), part.reasons, strict=True):
            reasons.setdefault(row, reason)
    return reasons


def findings_table(
    found: Sequence[Found],
    *,
    ids: Sequence[str],
    test_ids: Sequence[str],
    given_label: np.ndarray,
    suggested_label: np.ndarray,
    duplicate_group: np.ndarray,
) -> pa.Table:
    """One row a finding: kinds by importance, the worst first in each.

    Args:
        found: rows counted in the source.
        ids: of the images.
        test_ids: of the test images, which `test_leak` names.
        given_label: class indices, (N,), -1 = none; where an image may have several classes, all -1.
        suggested_label: the same.
        duplicate_group: (N,), -1 = none.
    """
    parts = by_importance(found)
    rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)])
    kind = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    others = [
        np.full(len(part), -1, np.int64) if part.others is None else part.others.astype(np.int64) for part in parts
    ]
    other = np.concatenate([np.empty(0, np.int64), *others])
    probability = np.concatenate([np.empty(0), *(part.probability for part in parts)]).astype(np.float32)
    alike = [np.full(len(part), np.nan) if part.similarity is None else part.similarity for part in parts]
    similarity = np.concatenate([np.empty(0), *alike]).astype(np.float32)
    names = np.array([part.kind for part in parts], dtype=object)
    is_leak = names[kind] == "test_leak" if len(parts) else np.empty(0, dtype=bool)
    other_ids = [
        None if place < 0 else (test_ids if leak else ids)[place]
        for place, leak in zip(other.tolist(), is_leak.tolist(), strict=True)
    ]
    suggested = np.where(names[kind] == "wrong_label", suggested_label[rows], -1) if len(parts) else rows
    return pa.table(
        {
            "kind": pa.array([parts[place].kind for place in kind], pa.string()),
            "row": pa.array(rows),
            "id": pa.array([ids[row] for row in rows], pa.string()),
            "probability": pa.array(probability, mask=np.isnan(probability)),
            "similarity": pa.array(similarity, mask=np.isnan(similarity)),
            "reason": pa.array([printable(text) for part in parts for text in part.reasons], pa.string()),
            "given_label": index_column(given_label[rows]),
            "suggested_label": index_column(suggested),
            "other_row": index_column(other),
            "other_id": pa.array(other_ids, pa.string()),
            "group": index_column(duplicate_group[rows]),
        }
    ).replace_schema_metadata({"winnow_schema_version": str(SCHEMA_VERSION)})
