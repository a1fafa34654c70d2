"""The confident joint: how many labels of each given class are of each true class, from out-of-sample probabilities.

Northcutt, Jiang & Chuang, JAIR 2021. A probability is confident if it reaches the mean of its class among the images
that carry that label. Joints have entry (i, j) = given label i, true class j, the transpose of a transition matrix's
order. Probabilities may be memory-mapped: what is held at once does not grow with their size, nor does the result
depend on how many rows are looked at together.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Float, Int

CHUNK_VALUES = 2**18
"""Probabilities looked at together: small enough for a processor's cache."""

_ABSENT = 2.0
"""Threshold of a class that nobody was given: no probability reaches it."""
_TOLERANCE = 1e-6
_LEAST_THRESHOLD = 1e-7


def chunks(num: int, classes: int, chunk_rows: int | None = None) -> Iterator[slice]:
    """Slices of rows, in order."""
    step = chunk_rows or max(1, CHUNK_VALUES // classes)
    return (slice(start, min(start + step, num)) for start in range(0, num, step))


def joint_counts(
    labels: Int[np.ndarray, " n"], others: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Counts of two labels a row, none missing: entry (i, j) = `labels` i, `others` j."""
    return np.bincount(labels * classes + others, minlength=classes**2).reshape(classes, classes)


def confident_thresholds(
    labels: Int[np.ndarray, " n"], probs: Float[np.ndarray, "n classes"]
) -> Float[np.ndarray, " classes"]:
    """Mean probability of each class among the rows with that label, float64; 2 for an absent class."""
    rows = np.flatnonzero(labels >= 0)
    given = labels[rows]
    counts = np.bincount(given, minlength=probs.shape[1])
    sums = np.bincount(given, weights=probs[rows, given], minlength=probs.shape[1])
    return np.where(counts > 0, np.maximum(sums / np.maximum(counts, 1), _LEAST_THRESHOLD), _ABSENT)


def confident_joint(
    labels: Int[np.ndarray, " n"],
    probs: Float[np.ndarray, "n classes"],
    *,
    predicted: Int[np.ndarray, " n"] | None = None,
    chunk_rows: int | None = None,
) -> Int[np.ndarray, "classes classes"]:
    """Counts of labelled rows with a confident class: entry (i, j) = given label i, confident class j.

    A row with several confident classes counts for its most probable class, one with none for nothing; the diagonal is
    at least one.

    Args:
        labels: given classes, -1 where one is missing.
        probs: class probabilities of a model that did not see the row when it was trained.
        predicted: most probable class of each row, where it is known already.
        chunk_rows: rows looked at together; the result does not depend on it.
    """
    classes = probs.shape[1]
    if predicted is None:
        parts = [probs[part].argmax(axis=1) for part in chunks(len(probs), classes, chunk_rows)]
        predicted = np.concatenate([np.empty(0, dtype=np.int64), *parts])
    # Half precision would swallow the tolerance.
    precision = np.promote_types(probs.dtype, np.float32)
    thresholds = (confident_thresholds(labels, probs) - _TOLERANCE).astype(precision)
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


def scaled_joint(
    joint: Int[np.ndarray, "classes classes"], label_counts: Int[np.ndarray, " present"]
) -> Float[np.ndarray, "classes classes"]:
    """A confident joint scaled to all labelled rows: row i sums to the count of label i.

    Args:
        joint: row = given label, diagonal at least one.
        label_counts: rows with each label, at most K numbers.
    """
    counts = np.zeros(len(joint))
    counts[: len(label_counts)] = label_counts
    return joint / joint.sum(axis=1, keepdims=True) * counts[:, None]


def calibrated_joint(
    joint: Int[np.ndarray, "classes classes"], label_counts: Int[np.ndarray, " present"]
) -> Int[np.ndarray, "classes classes"]:
    """`scaled_joint` in whole numbers; row i still sums to the count of label i."""
    scaled = scaled_joint(joint, label_counts)
    rounded = np.rint(scaled)
    remainder = np.rint(scaled.sum(axis=1) - rounded.sum(axis=1)).astype(np.int64)
    for row in np.flatnonzero(remainder):
        # The entries that rounding changed most give way.
        order = np.argsort(scaled[row] - rounded[row], kind="stable")
        step = int(np.sign(remainder[row]))
        rounded[row, order[::-step][: abs(remainder[row])]] += step
    return rounded.astype(np.int64)
