"""The confident joint: how many labels of each given class are of each true class, from out-of-sample probabilities.

Northcutt, Jiang & Chuang, JAIR 2021. A probability is confident if it reaches the mean of its class among the images
that carry that label. Joints have entry (i, j) = given label i, true class j, the transpose of a transition matrix's
order. Probabilities may be memory-mapped: what is held at once does not grow with their size, nor does the result
depend on how many rows are looked at together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

CHUNK_VALUES = 2**18
"""Probabilities looked at together: small enough for a processor's cache."""

COLUMNWISE = 32
"""Up to so many classes, rows are compared column by column: vector instructions gain nothing within a short row."""

_ABSENT = 2.0
"""Threshold of a class that nobody was given: no probability reaches it."""
_TOLERANCE = 1e-6
_LEAST_THRESHOLD = 1e-7

Rows = Callable[[slice | np.ndarray], np.ndarray]
"""Probabilities of some rows, float32 or float64 (rows, K), C-contiguous."""


def chunks(num: int, classes: int, chunk_rows: int | None = None) -> Iterator[slice]:
    """Slices of rows, in order."""
    step = chunk_rows or max(1, CHUNK_VALUES // classes)
    return (slice(start, min(start + step, num)) for start in range(0, num, step))


def rows_of(probs: Float[np.ndarray, "n classes"] | Int[np.ndarray, "n classes"]) -> Rows:
    """Reads rows of an array, memory-mapped or not, in any order of memory; half precision as float32."""
    precision = precision_of(probs)
    return lambda which: np.ascontiguousarray(probs[which], dtype=precision)


def precision_of(probs: np.ndarray) -> np.dtype:
    """What probabilities are compared in: half precision would swallow the tolerance."""
    return np.dtype(np.float64 if probs.dtype == np.float64 else np.float32)


@dataclass(frozen=True)
class Reading:
    """What a single reading of the probabilities tells of every row.

    Attributes:
        predicted: most probable class, int64 (N,), the first of equals.
        top: its probability, (N,).
        own: probability of the given label, (N,), NaN where it is missing.
    """

    predicted: np.ndarray
    top: np.ndarray
    own: np.ndarray

    @classmethod
    def unread(cls, num: int, precision: np.dtype) -> Reading:
        """Of so many rows, to be filled by `see`."""
        return cls(np.empty(num, dtype=np.int64), np.empty(num, dtype=precision), np.empty(num, dtype=precision))

    @classmethod
    def of(
        cls,
        labels: Int[np.ndarray, " n"],
        probs: Float[np.ndarray, "n classes"],
        *,
        chunk_rows: int | None = None,
    ) -> Reading:
        """Of an array, chunk by chunk; a label is -1 where it is missing."""
        rows, reading = rows_of(probs), cls.unread(len(probs), precision_of(probs))
        for part in chunks(len(probs), probs.shape[1], chunk_rows):
            reading.see(part, rows(part), labels[part])
        return reading

    def see(self, part: slice, probs: np.ndarray, labels: np.ndarray) -> None:
        """Notes some rows.

        Args:
            part: which they are.
            probs: of these rows, contiguous.
            labels: of these rows.
        """
        num, classes = probs.shape
        first = np.arange(0, num * classes, classes)
        values = probs.reshape(-1)
        if classes <= COLUMNWISE:
            self.predicted[part], self.top[part] = _column_by_column(probs)
        else:
            predicted = probs.argmax(axis=1, out=self.predicted[part])
            self.top[part] = values[first + predicted]
        self.own[part] = np.where(labels >= 0, values[first + labels], np.nan)


def _column_by_column(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(first of the largest of each row, its value)."""
    columns = np.ascontiguousarray(probs.T)
    top = columns.max(axis=0)
    # The first column that is the largest carries the highest number; bytes, so that many fit a vector register.
    places = np.arange(len(columns), 0, -1, dtype=np.uint8)
    highest = ((columns == top).view(np.uint8) * places[:, None]).max(axis=0)
    return len(columns) - np.maximum(highest, 1).astype(np.int64), top  # NaN equals nothing: the last column


def joint_counts(
    labels: Int[np.ndarray, " n"], others: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """Counts of two labels a row: entry (i, j) = `labels` i, `others` j; rows where one is -1 count for nothing."""
    counts = np.zeros(classes**2, dtype=np.int64)
    for part in chunks(len(labels), 1, max(CHUNK_VALUES, classes**2)):
        pairs = labels[part] * classes + others[part]
        known = (labels[part] >= 0) & (others[part] >= 0)
        counts += np.bincount(pairs if known.all() else pairs[known], minlength=classes**2)
    return counts.reshape(classes, classes)


def confident_thresholds(
    labels: Int[np.ndarray, " n"], own: Float[np.ndarray, " n"], classes: int
) -> Float[np.ndarray, " classes"]:
    """Mean probability of each class among the rows with that label, float64; 2 for an absent class.

    Args:
        labels: given classes, -1 where one is missing.
        own: probability of the given label.
        classes: K.
    """
    known = labels >= 0
    if not known.all():
        labels, own = labels[known], own[known]
    counts = np.bincount(labels, minlength=classes)
    sums = np.bincount(labels, weights=own, minlength=classes)
    return np.where(counts > 0, np.maximum(sums / np.maximum(counts, 1), _LEAST_THRESHOLD), _ABSENT)


def confident_classes(
    labels: Int[np.ndarray, " n"], reading: Reading, rows: Rows, classes: int, *, chunk_rows: int | None = None
) -> Int[np.ndarray, " n"]:
    """The class that each row is confidently of, -1 where there is none or no label.

    A row with several confident classes is of its most probable class.

    Args:
        labels: given classes, -1 where one is missing.
        reading: of these probabilities.
        rows: gives them; asked for few, for the others the reading is enough.
        classes: K.
        chunk_rows: rows looked at together; the result does not depend on it.
    """
    thresholds = confident_thresholds(labels, reading.own, classes) - _TOLERANCE
    thresholds = thresholds.astype(reading.top.dtype)
    # Where the most probable class is confident it is the answer.
    unsure = ~(reading.top >= thresholds[reading.predicted])
    believed = np.where(unsure | (labels < 0), -1, reading.predicted)
    # Another class can only be where the most probable one reaches its threshold too.
    possible = np.flatnonzero(unsure & (labels >= 0) & (reading.top >= thresholds.min()))
    for part in chunks(len(possible), classes, chunk_rows):
        confident = rows(possible[part]) >= thresholds
        number = confident.sum(axis=1)
        believed[possible[part]] = np.select(
            [number == 0, number == 1], [-1, confident.argmax(axis=1)], reading.predicted[possible[part]]
        )
    return believed


def confident_joint(
    labels: Int[np.ndarray, " n"],
    probs: Float[np.ndarray, "n classes"],
    *,
    chunk_rows: int | None = None,
) -> Int[np.ndarray, "classes classes"]:
    """Counts of labelled rows with a confident class: entry (i, j) = given label i, confident class j.

    A row with several confident classes counts for its most probable class, one with none for nothing; the diagonal is
    at least one.

    Args:
        labels: given classes, -1 where one is missing.
        probs: class probabilities of a model that did not see the row when it was trained.
        chunk_rows: rows looked at together; the result does not depend on it.
    """
    classes = probs.shape[1]
    reading = Reading.of(labels, probs, chunk_rows=chunk_rows)
    believed = confident_classes(labels, reading, rows_of(probs), classes, chunk_rows=chunk_rows)
    return joint_of(labels, believed, classes)


def joint_of(
    labels: Int[np.ndarray, " n"], believed: Int[np.ndarray, " n"], classes: int
) -> Int[np.ndarray, "classes classes"]:
    """The confident joint, of given labels and confident classes; -1 = none."""
    joint = joint_counts(labels, believed, classes)
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
