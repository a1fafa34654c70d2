"""Confident learning: which given labels are wrong, from out-of-sample class probabilities.

Northcutt, Jiang & Chuang, JAIR 2021, pruning by noise rate. A probability is confident if it reaches the mean of its
class among the images that carry that label. Counting the confident ones gives the joint distribution of given and
true labels, and with it how many labels of each kind are wrong: those with the largest margins.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from winnow.audit.probabilities import (
    CHUNK_VALUES,
    CheckedProbabilities,
    InvalidInput,
    checked_probabilities,
    chunks,
    joint_counts,
)

_ABSENT = 2.0
"""Threshold of a class that nobody was given: no probability reaches it."""
_TOLERANCE = 1e-6
_LEAST_THRESHOLD = 1e-7
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
    joint = calibrated_joint(confident_joint(checked, chunk_rows=chunk_rows), np.bincount(labels[labels >= 0]))
    pruned = _pruned(checked, prune_counts(joint))
    return LabelIssues(pruned & (checked.predicted != labels), quality, checked.predicted, joint)


def confident_thresholds(labels: np.ndarray, probs: np.ndarray) -> np.ndarray:
    """Mean probability of each class among the rows with that label, float64 (K,); 2 for an absent class."""
    rows = np.flatnonzero(labels >= 0)
    given = labels[rows]
    counts = np.bincount(given, minlength=probs.shape[1])
    sums = np.bincount(given, weights=probs[rows, given], minlength=probs.shape[1])
    return np.where(counts > 0, np.maximum(sums / np.maximum(counts, 1), _LEAST_THRESHOLD), _ABSENT)


def confident_joint(checked: CheckedProbabilities, *, chunk_rows: int | None = None) -> np.ndarray:
    """Counts of labelled rows with a confident class, (K, K): entry (i, j) = given label i, confident class j.

    A row with several confident classes counts for its most probable class; the diagonal is at least one.
    """
    labels, probs, predicted = checked.labels, checked.probs, checked.predicted
    classes = probs.shape[1]
    thresholds = (confident_thresholds(labels, probs) - _TOLERANCE).astype(probs.dtype)
    believed = np.where(labels >= 0, predicted, -1)
    # Where the most probable class is confident it is the answer; only the other rows are looked at as a whole.
    unsure = np.flatnonzero((labels >= 0) & (probs[np.arange(len(labels)), predicted] < thresholds[predicted]))
    for part in chunks(len(unsure), classes, chunk_rows):
        rows = unsure[part]
        confident = probs[rows] >= thresholds
        number = confident.sum(axis=1)
        believed[rows] = np.select([number == 0, number == 1], [-1, confident.argmax(axis=1)], predicted[rows])
    counted = believed >= 0
    joint = joint_counts(labels[counted], believed[counted], classes)
    np.fill_diagonal(joint, np.maximum(joint.diagonal(), 1))
    return joint


def calibrated_joint(joint: np.ndarray, label_counts: np.ndarray) -> np.ndarray:
    """A confident joint scaled to all labelled rows: whole numbers, row i sums to the count of label i.

    Args:
        joint: counts (K, K), row = given label, diagonal at least one.
        label_counts: rows with each label, up to (K,).
    """
    counts = np.zeros(len(joint))
    counts[: len(label_counts)] = label_counts
    scaled = joint / joint.sum(axis=1, keepdims=True) * counts[:, None]
    rounded = np.rint(scaled)
    remainder = np.rint(counts - rounded.sum(axis=1)).astype(np.int64)
    for row in np.flatnonzero(remainder):
        # The entries that rounding changed most give way.
        order = np.argsort(scaled[row] - rounded[row], kind="stable")
        step = int(np.sign(remainder[row]))
        rounded[row, order[::-step][: abs(remainder[row])]] += step
    return rounded.astype(np.int64)


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
