"""Folders as an audit leaves them, for the tests of exports."""

import json
from io import BytesIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow.data.open import open_source
from winnow.labels.table import labels_table, write_table


def png(level, size=(10, 8)):
    """A flat grey picture, width by height."""
    buffer = BytesIO()
    Image.new("RGB", size, (level, level, level)).save(buffer, "PNG")
    return buffer.getvalue()


def jpeg(level):
    buffer = BytesIO()
    Image.new("RGB", (10, 8), (level, level, level)).save(buffer, "JPEG")
    return buffer.getvalue()


def write_audit(
    folder,
    data,
    *,
    found=None,
    suggested=None,
    quality=None,
    suggested_probability=None,
    reasons=None,
    copies=(),
    **reading,
):
    """Writes labels.parquet, findings.parquet and source.json about a source, and gives the source.

    Args:
        folder: where they go.
        data: what the source opens.
        found: rows of each kind of finding, the most important kind first.
        suggested: class by row; by default the given one.
        quality: of the given label by row; by default 0.9.
        suggested_probability: of every suggestion; by default 0.8.
        reasons: by row.
        copies: pairs of an exact copy and the first of its group.
        reading: how the source is opened.
    """
    source = open_source(data, **reading)
    given = source.noisy_labels
    proposed, qualities = given.copy(), np.where(given >= 0, 0.9, np.nan)
    for row, label in (suggested or {}).items():
        proposed[row] = label
    for row, value in (quality or {}).items():
        qualities[row] = value
    table = labels_table(
        ids=source.ids,
        class_names=source.class_names,
        given_label=given,
        label_quality=qualities,
        suggested_label=proposed,
        suggested_probability=np.full(given.shape, suggested_probability or 0.8),
        outlier_score=np.linspace(0, 1, len(source)),
        found={kind: np.array(rows, dtype=np.int64) for kind, rows in (found or {}).items()},
        reasons=reasons or {},
    )
    folder.mkdir(parents=True)
    write_table(table, folder / "labels.parquet")
    rows, others = np.array(copies, dtype=np.int64).reshape(-1, 2).T
    findings = {
        "kind": pa.array(["exact_duplicate"] * len(rows) + ["outlier"], pa.string()),
        "row": pa.array([*rows.tolist(), 0], pa.int64()),
        "other_row": pa.array([*others.tolist(), None], pa.int64()),
    }
    pq.write_table(pa.table(findings), folder / "findings.parquet")
    record = {
        "schema_version": 1,
        "address": str(data),
        "settings": {"max_pixels": 50_000_000, "test": None, **reading},
        "num_images": len(source),
        "fingerprint": "",
    }
    (folder / "source.json").write_text(json.dumps(record))
    return source


def fates(path):
    """Rows of a fates.parquet."""
    return pq.read_table(path).to_pylist()
