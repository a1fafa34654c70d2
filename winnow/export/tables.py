"""Parquet that winnow, Hugging Face's `datasets` and every reader of Parquet open: pictures, labels, class names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.metadata import KEY, TableMetadata
from winnow.export.content import Content
from winnow.export.names import safe_name, split_extension
from winnow.files import atomic_write

_GROUP_ROWS = 5_000
_GROUP_BYTES = 64 * 2**20


def write_parquet(content: Content, out: Path) -> None:
    """One file. `image` holds the picture as it was stored, `label` class indices (lists of them), null = unknown."""
    atomic_write(out, lambda file: _write(content, file))


def write_hugging_face(content: Content, stage: Path) -> None:
    """The layout of a dataset repository: `datasets.load_dataset(FOLDER)` and winnow read the folder."""
    (stage / "data").mkdir()
    atomic_write(stage / "data" / "train-00000-of-00001.parquet", lambda file: _write(content, file))


def _write(content: Content, file: BinaryIO) -> None:
    schema = _schema(content)
    with pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows, images in _groups(content):
            columns = {"image": pa.array(images, schema.field("image").type), **_columns(content, rows)}
            writer.write_table(pa.table([columns[name] for name in schema.names], schema=schema))


def _groups(content: Content) -> Iterator[tuple[np.ndarray, list[dict[str, Any]]]]:
    """Pictures in groups that fit in memory."""
    rows: list[int] = []
    images: list[dict[str, Any]] = []
    size = 0
    for row, data in content.pictures():
        name = safe_name(*split_extension(content.judged.source.ids[row].replace("/", "_"), data))
        rows.append(row)
        images.append({"bytes": data, "path": name})
        size += len(data)
        if len(rows) == _GROUP_ROWS or size > _GROUP_BYTES:
            yield np.array(rows), images
            rows, images, size = [], [], 0
    if rows:
        yield np.array(rows), images


def _columns(content: Content, rows: np.ndarray) -> dict[str, pa.Array]:
    judged = content.judged
    labels, given = content.fates.labels[rows], judged.given_label[rows]
    quality = judged.label_quality[rows]
    columns = {
        "id": pa.array([judged.source.ids[row] for row in rows], pa.string()),
        "label": _labels(labels),
        "given_label": _labels(given),
        "label_quality": pa.array(quality, mask=np.isnan(quality)),
    }
    if content.several:
        columns["unknown_label"] = _sets(labels < 0)
    if judged.source.verified is not None:
        columns["verified"] = pa.array(judged.source.verified[rows])
    return columns


def _schema(content: Content) -> pa.Schema:
    source = content.judged.source
    class_label = {"names": list(content.class_names), "_type": "ClassLabel"}
    # Versions of `datasets` before 4 know a list by this name, later ones take it for `List`.
    labels = {"feature": class_label, "_type": "Sequence"} if content.several else class_label
    index = pa.list_(pa.int64()) if content.several else pa.int64()
    fields: dict[str, tuple[pa.DataType, dict[str, Any]]] = {
        "image": (pa.struct({"bytes": pa.binary(), "path": pa.string()}), {"_type": "Image"}),
        "id": (pa.string(), {"dtype": "string", "_type": "Value"}),
        "label": (index, labels),
        "given_label": (index, labels),
        "label_quality": (pa.float32(), {"dtype": "float32", "_type": "Value"}),
    }
    if content.several:
        fields["unknown_label"] = (index, labels)
    if source.verified is not None:
        fields["verified"] = (pa.bool_(), {"dtype": "bool", "_type": "Value"})
    own = TableMetadata(
        class_names=list(content.class_names),
        label_column="label",
        image_column="image",
        test=source.test_address,
        grey=source.grey,
        mirror=source.mirror,
    )
    features = {name: feature for name, (_, feature) in fields.items()}
    metadata = {KEY: own.model_dump_json(), "huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([(name, kind) for name, (kind, _) in fields.items()], metadata=metadata)


def _labels(labels: np.ndarray) -> pa.Array:
    if labels.ndim == 1:
        return pa.array(labels.astype(np.int64), mask=labels < 0)
    return _sets(labels == 1, missing=np.asarray((labels < 0).all(axis=1)))


def _sets(member: np.ndarray, missing: np.ndarray | None = None) -> pa.Array:
    lists: list[list[int] | None] = [np.flatnonzero(row).tolist() for row in member]
    if missing is not None:
        lists = [None if absent else found for found, absent in zip(lists, missing, strict=True)]
    return pa.array(lists, pa.list_(pa.int64()))
