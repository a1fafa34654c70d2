"""What a model says of a source, and the table of it that a person gets."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from winnow.data.collection import Quarantined
from winnow.data.folder import printable
from winnow.data.source import Source
from winnow.files import atomic_write
from winnow.functional.task import Task

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Predictions:
    """What a model says of a source.

    Attributes:
        rows: positions in the source of the images that could be read, (n,).
        probs: class probabilities, float32 (n, K).
        quarantined: the images that could not be read.
        task: what the labels mean.
    """

    rows: np.ndarray
    probs: np.ndarray
    quarantined: list[Quarantined]
    task: Task

    def agreement(self, source: Source, class_names: tuple[str, ...]) -> float | None:
        """Share of labels (cells) that are predicted; None without labels or with other classes."""
        labels = source.noisy_labels[self.rows]
        known = labels >= 0
        predicted = self.task.decided(self.probs)
        if source.class_names != class_names or not known.any() or predicted.shape != labels.shape:
            return None
        return float((predicted == labels)[known].mean())


def write_predictions(path: Path, source: Source, found: Predictions, class_names: tuple[str, ...]) -> None:
    """One row an image, in source order: id, predicted class, all probabilities, or why there are none."""
    num = len(source)
    reasons: list[str | None] = [None] * num
    for item in found.quarantined:
        reasons[item.row] = f"{item.code}: {item.reason}"
    columns: dict[str, pa.Array] = {
        "id": pa.array([printable(name) for name in source.ids], pa.string()),
        **_predicted_columns(found, num, class_names, as_text=path.suffix == ".csv"),
        "unreadable": pa.array(reasons, pa.string()),
    }
    if path.suffix == ".csv":
        table = pa.table(columns)
        atomic_write(path, lambda file: pc.write_csv(table, file))
        return
    dense = np.full((num, len(class_names)), np.nan, dtype=np.float32)
    dense[found.rows] = found.probs
    flat = pa.array(dense.reshape(-1))
    columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, len(class_names))
    metadata = {"class_names": json.dumps(list(class_names)), "winnow_schema_version": str(SCHEMA_VERSION)}
    table = pa.table(columns).replace_schema_metadata(metadata)
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _predicted_columns(
    found: Predictions, num: int, class_names: tuple[str, ...], *, as_text: bool
) -> dict[str, pa.Array]:
    """The predicted class of each row and its probability; where there may be several, the lists of both."""
    labels: list[Any] = [None] * num
    classes: list[Any] = [None] * num
    probability: list[Any] = [None] * num
    decided = found.task.decided(found.probs)
    for place, row in enumerate(found.rows):
        if decided.ndim == 1:
            labels[row] = int(decided[place])
            classes[row] = class_names[labels[row]]
            probability[row] = float(found.probs[place, labels[row]])
            continue
        labels[row] = np.flatnonzero(decided[place]).tolist()
        classes[row] = [class_names[k] for k in labels[row]]
        probability[row] = found.probs[place, labels[row]].tolist()
    if decided.ndim == 1:
        kinds = pa.int64(), pa.string(), pa.float32()
    elif as_text:
        labels, classes, probability = (
            [None if cell is None else json.dumps(cell, ensure_ascii=False) for cell in column]
            for column in (labels, classes, probability)
        )
        kinds = pa.string(), pa.string(), pa.string()
    else:
        kinds = pa.list_(pa.int64()), pa.list_(pa.string()), pa.list_(pa.float32())
    values = (labels, classes, probability)
    names = ("predicted_label", "predicted_class", "probability")
    return {name: pa.array(column, kind) for name, column, kind in zip(names, values, kinds, strict=True)}
