"""The numbers of an audit's summary.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from winnow.audit.cells import CellBeliefs
from winnow.audit.findings import Found, LabelBeliefs
from winnow.audit.tables import by_importance
from winnow.data.source import Source
from winnow.noise.intervals import Z

LARGEST_MATRIX = 200
_SHOWN_CONFUSIONS = 50


def found_numbers(found: Sequence[Found]) -> dict[str, Any]:
    """Images with any finding, how many findings of each kind, the share of them that is likely to be true where a
    probability is stated, and their mean similarity where only that is."""
    parts = by_importance(found)
    rows = np.concatenate([np.empty(0, np.int64), *(part.rows for part in parts)])
    return {
        "num_issues": len(np.unique(rows)),
        "counts": {part.kind: len(part) for part in parts},
        "likely_true": {part.kind: _mean(part.probability) for part in parts},
        "similarity": {
            part.kind: mean
            for part in parts
            if part.similarity is not None
            if (mean := _mean(part.similarity)) is not None
        },
    }


def noise_numbers(beliefs: LabelBeliefs | CellBeliefs | None, labels: np.ndarray) -> dict[str, Any]:
    """Noise rate and its interval; for one class an image also the transition matrix and the shares of the classes.

    Args:
        beliefs: None where labels were not judged.
        labels: of the readable images.
    """
    result: dict[str, Any] = {
        "num_flagged": 0,
        "estimated_noise_rate": None,
        "estimated_noise_rate_interval": None,
        "transition_matrix": None,
        "confusions": [],
        "class_shares": [],
    }
    if beliefs is None:
        return result
    issue = beliefs.is_issue.any(axis=1) if isinstance(beliefs, CellBeliefs) else beliefs.is_issue
    result["num_flagged"] = int(issue.sum())
    result["estimated_noise_rate"] = _number(beliefs.noise_rate)
    result["estimated_noise_rate_interval"] = [_number(side) for side in beliefs.noise_rate_interval]
    if isinstance(beliefs, CellBeliefs):
        result["class_noise_rates"] = [_number(rate) for rate in beliefs.class_noise_rates]
        return result
    if len(beliefs.transition_matrix) <= LARGEST_MATRIX:
        result["transition_matrix"] = [[_number(entry) for entry in row] for row in beliefs.transition_matrix]
    result["confusions"] = _confusions(beliefs)
    counts = np.bincount(labels[labels >= 0], minlength=len(beliefs.joint))
    result["class_shares"] = class_shares(beliefs.joint, counts, ~np.isnan(beliefs.transition_matrix).all(axis=1))
    return result


def class_shares(joint: np.ndarray, given_counts: np.ndarray, known: np.ndarray) -> list[dict[str, Any]]:
    """Of every class the share that the labels give it, and what is estimated, with an interval of 95 %.

    The interval takes the numbers of labels that moved into and out of a class as Poisson.

    Args:
        joint: estimated numbers of images, (K, K): entry (i, j) = given label i, true label j.
        given_counts: labels of each class, (K,).
        known: classes that some label names, boolean (K,); of the others nothing is estimated.
    """
    total = max(1.0, float(joint.sum()))
    true = joint.sum(axis=0)
    moved = joint.sum(axis=0) + joint.sum(axis=1) - 2 * joint.diagonal()
    spread = Z * np.sqrt(moved) / total
    share = np.where(known, true / total, np.nan)
    given = given_counts / max(1, given_counts.sum())
    return [
        {
            "class": k,
            "images": int(given_counts[k]),
            "given": _number(given[k]),
            "estimated": _number(share[k]),
            "low": _number(np.maximum(0.0, share[k] - spread[k])),
            "high": _number(np.minimum(1.0, share[k] + spread[k])),
        }
        for k in range(len(joint))
    ]


def truth_numbers(
    source: Source, rows: np.ndarray, labels: np.ndarray, beliefs: LabelBeliefs | CellBeliefs | None
) -> Mapping[str, Any]:
    """F1 of the flags, average precision and AUROC of 1 - label_quality, where a column of truth was named."""
    if source.clean_labels is None or beliefs is None:
        return {}
    from sklearn.metrics import average_precision_score, f1_score

    truth = source.clean_labels.take(rows)
    judged = (labels >= 0) & ~np.isnan(beliefs.label_quality)
    wrong, flagged = truth.wrong(labels)[judged], beliefs.is_issue[judged]
    quality = np.where(judged, beliefs.label_quality, 1.0)
    has_both = bool(wrong.any() and not wrong.all())
    return {
        "num_wrong": int(wrong.sum()),
        "wrong_label_f1": _number(f1_score(wrong, flagged)) if wrong.any() else None,
        "wrong_label_precision": _number(float(wrong[flagged].mean())) if flagged.any() else None,
        "wrong_label_recall": _number(float(flagged[wrong].mean())) if wrong.any() else None,
        "wrong_label_ap": _number(average_precision_score(wrong, 1 - quality[judged])) if has_both else None,
        "wrong_label_auroc": _number(truth.wrong_label_auroc(np.where(judged, labels, -1), quality))
        if has_both
        else None,
    }


def _confusions(beliefs: LabelBeliefs) -> list[dict[str, Any]]:
    moved = beliefs.joint.copy()
    np.fill_diagonal(moved, 0)
    moved[:, np.isnan(beliefs.transition_matrix).all(axis=1)] = 0
    order = np.argsort(-moved, axis=None, kind="stable")[:_SHOWN_CONFUSIONS]
    pairs = zip(*np.unravel_index(order, moved.shape), strict=True)
    return [
        {
            "believed": int(true),
            "given": int(given),
            "share": _number(beliefs.transition_matrix[true, given]),
            "images": _number(moved[given, true]),
        }
        for given, true in pairs
        if moved[given, true] > 0
    ]


def _mean(values: np.ndarray) -> float | None:
    known = values[~np.isnan(values)]
    return _number(known.mean()) if len(known) else None


def _number(value: float) -> float | None:
    return None if np.isnan(value) else round(float(value), 6)
