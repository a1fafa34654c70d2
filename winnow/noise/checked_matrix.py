"""Transition matrices from outside or from an estimate: checked before anything relies on them, and judged."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from numpy.typing import ArrayLike

from winnow.errors import InvalidInput

_ROUNDED = 1e-2
"""How far from one a row may sum: numbers written with few digits. Such rows are rescaled."""


def checked_transition_matrix(matrix: ArrayLike, num_classes: int) -> Float[np.ndarray, "classes classes"]:
    """A matrix with entry (i, j) = P(noisy = j given clean = i), as float64, its rows summing to one.

    Rows that sum to one within 0.01 are rescaled; nothing else is repaired.

    Args:
        matrix: nested lists or an array, (K, K).
        num_classes: K.

    Raises:
        InvalidInput: another shape, text, negative or infinite values, or rows that do not sum to one; the message
            tells what to do.
    """
    try:
        values = np.array(matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"transition_matrix: {num_classes} rows of {num_classes} numbers are needed") from error
    if values.shape != (num_classes, num_classes):
        raise InvalidInput(
            f"transition_matrix: shape {values.shape}; {num_classes} classes need ({num_classes}, {num_classes}), one "
            "row for each true class"
        )
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InvalidInput(
            f"transition_matrix: row {row}, column {column} is {values[row, column]:g}; probabilities are needed"
        )
    sums = values.sum(axis=1)
    off = np.abs(sums - 1)
    if off.max() > _ROUNDED:
        row = int(off.argmax())
        told = f"transition_matrix: row {row} sums to {sums[row]:.4g}, not 1"
        if np.abs(values.sum(axis=0) - 1).max() <= _ROUNDED:
            raise InvalidInput(
                f"{told}, but every column does: transpose it, rows are true classes, columns given labels"
            )
        raise InvalidInput(f"{told}; divide counts by the sum of their row: matrix / matrix.sum(axis=1, keepdims=True)")
    return values / sums[:, None]


@dataclass(frozen=True)
class MatrixHealth:
    """How well a transition matrix can be undone.

    Attributes:
        condition_number: largest singular value over the smallest, at least 1; infinite if the matrix is singular.
        mean_diagonal: share of labels that are right, were all classes equally frequent.
        least_diagonal: of the worst class.
        dominant_rows: share of classes that keep their label more often than they get any other one; where it is
            below 1 a loss correction must rely on the matrix against the majority of a class's labels.
    """

    condition_number: float
    mean_diagonal: float
    least_diagonal: float
    dominant_rows: float


def matrix_health(matrix: Float[np.ndarray, "classes classes"]) -> MatrixHealth:
    """Condition number and dominance of the diagonal."""
    diagonal = matrix.diagonal()
    others = np.where(np.eye(len(matrix), dtype=bool), -np.inf, matrix).max(axis=1)
    return MatrixHealth(
        # A computed smallest singular value of a singular matrix is rounding error.
        condition_number=float(np.linalg.cond(matrix)) if np.linalg.matrix_rank(matrix) == len(matrix) else np.inf,
        mean_diagonal=float(diagonal.mean()),
        least_diagonal=float(diagonal.min()),
        dominant_rows=float((diagonal > others).mean()),
    )
