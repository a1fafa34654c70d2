"""Labels and class probabilities from outside, checked before anything is concluded from them."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from winnow.errors import InvalidInput
from winnow.noise.confident_joint import Reading, chunks, joint_counts, precision_of, rows_of

_SHOWN = 10
_EXACT, _ROUNDED = 1e-4, 1e-2
"""How far from one a row may sum: within the first it is used as it is, within the second it is rescaled."""
_DECISIVE, _REMARKABLE = 1e-6, 1e-2
"""How often chance may make it look as if columns had changed places, for an error and for a note."""


@dataclass(frozen=True)
class CheckedProbabilities:
    """Labels and probabilities that belong together.

    Attributes:
        labels: class indices, int64 (N,), -1 where a label is missing.
        probs: the caller's own array, (N, K): finite, not negative. What is concluded from is `rows`.
        reading: what each row says, of the rescaled rows.
        sums: what the rows are divided by, (N,), where they are rescaled.
        notes: what was put right or looks odd, as sentences.
    """

    labels: np.ndarray
    probs: np.ndarray
    reading: Reading
    sums: np.ndarray | None = None
    notes: tuple[str, ...] = ()

    @property
    def predicted(self) -> np.ndarray:
        """Most probable class, int64 (N,), the first of equals."""
        return self.reading.predicted

    def rows(self, which: slice | np.ndarray) -> np.ndarray:
        """Probabilities of some rows, float32 or float64 (rows, K), each row summing to one."""
        rows = rows_of(self.probs)(which)
        return rows if self.sums is None else rows / self.sums[which, None]


def checked_probabilities(
    labels: ArrayLike, pred_probs: ArrayLike, *, chunk_rows: int | None = None
) -> CheckedProbabilities:
    """Given labels and the class probabilities of a model, in order to be compared.

    Rows that sum to one within 0.01 are rescaled whenever they are read, with a note; nothing else is repaired.

    Args:
        labels: class indices 0 to K-1, (N,); None, NaN or masked where a label is missing.
        pred_probs: (N, K); a memory-mapped array is read chunk by chunk. Nothing of it may be masked.
        chunk_rows: rows looked at together; the result does not depend on it.

    Raises:
        InvalidInput: shapes do not match, or values are impossible (the message names up to ten rows), or the columns
            are decisively in another order than the labels.
    """
    probs = _numbers(pred_probs)
    num, classes = probs.shape
    known = checked_labels(labels, num, classes)
    rows, reading = rows_of(probs), Reading.unread(num, precision_of(probs))
    sums = np.empty(num, dtype=reading.top.dtype)
    lowest = 0.0
    for part in chunks(num, classes, chunk_rows):
        chunk = rows(part)
        reading.see(part, chunk, known[part])
        with np.errstate(invalid="ignore"):  # infinities of both signs
            np.einsum("ij->i", chunk, out=sums[part])  # several times faster than `sum` where rows are short
        lowest = min(lowest, float(chunk.min()))  # NaN compares as not lower; the sums have it
    _refuse(~np.isfinite(sums), "NaN or infinite values")
    if lowest < 0:
        below = np.concatenate([probs[part].min(axis=1) < 0 for part in chunks(num, classes, chunk_rows)])
        _refuse(below, "negative values; probabilities are needed, after the softmax")
    off = np.abs(sums - 1)
    _refuse(
        off > _ROUNDED,
        "values that do not sum to 1; class probabilities are needed; if these are some, rounded or "
        "unscaled, divide each row by its sum: pred_probs / pred_probs.sum(axis=1, keepdims=True)",
    )
    notes = []
    rescaled = off.max() > _EXACT
    if rescaled:
        notes.append(f"pred_probs: rows summed to 1 only within {off.max():.2g}, as rounded numbers do; rescaled")
        reading = Reading(reading.predicted, reading.top / sums, reading.own / sums)
    notes += _column_order(known, reading.predicted, classes)
    return CheckedProbabilities(known, probs, reading, sums if rescaled else None, tuple(notes))


def checked_labels(labels: ArrayLike, num: int, num_classes: int) -> np.ndarray:
    """Class indices as int64 (N,), -1 where None, NaN or a mask says that a label is missing.

    Raises:
        InvalidInput: they are not `num` numbers from 0 to `num_classes` - 1.
    """
    values = _array(labels, "labels")
    if (hidden := _hidden(labels)) is not None:
        values = values.astype(object)
        values[hidden] = None  # what lies under a mask may be anything
    if values.ndim != 1 or len(values) != num:
        raise InvalidInput(f"labels: shape {values.shape} for {num:,} rows of pred_probs; one label a row is needed")
    if values.dtype.kind in "iub":
        indices, absent = values.astype(np.int64, copy=False), None
    else:
        absent = missing(values)
        try:
            numbers = np.where(absent, 0, values).astype(np.float64)
        except (TypeError, ValueError) as error:
            raise InvalidInput(
                "labels: class indices are needed; numpy.unique(labels, return_inverse=True) makes them from names"
            ) from error
        _refuse_labels(~(np.isfinite(numbers) & (numbers == np.floor(numbers))), values, num_classes)
        indices = numbers.astype(np.int64)
    _refuse_labels((indices < 0) | (indices >= num_classes), values, num_classes)
    if absent is not None:
        indices[absent] = -1
    return indices


def missing(values: np.ndarray) -> np.ndarray:
    """Where a label is missing: None, NaN, pandas' NA or a blank text, boolean (N,)."""
    if values.dtype.kind == "f":
        return np.isnan(values)
    if values.dtype.kind == "U":
        return np.strings.strip(values) == ""
    if values.dtype.kind != "O":
        return np.zeros(len(values), dtype=bool)
    return np.array([_is_missing(value) for value in values], dtype=bool)


