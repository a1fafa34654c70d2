"""Small folders as `winnow audit` leaves them, with whatever a test wants changed."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.audit.findings import KINDS
from winnow.labels.table import labels_table, write_table

Entry = tuple[int, int, float, str]
"""Row, other row or -1, probability (similarity of near copies) or NaN, reason."""

ALIKE = ("near_duplicate", "test_leak")

FINDINGS = pa.schema(
    {
        "kind": pa.string(),
        "row": pa.int64(),
        "id": pa.string(),
        "probability": pa.float32(),
        "similarity": pa.float32(),
        "reason": pa.string(),
        "given_label": pa.int64(),
        "suggested_label": pa.int64(),
        "other_row": pa.int64(),
        "other_id": pa.string(),
        "group": pa.int64(),
    }
)


def write_audit(
    folder: Path,
    given: np.ndarray,
    suggested: np.ndarray,
    *,
    names: Sequence[str],
    quality: np.ndarray | None = None,
    ids: Sequence[str] | None = None,
    reasons: Mapping[int, str] | None = None,
    found: Mapping[str, Sequence[Entry]] | None = None,
    unreadable: Sequence[tuple[int, str, str]] = (),
    **changes: Any,
) -> Path:
    """Writes the folder of an audit.

    Args:
        folder: made if it is not there.
        given, suggested: class indices, (N,), -1 for none; or presence of each class, (N, K).
        names: of the classes.
        quality: `label_quality`, NaN where a label was not judged; by default 0.05 where the two differ, else 0.95.
        ids: of the images; by default numbered.
        reasons: of the flagged labels, by row.
        found: the other findings by kind, the worst first.
        unreadable: row, code and reason.
        changes: of the summary.
    """
    folder.mkdir(exist_ok=True)
    given, suggested = np.array(given, dtype=np.int64), np.array(suggested, dtype=np.int64)
    num, several = len(given), given.ndim == 2
    ids = ids if ids is not None else [f"{row:05d}.png" for row in range(num)]
    if quality is None:
        quality = np.where(given == suggested, 0.95, 0.05)
    quality = np.array(quality, dtype=np.float64)
    broken = np.array([row for row, _, _ in unreadable], dtype=np.int64)
    for values, none in ((given, -1), (suggested, -1), (quality, np.nan)):
        values[broken] = none
    quality[given < 0] = np.nan
    cells = (given != suggested) & (given >= 0) & (quality < 0.5)
    flagged = cells.any(axis=1) if several else cells
    worst = np.flatnonzero(flagged)
    least = quality.min(axis=1) if several else quality
    worst = worst[np.argsort(least[worst], kind="stable")]
    entries: dict[str, Sequence[Entry]] = {
        "wrong_label": [(int(r), -1, 1 - float(least[r]), (reasons or {}).get(int(r), "")) for r in worst],
        **(found or {}),
        "unreadable": [(row, -1, float("nan"), f"{code}: {reason}") for row, code, reason in unreadable],
    }
    rows = []
    for kind in KINDS:
        for row, other, value, reason in entries.get(kind, ()):
            stated = None if np.isnan(value) else value
            alone = several or kind == "unreadable"
            rows.append(
                {
                    "kind": kind,
                    "row": row,
                    "id": ids[row],
                    "probability": None if kind in ALIKE else stated,
                    "similarity": stated if kind in ALIKE else None,
                    "reason": reason,
                    "given_label": None if alone or given[row] < 0 else int(given[row]),
                    "suggested_label": int(suggested[row]) if kind == "wrong_label" and not several else None,
                    "other_row": None if other < 0 else other,
                    "other_id": None if other < 0 else f"test/{other}" if kind == "test_leak" else ids[other],
                    "group": min(row, other) if kind.endswith("duplicate") else None,
                }
            )
    pq.write_table(pa.Table.from_pylist(rows, schema=FINDINGS), folder / "findings.parquet")
    table = labels_table(
        ids=ids,
        class_names=names,
        given_label=given,
        label_quality=quality,
        suggested_label=suggested,
        suggested_probability=1 - quality,
        outlier_score=np.zeros(num),
        found={kind: np.array([e[0] for e in entries[kind]], int) for kind in KINDS if entries.get(kind)},
        reasons=reasons or {},
    )
    write_table(table, folder / "labels.parquet")
    if unreadable:
        aside = [{"row": row, "id": ids[row], "code": code, "reason": reason} for row, code, reason in unreadable]
        pq.write_table(pa.Table.from_pylist(aside), folder / "quarantine.parquet")
    source = {"schema_version": 1, "address": "photos", "settings": {"label_column": None}, "fingerprint": "5f3a"}
    (folder / "source.json").write_text(json.dumps(source))
    summary = _summary(given, suggested, cells, names, several) | {
        "num_issues": len({row for some in entries.values() for row, *_ in some}),
        "num_flagged": int(flagged.sum()),
        "counts": {kind: len(entries[kind]) for kind in KINDS if entries.get(kind)},
        "quarantined": len(unreadable),
        "unlabelled": 0 if several else int((given < 0).sum()) - len(unreadable),
    }
    known = {kind: [e[2] for e in some if not np.isnan(e[2])] for kind, some in entries.items()}
    means = {kind: float(np.mean(v)) if v else None for kind, v in known.items() if entries[kind]}
    summary["likely_true"] = {kind: None if kind in ALIKE else mean for kind, mean in means.items()}
    summary["similarity"] = {kind: mean for kind, mean in means.items() if kind in ALIKE and mean is not None}
    doubt = 1 - quality[np.isfinite(quality)]
    rate = float(doubt.mean()) if len(doubt) else None
    summary["estimated_noise_rate"] = rate
    summary["estimated_noise_rate_interval"] = None if rate is None else [0.9 * rate, 1.1 * rate]
    (folder / "summary.json").write_text(json.dumps(summary | changes))
    return folder


def _summary(
    given: np.ndarray, suggested: np.ndarray, cells: np.ndarray, names: Sequence[str], several: bool
) -> dict[str, Any]:
    classes = len(names)
    summary: dict[str, Any] = {
        "schema_version": 1,
        "command": "winnow audit photos --out audits/photos",
        "version": "0.1.0",
        "data": "photos",
        "num_images": len(given),
        "num_classes": classes,
        "transition_matrix": None,
        "confusions": [],
        "noise_kind": None,
        "remarks": [],
        "class_shares": [],
        "features": "Raw pixels: the images are tiny.",
        "verified": 0,
        "multilabel": several,
        "seed": 0,
        "seconds": 12.4,
        "stage_seconds": {"reading": 1.2, "features": 8.1},
        "notes": [],
        "settings": {"budget": 5},
    }
    if several:
        return summary
    both = (given >= 0) & (suggested >= 0)
    believed = np.where(cells, suggested, given)[both]
    counts = np.bincount(believed * classes + given[both], minlength=classes**2).reshape(classes, classes)
    totals, num = counts.sum(axis=1), max(1, int(both.sum()))
    if classes <= 200:
        summary["transition_matrix"] = (counts / np.maximum(totals, 1)[:, None]).tolist()
    off = counts - np.diag(np.diag(counts))
    summary["confusions"] = [
        {
            "believed": int(cell // classes),
            "given": int(cell % classes),
            "share": float(off.flat[cell] / totals[cell // classes]),
            "images": float(off.flat[cell]),
        }
        for cell in np.argsort(-off, axis=None, kind="stable")[:50]
        if off.flat[cell]
    ]
    for index in range(classes):
        share = float(totals[index] / num)
        spread = 2 * float(np.sqrt(share * (1 - share) / num))
        images = int(counts[:, index].sum())
        summary["class_shares"].append(
            {
                "class": index,
                "images": images,
                "given": images / num,
                "estimated": share,
                "low": max(0.0, share - spread),
                "high": min(1.0, share + spread),
            }
        )
    return summary
