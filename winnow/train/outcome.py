"""What a run found: the table of labels and the numbers of its summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from winnow.data.collection import Collection
from winnow.data.source import Source, without_label
from winnow.functional.task import mean_average_precision, task_of
from winnow.labels.table import labels_table
from winnow.methods.base import Beliefs, Method, Problem
from winnow.survey import Survey
from winnow.train.evaluate import Recorder, TestSet, number_or_none
from winnow.train.passes import TrainingPasses

_LARGEST_MATRIX = 200


def tabled(
    method: Method, passes: TrainingPasses, last_view: Survey, source: Source, collection: Collection
) -> tuple[Beliefs, pa.Table]:
    """Beliefs about the readable images, and the table of all images of the source."""
    labels = source.noisy_labels[collection.rows]
    beliefs = method.beliefs(last_view) or beliefs_from_passes(passes, last_view, labels)
    if source.verified is not None:
        beliefs = _with_verified(beliefs, labels, source.verified[collection.rows])
    num = len(source)

    def spread(values: np.ndarray, fill: float) -> np.ndarray:
        whole = np.full((num, *values.shape[1:]), fill, dtype=values.dtype)
        whole[collection.rows] = values
        return whole

    quality = np.where(labels >= 0, beliefs.label_quality, np.nan)
    doubted = doubts(beliefs, labels)
    wrong = np.flatnonzero(doubted.any(axis=1) if source.is_multilabel else doubted)
    unreadable = np.array([item.row for item in collection.quarantined], dtype=np.int64)
    reasons = {int(collection.rows[row]): _reason(beliefs, doubted, int(row), source.class_names) for row in wrong}
    reasons |= {item.row: f"{item.code}: {item.reason}" for item in collection.quarantined}
    table = labels_table(
        ids=source.ids,
        class_names=source.class_names,
        given_label=source.noisy_labels,
        label_quality=spread(quality, np.nan),
        suggested_label=spread(beliefs.suggested_label.astype(labels.dtype), -1),
        suggested_probability=spread(beliefs.suggested_probability, np.nan),
        outlier_score=None if beliefs.outlier_score is None else spread(beliefs.outlier_score, np.nan),
        found={"wrong_label": collection.rows[wrong], "unreadable": unreadable},
        reasons=reasons,
        further={name: spread(values, np.nan) for name, values in method.columns(last_view).items()},
    )
    return beliefs, table


def beliefs_from_passes(passes: TrainingPasses, last_view: Survey, labels: np.ndarray) -> Beliefs:
    """For methods without an opinion: the running mean of p[given label], and the last network's class."""
    task = task_of(labels)
    mean, visited = passes.label_quality()
    now = task.given(torch.from_numpy(last_view.probs), torch.from_numpy(labels)).numpy()
    return Beliefs(
        label_quality=np.where(visited[:, None] if mean.ndim == 2 else visited, mean, now),
        suggested_label=task.decided(last_view.probs),
        suggested_probability=task.certainty(last_view.probs),
    )


def _with_verified(beliefs: Beliefs, labels: np.ndarray, verified: np.ndarray) -> Beliefs:
    """What a person has checked is right, whatever the network thinks of it."""
    checked = verified[:, None] & (labels >= 0) if labels.ndim == 2 else verified
    return replace(
        beliefs,
        label_quality=np.where(checked, 1.0, beliefs.label_quality),
        suggested_label=np.where(checked, labels, beliefs.suggested_label),
        suggested_probability=np.where(checked, 1.0, beliefs.suggested_probability),
    )


def _reason(beliefs: Beliefs, doubted: np.ndarray, row: int, class_names: Sequence[str]) -> str:
    """Why the label of a row is doubted, for a person."""
    if doubted.ndim == 1:
        return (
            f"looks like {class_names[beliefs.suggested_label[row]]} "
            f"({beliefs.suggested_probability[row]:.2f}); "
            f"the given label is right with probability {beliefs.label_quality[row]:.2f}"
        )
    cells = [
        f"{class_names[int(k)]} looks {'present' if beliefs.suggested_label[row, k] == 1 else 'absent'} "
        f"({beliefs.suggested_probability[row, k]:.2f})"
        for k in np.flatnonzero(doubted[row])
    ]
    return "; ".join(cells)