def _is_missing(value: object) -> bool:
    if value is None or (isinstance(value, float | np.floating) and value != value):
        return True
    # pandas' NA refuses to be compared, and pandas need not be there.
    return not value.strip() if isinstance(value, str) else type(value).__name__ == "NAType"


def named_rows(rows: np.ndarray) -> str:
    """The first ten of some rows for a message."""
    shown = ", ".join(str(row) for row in rows[:_SHOWN])
    more = f" and {len(rows) - _SHOWN:,} more" if len(rows) > _SHOWN else ""
    return f"row{'s' if len(rows) > 1 else ''} {shown}{more}"


def _numbers(pred_probs: ArrayLike) -> np.ndarray:
    if isinstance(pred_probs, str | os.PathLike):
        raise InvalidInput("pred_probs: an array is needed; numpy.load(path, mmap_mode='r') gives that of a file")
    probs = _array(pred_probs, "pred_probs")
    if probs.ndim != 2 or probs.shape[0] < 1 or probs.shape[1] < 2:
        raise InvalidInput(
            f"pred_probs: shape {probs.shape}; (rows, classes) with at least 2 classes and a row is needed"
        )
    if probs.dtype.kind not in "fiub":
        raise InvalidInput(f"pred_probs: numbers are needed, got {probs.dtype}")
    if (hidden := _hidden(pred_probs)) is not None:
        _refuse(
            np.asarray(hidden.any(axis=1)), "masked values; leave these rows out, or fill them with what the model said"
        )
    return probs


def _hidden(values: ArrayLike) -> np.ndarray | None:
    """What a masked array hides, in its shape; None if it is nothing."""
    if not (isinstance(values, np.ma.MaskedArray) and np.ma.is_masked(values)):
        return None
    return np.asarray(np.ma.getmaskarray(values))


def _array(values: ArrayLike, name: str) -> np.ndarray:
    try:
        return np.asarray(values)
    except ValueError as error:  # lists of different lengths
        raise InvalidInput(f"{name}: no array, its rows are of different lengths") from error


def _refuse(bad: np.ndarray, what: str) -> None:
    if bad.any():
        raise InvalidInput(f"pred_probs: {named_rows(np.flatnonzero(bad))}: {what}")


