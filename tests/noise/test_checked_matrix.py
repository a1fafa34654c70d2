"""Transition matrices from outside: what is refused, in which words, and how a matrix is judged."""

import numpy as np
import pytest

from winnow.errors import InputError
from winnow.noise.checked_matrix import checked_transition_matrix, matrix_health

MATRIX = np.array([[0.8, 0.1, 0.1], [0.3, 0.6, 0.1], [0.0, 0.0, 1.0]])


def test_a_matrix_in_order_is_given_back():
    assert np.array_equal(checked_transition_matrix(MATRIX.tolist(), 3), MATRIX / MATRIX.sum(axis=1, keepdims=True))


def test_rounded_rows_are_rescaled():
    found = checked_transition_matrix([[0.333, 0.666], [0.5, 0.5]], 2)
    np.testing.assert_allclose(found, [[1 / 3, 2 / 3], [0.5, 0.5]])


@pytest.mark.parametrize(
    ("matrix", "words"),
    [
        (MATRIX.T, "row 1 sums to 0.7, not 1, but every column does: transpose it"),
        (MATRIX * 10, "row 0 sums to 10, not 1; divide counts by the sum of their row"),
        ([[1.1, -0.1, 0], *MATRIX[1:].tolist()], "row 0, column 1 is -0.1; probabilities are needed"),
        ([MATRIX[0].tolist(), [np.nan, 0, 1], [0, 0, 1]], "row 1, column 0 is nan"),
        (np.eye(4), r"shape \(4, 4\); 3 classes need \(3, 3\)"),
        (MATRIX[0], r"shape \(3,\)"),
        ([[1, 0], [1, 0, 0]], "3 rows of 3 numbers are needed"),
        ([["a", "b", "c"]] * 3, "3 rows of 3 numbers are needed"),
    ],
)
def test_what_is_no_transition_matrix_is_refused_in_one_line(matrix, words):
    with pytest.raises(InputError, match=words) as caught:
        checked_transition_matrix(matrix, 3)
    assert isinstance(caught.value, ValueError)
    assert "\n" not in str(caught.value)


def test_the_health_of_a_matrix():
    """Eigenvalues of a symmetric channel are 1 and 1 - 0.3 * 3 / 2."""
    health = matrix_health(np.full((3, 3), 0.15) + 0.55 * np.eye(3))
    assert health.condition_number == pytest.approx(1 / 0.55)
    assert (health.mean_diagonal, health.least_diagonal, health.dominant_rows) == pytest.approx((0.7, 0.7, 1))


def test_a_class_that_mostly_gets_another_label_is_told():
    health = matrix_health(np.array([[0.5, 0.5], [0.2, 0.8]]))
    assert (health.dominant_rows, health.least_diagonal) == (0.5, 0.5)


def test_a_matrix_with_equal_rows_cannot_be_undone():
    assert matrix_health(np.full((3, 3), 1 / 3)).condition_number == np.inf
