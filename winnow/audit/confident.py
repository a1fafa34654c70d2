"""Confident learning: which given labels are wrong, from out-of-sample class probabilities.

Northcutt, Jiang & Chuang, JAIR 2021, pruning by noise rate. The confident joint tells how many labels of each kind are
wrong: those with the largest margins.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from winnow.audit.probabilities import CheckedProbabilities, checked_probabilities
from winnow.errors import InvalidInput
from winnow.noise.confident_joint import CHUNK_VALUES, calibrated_joint, confident_joint

_GATHERED = 8 * CHUNK_VALUES

RANKINGS = ("self_confidence", "normalized_margin")


@dataclass(frozen=True)
class LabelIssues:
    """What confident learning says of every label.

    Attributes:
        is_issue: boolean (N,); never where the label is missing.
        label_quality: probability of the given label, (N,), NaN where it is missing.
        suggested_label: most probable class, (N,).
        joint: estimated number of labelled rows, (K, K): entry (i, j) = given label i, true label j.
    """

    is_issue: np.ndarray
    label_quality: np.ndarray
    suggested_label: np.ndarray
    joint: np.ndarray

    @property
    def noise_rate(self) -> float:
        """Estimated share of wrong labels."""
        return float(1 - np.trace(self.joint) / self.joint.sum())


def find_label_issues(
    labels: ArrayLike,
    pred_probs: ArrayLike,
    *,
    return_indices_ranked_by: str | None = None,
    chunk_rows: int | None = None,
) -> np.ndarray:
    """Labels that are probably wrong, by confident learning, as cleanlab's function of this name finds them.

    Args:
        labels: given class indices 0 to K-1, (N,); None or NaN where a label is missing.
        pred_probs: class probabilities, (N, K), of a model that did not see the row when it was trained. It is read in
            chunks and may be memory-mapped.
        return_indices_ranked_by: `self_confidence` (probability of the given label) or `normalized_margin` (that minus
            the largest other one): return row numbers, worst first, instead of a mask.
        chunk_rows: rows looked at together; the result does not depend on it.

    Returns:
        Boolean (N,), or row numbers.

    Raises:
        InvalidInput: the arrays cannot be used; a ValueError. Small faults are put right with a warning.
    """
    if return_indices_ranked_by not in (None, *RANKINGS):
        raise InvalidInput(
            f"return_indices_ranked_by: {return_indices_ranked_by!r}; {', '.join(RANKINGS)} or None is needed"
        )
    checked = checked_probabilities(labels, pred_probs, chunk_rows=chunk_rows)
    for note in checked.notes:
        warnings.warn(note, stacklevel=2)
    found = confident_learning(checked, chunk_rows=chunk_rows)
    if return_indices_ranked_by is None:
        return found.is_issue
    rows = np.flatnonzero(found.is_issue)
    scores = found.label_quality[rows]
    if return_indices_ranked_by == "normalized_margin":
        # An issue's given label is not its most probable class, so this is the largest other one.
        scores = scores - checked.probs[rows, checked.predicted[rows]]
    return rows[np.argsort(scores, kind="stable")]


def confident_learning(checked: CheckedProbabilities, *, chunk_rows: int | None = None) -> LabelIssues:
    """Confident joint, and the rows whose label it says is wrong.

    Raises:
        InvalidInput: no row has a label.
    """
    labels, probs = checked.labels, checked.probs
    if not (labels >= 0).any():
        raise InvalidInput("labels: all are missing")
    quality = np.where(labels >= 0, probs[np.arange(len(labels)), labels], np.nan)
    counts = confident_joint(labels, probs, predicted=checked.predicted, chunk_rows=chunk_rows)
    joint = calibrated_joint(counts, np.bincount(labels[labels >= 0]))
    pruned = _pruned(checked, prune_counts(joint))
    return LabelIssues(pruned & (checked.predicted != labels), quality, checked.predicted, joint)


def prune_counts(joint: np.ndarray) -> np.ndarray:
    """How many labels i are really j, (K, K), such that one of every class is left; the diagonal means nothing.

    Where the calibrated joint leaves none, its wrong labels are lowered evenly to make room.
    """
    lacking = np.maximum(1 - joint.diagonal(), 0)
    kinds = np.maximum(np.count_nonzero(joint, axis=1) - 1, 1)
    return np.maximum(joint - (lacking / kinds)[:, None], 0).astype(np.int64)


def _pruned(checked: CheckedProbabilities, counts: np.ndarray) -> np.ndarray:
    """The rows of given label i with the `counts[i, j]` largest margins p_j - p_i, for every j; boolean (N,)."""
    labels, probs = checked.labels, checked.probs
    chosen = np.zeros(len(labels), dtype=bool)
    by_label = np.argsort(labels, kind="stable")
    ends = np.searchsorted(labels[by_label], np.arange(len(counts) + 1))
    for given in range(len(counts)):
        rows = by_label[ends[given] : ends[given + 1]]
        believed = np.flatnonzero(counts[given] * (np.arange(len(counts)) != given))
        if len(rows) <= 1:
            continue
        own = probs[rows, given]
        # Few columns of a large class at a time, so that what is gathered stays small.
        width = max(1, _GATHERED // len(rows))
        for start in range(0, len(believed), width):
            columns = believed[start : start + width]
            margins = probs[rows[:, None], columns].T - own
            for margin, count in zip(margins, counts[given, columns], strict=True):
                chosen[rows[_largest(margin, count)]] = True
    return chosen


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Places of the `count` largest values, the first of equals."""
    if count >= len(values):
        return np.arange(len(values))
    smallest = np.partition(values, len(values) - count)[len(values) - count]
    above, equal = np.flatnonzero(values > smallest), np.flatnonzero(values == smallest)
    return np.concatenate([above, equal[: count - len(above)]])
