"""What a run found: the table of labels and the numbers of its summary."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from winnow.data.collection import Collection
from winnow.data.source import Source
from winnow.labels.table import labels_table
from winnow.methods.base import Beliefs, Method, Problem
from winnow.survey import Survey
from winnow.train.evaluate import Recorder, TestSet
from winnow.train.passes import TrainingPasses

_LARGEST_MATRIX = 200


def tabled(
    method: Method, passes: TrainingPasses, last_view: Survey, source: Source, collection: Collection
) -> tuple[Beliefs, pa.Table]:
    """Beliefs about the readable images, and the table of all images of the source."""
    labels = source.noisy_labels[collection.rows]
    beliefs = method.beliefs(last_view) or beliefs_from_passes(passes, last_view, labels)
    num = len(source)

    def spread(values: np.ndarray, fill: float) -> np.ndarray:
        whole = np.full(num, fill, dtype=values.dtype)
        whole[collection.rows] = values
        return whole

    quality = np.where(labels >= 0, beliefs.label_quality, np.nan)
    doubted = doubts(beliefs, labels)
    issue: list[str | None] = [None] * num
    reason: list[str | None] = [None] * num
    for row in np.flatnonzero(doubted):
        place = collection.rows[row]
        issue[place] = "wrong_label"
        reason[place] = (
            f"looks like {source.class_names[beliefs.suggested_label[row]]} "
            f"({beliefs.suggested_probability[row]:.2f}); the given label is right with probability {quality[row]:.2f}"
        )
    for item in collection.quarantined:
        issue[item.row] = "unreadable"
        reason[item.row] = f"{item.code}: {item.reason}"
    table = labels_table(
        ids=source.ids,
        class_names=source.class_names,
        given_label=source.noisy_labels,
        label_quality=spread(quality, np.nan),
        suggested_label=spread(beliefs.suggested_label.astype(np.int64), -1),
        suggested_probability=spread(beliefs.suggested_probability, np.nan),
        outlier_score=None if beliefs.outlier_score is None else spread(beliefs.outlier_score, np.nan),
        issue=issue,
        reason=reason,
    )
    return beliefs, table


def beliefs_from_passes(passes: TrainingPasses, last_view: Survey, labels: np.ndarray) -> Beliefs:
    """For methods without an opinion: the running mean of p[given label], and the last network's class."""
    mean, visited = passes.label_quality()
    now = last_view.probs[np.arange(len(labels)), np.maximum(labels, 0)]
    return Beliefs(
        label_quality=np.where(visited, mean, now),
        suggested_label=last_view.probs.argmax(axis=1),
        suggested_probability=last_view.probs.max(axis=1),
    )


def doubts(beliefs: Beliefs, labels: np.ndarray) -> np.ndarray:
    """Which labels are doubted: more likely wrong than right, and another class is suggested."""
    return (labels >= 0) & (beliefs.label_quality < 0.5) & (beliefs.suggested_label != labels)


def summarised(
    method: Method,
    recorder: Recorder,
    beliefs: Beliefs,
    table: pa.Table,
    source: Source,
    collection: Collection,
    problem: Problem,
    test: TestSet | None,
    test_source: Source | None,
) -> dict[str, Any]:
    """The numbers of `summary.json` that come from what was learnt."""
    labels = problem.noisy_labels
    doubted = doubts(beliefs, labels)
    last = recorder.lines[-1] if recorder.lines else {}
    best = recorder.best()
    result: dict[str, Any] = {
        "method": getattr(method, "name", type(method).__name__),
        "method_title": getattr(method, "title", ""),
        "data": source.address,
        "test": test_source.address if test_source else None,
        "num_images": len(source),
        "num_classes": source.num_classes,
        "class_names": list(source.class_names),
        "quarantined": len(collection.quarantined),
        "unlabelled": int((labels < 0).sum()),
        "held_out": len(problem.held_out_rows),
        "num_test": len(test.labels) if test else 0,
        "test_accuracy_last": last.get("test_accuracy"),
        "test_accuracy_best": best["test_accuracy"] if best else None,
        "best_epoch": best["epoch"] if best else None,
        "given_label_agreement": last.get("given_label_agreement"),
        "num_doubted": int(doubted.sum()),
        "per_class": _per_class(method, beliefs, doubted, labels, source, test),
        **_believed_by_given(beliefs, labels, source),
    }
    if source.clean_labels is not None:
        truth = source.clean_labels.take(collection.rows)
        corrected = np.where(doubted, beliefs.suggested_label, labels)
        result |= {
            "label_quality_auroc": _number(truth.wrong_label_auroc(labels, beliefs.label_quality)),
            "corrected_label_accuracy": _number(truth.accuracy(corrected)),
            "given_label_accuracy": _number(truth.accuracy(labels)),
            "num_wrong": int(truth.wrong(labels).sum()),
        }
    return result


def _per_class(
    method: Method,
    beliefs: Beliefs,
    doubted: np.ndarray,
    labels: np.ndarray,
    source: Source,
    test: TestSet | None,
) -> list[dict[str, Any]]:
    predicted = test.predicted(method) if test else np.empty(0, dtype=np.int64)
    rows = []
    for k, name in enumerate(source.class_names):
        of_class = test.labels == k if test else np.empty(0, dtype=bool)
        rows.append(
            {
                "name": name,
                "images": int((labels == k).sum()),
                "doubted": int((doubted & (labels == k)).sum()),
                "suggested_images": int((beliefs.suggested_label == k).sum()),
                "test_images": int(of_class.sum()),
                "test_accuracy": float((predicted[of_class] == k).mean()) if of_class.any() else None,
            }
        )
    return rows


def _believed_by_given(beliefs: Beliefs, labels: np.ndarray, source: Source) -> dict[str, Any]:
    classes = source.num_classes
    known = labels >= 0
    cells = beliefs.suggested_label[known] * classes + labels[known]
    if classes <= _LARGEST_MATRIX:
        counts = np.bincount(cells, minlength=classes**2).reshape(classes, classes)
        return {"suggested_by_given": {"rows": "believed", "matrix": counts.tolist()}}
    pairs, counts = np.unique(cells, return_counts=True)
    believed, given = pairs // classes, pairs % classes
    order = np.argsort(-np.where(believed != given, counts, 0), kind="stable")[:_LARGEST_MATRIX]
    return {
        "top_pairs": [
            {
                "given": source.class_names[given[i]],
                "suggested": source.class_names[believed[i]],
                "images": int(counts[i]),
            }
            for i in order
            if believed[i] != given[i]
        ]
    }


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