def doubts(beliefs: Beliefs, labels: np.ndarray) -> np.ndarray:
    """Which labels (cells) are doubted: more likely wrong than right, and another is suggested."""
    return (labels >= 0) & (beliefs.label_quality < 0.5) & (beliefs.suggested_label != labels)


def summarised(
    method: Method,
    recorder: Recorder,
    beliefs: Beliefs,
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
    # The last epoch has measured them; a run that resumes after it has not.
    test_probs = None if test is None else test.probs(method) if test.latest is None else test.latest
    result: dict[str, Any] = {
        "task": problem.task.name,
        "method": getattr(method, "name", type(method).__name__),
        "method_title": getattr(method, "title", ""),
        "data": source.address,
        "test": test_source.address if test_source else None,
        "num_images": len(source),
        "num_classes": source.num_classes,
        "class_names": list(source.class_names),
        "quarantined": len(collection.quarantined),
        "unlabelled": int(without_label(labels).sum()),
        "verified": len(problem.verified),
        "held_out": len(problem.held_out_rows),
        "num_test": len(test.labels) if test else 0,
        "test_accuracy_last": last.get("test_accuracy"),
        "test_accuracy_best": best["test_accuracy"] if best else None,
        "best_epoch": best["epoch"] if best else None,
        "given_label_agreement": last.get("given_label_agreement"),
        "num_doubted": int(doubted.sum()),
    }
    if source.is_multilabel:
        result["test_mean_average_precision_last"] = last.get("test_mean_average_precision")
        result["num_labels"] = int((labels >= 0).sum())
        result["num_doubted_images"] = int(doubted.any(axis=1).sum())
        result["per_class"] = _per_cell(beliefs, doubted, labels, source, test, test_probs)
    else:
        result["per_class"] = _per_class(beliefs, doubted, labels, source, test, test_probs)
        result |= _believed_by_given(beliefs, labels, source)
    if source.clean_labels is not None:
        truth = source.clean_labels.take(collection.rows)
        corrected = np.where(doubted, beliefs.suggested_label, labels)
        result |= {
            "label_quality_auroc": number_or_none(truth.wrong_label_auroc(labels, beliefs.label_quality)),
            "corrected_label_accuracy": number_or_none(truth.accuracy(corrected)),
            "given_label_accuracy": number_or_none(truth.accuracy(labels)),
            "num_wrong": int(truth.wrong(labels).sum()),
        }
        if beliefs.outlier_score is not None and not source.is_multilabel:
            result["outlier_auroc"] = number_or_none(truth.outlier_auroc(beliefs.outlier_score))
    return result


def _per_class(
    beliefs: Beliefs,
    doubted: np.ndarray,
    labels: np.ndarray,
    source: Source,
    test: TestSet | None,
    test_probs: np.ndarray | None,
) -> list[dict[str, Any]]:
    predicted = test_probs.argmax(axis=1) if test_probs is not None else np.empty(0, dtype=np.int64)
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


def _per_cell(
    beliefs: Beliefs,
    doubted: np.ndarray,
    labels: np.ndarray,
    source: Source,
    test: TestSet | None,
    test_probs: np.ndarray | None,
) -> list[dict[str, Any]]:
    """A row a class where an image may have several: counts of images with it, known cells, accuracy and precision."""
    rows = []
    for k, name in enumerate(source.class_names):
        row = {
            "name": name,
            "images": int((labels[:, k] == 1).sum()),
            "known": int((labels[:, k] >= 0).sum()),
            "doubted": int(doubted[:, k].sum()),
            "suggested_images": int((beliefs.suggested_label[:, k] == 1).sum()),
            "test_images": 0,
            "test_accuracy": None,
            "test_average_precision": None,
        }
        if test is not None and test_probs is not None and (known := test.labels[:, k] >= 0).any():
            own, truth = test_probs[known, k : k + 1], test.labels[known, k : k + 1]
            row["test_images"] = int((truth == 1).sum())
            row["test_accuracy"] = float(((own > 0.5) == truth).mean())
            row["test_average_precision"] = number_or_none(mean_average_precision(own, truth))
        rows.append(row)
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
