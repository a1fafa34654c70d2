"""Which labels go when it is known how many: the selections of confident learning.

Northcutt, Jiang & Chuang, JAIR 2021, section 3.2. Counts have entry (i, j) = given label i, true label j.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from jaxtyping import Bool, Float, Int

from winnow.noise.confident_joint import CHUNK_VALUES, Rows

GATHERED = 2 * CHUNK_VALUES
"""Margins held together, at least."""
_PARTS = 64
"""Of larger inputs a larger share of them is held, so that a file is not read again too often."""


def prune_counts(
    joint: Int[np.ndarray, "classes classes"], frac_noise: float = 1.0, min_examples: int = 1
) -> Int[np.ndarray, "classes classes"]:
    """How many labels i are really j, and on the diagonal how many labels i are right.

    Where the joint leaves fewer than `min_examples` of a class, its wrong labels are lowered evenly to make room; a
    class that has no more of them is right throughout.

    Args:
        joint: calibrated confident joint: row i sums to the number of labels i.
        frac_noise: share of the wrong labels that is counted, in [0, 1].
        min_examples: at least so many are right.
    """
    right = np.maximum(joint.diagonal(), min_examples)
    kinds = np.maximum(np.count_nonzero(joint, axis=1) - 1, 1)
    wrong = np.maximum(joint - ((right - joint.diagonal()) / kinds)[:, None], 0)
    np.fill_diagonal(wrong, 0)
    counts = (wrong * frac_noise).astype(np.int64)
    np.fill_diagonal(counts, right + (wrong - wrong * frac_noise).sum(axis=1).astype(np.int64))
    labels = joint.sum(axis=1)
    return np.where((labels <= min_examples)[:, None], np.diag(labels), counts)


def pruned_by_class(
    labels: Int[np.ndarray, " n"], own: Float[np.ndarray, " n"], counts: Int[np.ndarray, " classes"]
) -> Bool[np.ndarray, " n"]:
    """The `counts[i]` rows of given label i whose label is least probable; of equals the first.

    Args:
        labels: given classes, -1 where one is missing.
        own: probability of the given label.
        counts: how many of each class; less than one is none.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    for given, rows in _by_label(labels, np.flatnonzero(labels >= 0), len(counts)):
        if counts[given] >= 1:
            chosen[rows] = _largest(-own[rows][None], counts[given, None])[0]
    return chosen


def pruned_by_noise_rate(
    labels: Int[np.ndarray, " n"],
    doubtful: Bool[np.ndarray, " n"],
    rows: Rows,
    counts: Int[np.ndarray, "classes classes"],
) -> Bool[np.ndarray, " n"]:
    """Doubtful rows among those of given label i with the `counts[i, j]` largest margins p_j - p_i, for every j.

    Args:
        labels: given classes, -1 where one is missing.
        doubtful: where the most probable class is not the label.
        rows: gives the probabilities of some rows.
        counts: of each kind; the diagonal means nothing.
    """
    chosen = np.zeros(len(labels), dtype=bool)
    crowded: list[tuple[int, np.ndarray]] = []
    limit = max(GATHERED, len(labels) * len(counts) // _PARTS)
    for given, some in _by_label(labels, np.flatnonzero(doubtful), len(counts)):
        wanted = counts[given].copy()
        wanted[given] = 0
        columns = np.flatnonzero(wanted)
        for part, margins in _margins(rows, some, given, columns, limit):
            # Only doubtful rows have positive margins: where there are enough of them, no other row comes first.
            enough = (margins > 0).sum(axis=1) >= wanted[part]
            if not enough.all():
                crowded.append((given, part[~enough]))
                part, margins = part[enough], margins[enough]
            chosen[some] |= _largest(margins, wanted[part]).any(axis=0)
    if crowded:
        _choose_among_all(chosen, labels, rows, counts, crowded, limit)
    return chosen & doubtful


def _choose_among_all(
    chosen: np.ndarray,
    labels: np.ndarray,
    rows: Rows,
    counts: np.ndarray,
    crowded: list[tuple[int, np.ndarray]],
    limit: int,
) -> None:
    """Chooses among all the rows of a label, for the kinds that have fewer positive margins than are wanted."""
    of_label = dict(_by_label(labels, np.flatnonzero(labels >= 0), len(counts)))
    for given, columns in crowded:
        for part, margins in _margins(rows, of_label[given], given, columns, limit):
            chosen[of_label[given]] |= _largest(margins, counts[given, part]).any(axis=0)


def _by_label(labels: np.ndarray, rows: np.ndarray, classes: int) -> Iterator[tuple[int, np.ndarray]]:
    """(label, its rows in order), of some labelled rows, for the labels that occur."""
    # Stable sorting is fastest by far, a count of digits, where labels are short.
    order = np.argsort(labels[rows].astype(np.min_scalar_type(classes)), kind="stable")
    rows = rows[order]
    ends = np.searchsorted(labels[rows], np.arange(classes + 1))
    return ((given, rows[ends[given] : ends[given + 1]]) for given in range(classes) if ends[given] < ends[given + 1])


def _margins(
    rows: Rows, some: np.ndarray, given: int, columns: np.ndarray, limit: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(classes j, p_j - p_given of some rows), a row a class; only few classes of many rows at a time."""
    one = rows(some[:1])
    width, step = max(1, limit // len(some)), max(1, CHUNK_VALUES // one.shape[1])
    for start in range(0, len(columns), width):
        part = columns[start : start + width]
        margins = np.empty((len(part), len(some)), dtype=one.dtype)
        for first in range(0, len(some), step):
            probs = rows(some[first : first + step])
            margins[:, first : first + step] = probs.T[part] - probs[:, given]
        yield part, margins


def _largest(values: Float[np.ndarray, "kinds n"], counts: Int[np.ndarray, " kinds"]) -> Bool[np.ndarray, "kinds n"]:
    """Where the `counts` largest values of each row are, the first of equals."""
    num = values.shape[1]
    places = np.maximum(num - counts, 0)
    smallest = np.sort(values, axis=1)[np.arange(len(values)), places]
    found = values >= smallest[:, None]
    for row in np.flatnonzero(found.sum(axis=1) > np.minimum(counts, num)):
        equal = np.flatnonzero(values[row] == smallest[row])
        found[row, equal[counts[row] - found[row].sum() + len(equal) :]] = False
    return found
