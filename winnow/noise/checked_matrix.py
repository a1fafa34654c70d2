"""Transition matrices from outside or from an estimate: checked before anything relies on them, and judged."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy.lib.format import MAGIC_PREFIX
from numpy.typing import ArrayLike

from winnow.errors import InvalidInput

_ROUNDED = 1e-2
"""How far from one a row may sum: numbers written with few digits. Such rows are rescaled."""


def checked_transition_matrix(
    matrix: ArrayLike, num_classes: int, name: str = "transition_matrix"
) -> Float[np.ndarray, "classes classes"]:
    """A matrix with entry (i, j) = P(noisy = j given clean = i), as float64, its rows summing to one.

    Rows that sum to one within 0.01 are rescaled; nothing else is repaired.

    Args:
        matrix: nested lists or an array, (K, K).
        num_classes: K.
        name: what messages call it.

    Raises:
        InvalidInput: another shape, text, negative or infinite values, or rows that do not sum to one; the message
            tells what to do.
    """
    try:
        given = np.asarray(matrix)
        values = given.real.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInput(f"{name}: {num_classes} rows of {num_classes} numbers are needed") from error
    if np.iscomplexobj(given):
        raise InvalidInput(f"{name}: complex numbers; probabilities are needed")
    if values.shape != (num_classes, num_classes):
        raise InvalidInput(
            f"{name}: shape {values.shape}; {num_classes} classes need ({num_classes}, {num_classes}), one "
            "row for each true class"
        )
    bad = ~np.isfinite(values) | (values < 0)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        raise InvalidInput(f"{name}: row {row}, column {column} is {values[row, column]:g}; probabilities are needed")
    sums = values.sum(axis=1)
    off = np.abs(sums - 1)
    if off.max() > _ROUNDED:
        row = int(off.argmax())
        told = f"{name}: row {row} sums to {sums[row]:.4g}, not 1"
        if np.abs(values.sum(axis=0) - 1).max() <= _ROUNDED:
            raise InvalidInput(
                f"{told}, but every column does: transpose it, rows are true classes, columns given labels"
            )
        raise InvalidInput(f"{told}; divide counts by the sum of their row: matrix / matrix.sum(axis=1, keepdims=True)")
    return values / sums[:, None]


def read_transition_matrix(path: str | Path, num_classes: int) -> Float[np.ndarray, "classes classes"]:
    """A transition matrix from a file: `.npy`, `.csv` (numbers alone, a line for each true class) or `.json` (a list of
    rows, or the record that `winnow noise` writes).

    Raises:
        InvalidInput: the file cannot be read, or holds no transition matrix.
    """
    path = Path(path)
    name = f"transition_matrix={path}"
    readers = {".npy": _array, ".csv": _table, ".json": _rows}
    if path.suffix not in readers:
        raise InvalidInput(f"{name}: a file that ends in {', '.join(readers)} is needed")
    try:
        matrix = readers[path.suffix](path)
    except OSError as error:
        raise InvalidInput(f"{name}: {error.strerror or error}") from error
    except (ValueError, EOFError) as error:
        raise InvalidInput(f"{name}: cannot be read as {path.suffix[1:]}: {' '.join(str(error).split())}") from error
    return checked_transition_matrix(matrix, num_classes, name)


def _array(path: Path) -> np.ndarray:
    with path.open("rb") as file:
        # Otherwise numpy takes it for a pickle, and advises to read that.
        if file.read(len(MAGIC_PREFIX)) != MAGIC_PREFIX:
            raise ValueError("it does not begin like an array that numpy saved")
    return np.load(path, allow_pickle=False)


def _table(path: Path) -> np.ndarray:
    # Read as lines: an empty file is then a matter of shape, not of numpy's warning.
    lines = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    return np.loadtxt(lines, delimiter=",", ndmin=2) if lines else np.empty((0, 0))


def _rows(path: Path) -> Any:
    content = json.loads(path.read_text(encoding="utf-8"))
    if isinstance(content, dict):
        if content.get("transition_matrix") is None:
            raise ValueError("it names no transition_matrix")
        return content["transition_matrix"]
    return content


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