def _refuse_labels(bad: np.ndarray, values: np.ndarray, num_classes: int) -> None:
    rows = np.flatnonzero(bad)
    if len(rows):
        seen = ", ".join(dict.fromkeys(str(values[row]) for row in rows[:_SHOWN]))
        present = values[~missing(values)].astype(np.float64)
        from_one = "; they run from 1: count from 0?" if {present.min(), present.max()} == {1, num_classes} else ""
        raise InvalidInput(
            f"labels: {named_rows(rows)}: {seen}; pred_probs has {num_classes} columns, so 0 to {num_classes - 1} are "
            f"possible, None, NaN or a mask where a label is missing{from_one}"
        )


def _column_order(labels: np.ndarray, predicted: np.ndarray, classes: int) -> list[str]:
    """A note if the predictions agree better with the labels once some columns change places.

    Raises:
        InvalidInput: columns have decisively changed places, see `_decisive`.
    """
    counts = joint_counts(labels, predicted, classes)
    num = int(counts.sum())
    agreement = int(np.trace(counts))
    # No order gains more than the bound, and it would take this much at least: it spares the assignment problem.
    if counts.max(axis=0).sum() - agreement <= 2 * (2 * np.log(classes) - np.log(_REMARKABLE)):
        return []
    from scipy.optimize import linear_sum_assignment

    column = linear_sum_assignment(counts, maximize=True)[1]
    cycles = [cycle for cycle in _cycles(column) if _decisive(counts, cycle, column[cycle])]
    if cycles:
        given = np.sort(np.concatenate(cycles))
        raise InvalidInput(f"{_other_order(counts, given, column[given])}; order the columns as the labels count")
    given = np.flatnonzero(column != np.arange(classes))
    gain = int((counts[given, column[given]] - counts[given, given]).sum())
    if gain > 0.1 * num and _chance(counts, given, column[given]) < _REMARKABLE:
        return [f"{_other_order(counts, given, column[given])}; check their order"]
    return []


def _cycles(column: np.ndarray) -> list[np.ndarray]:
    """The groups of classes that change places among themselves, for a permutation class -> column."""
    left = set(np.flatnonzero(column != np.arange(len(column))).tolist())
    found = []
    while left:
        cycle = [left.pop()]
        while (following := int(column[cycle[-1]])) != cycle[0]:
            cycle.append(following)
            left.remove(following)
        found.append(np.array(cycle))
    return found


def _decisive(counts: np.ndarray, given: np.ndarray, column: np.ndarray) -> bool:
    """Whether classes that would change places must do so: noise and chance do not explain the counts.

    As long as noise leaves each class more of its own labels than of any other, a column holds its own label most
    often. Here every column that is predicted at all, and at least two are, holds the label it would be given to more
    often than its own; and over all of them so much more often that chance would not do it once in a million times.

    Args:
        counts: rows with label i predicted as j, (K, K).
        given: classes that would change places, (m,).
        column: the column that each would be given, (m,).
    """
    assigned, own = counts[given, column], counts[column, column]
    used = counts[:, column].sum(axis=0) > 0
    if used.sum() < 2 or (assigned <= own)[used].any():
        return False
    return _chance(counts, given, column) < _DECISIVE


def _chance(counts: np.ndarray, given: np.ndarray, column: np.ndarray) -> float:
    """Bound on the probability that, of all groups of m classes, any gains so much where own labels are as frequent.

    Hoeffding's inequality for the rows that speak for one order or the other, and the union over at most K^m groups.
    """
    assigned, own = counts[given, column], counts[column, column]
    gain, rows = float((assigned - own).sum()), float((assigned + own).sum())
    return float(np.exp(min(0.0, len(given) * np.log(len(counts)) - gain**2 / (2 * rows))))


def _other_order(counts: np.ndarray, given: np.ndarray, column: np.ndarray) -> str:
    num, agreement = counts.sum(), np.trace(counts)
    best = agreement + (counts[given, column] - counts[given, given]).sum()
    moved = [f"{i} -> {j}" for i, j in zip(given, column, strict=True)]
    return (
        f"pred_probs: the most probable class is the given label in {agreement / num:.0%} of the rows, but in "
        f"{best / num:.0%} if columns are taken in another order (class -> column: {', '.join(moved[:_SHOWN])}"
        f"{', ...' if len(moved) > _SHOWN else ''})"
    )
