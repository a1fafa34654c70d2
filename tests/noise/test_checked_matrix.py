"""Transition matrices from outside: what is refused, in which words, and how a matrix is judged."""

import json

import numpy as np
import pytest

from winnow.errors import InputError
from winnow.noise.checked_matrix import checked_transition_matrix, matrix_health, read_transition_matrix

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
        (MATRIX + 0j, "complex numbers; probabilities are needed"),
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


WRITERS = {
    "t.npy": lambda path: np.save(path, MATRIX),
    "t.csv": lambda path: np.savetxt(path, MATRIX, delimiter=", "),
    "t.json": lambda path: path.write_text(json.dumps(MATRIX.tolist())),
    "noise.json": lambda path: path.write_text(json.dumps({"rate": 0.2, "transition_matrix": MATRIX.tolist()})),
}


@pytest.mark.parametrize("name", WRITERS)
def test_a_matrix_is_read_from_a_file(name, tmp_path):
    WRITERS[name](tmp_path / name)
    np.testing.assert_allclose(read_transition_matrix(tmp_path / name, 3), MATRIX, rtol=1e-12)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", "", r"shape \(0, 0\); 3 classes need \(3, 3\)"),
        ("t.csv", "a,b,c\n1,0,0\n0,1,0\n0,0,1\n", "cannot be read as csv: could not convert string 'a'"),
        ("t.csv", "1,0,0\n0,1\n", "cannot be read as csv"),
        ("t.csv", "1,0\n0,1\n", r"shape \(2, 2\)"),
        ("t.csv", "\u00e9", "cannot be read as csv"),
        ("t.json", "[[1, 0", "cannot be read as json"),
        ("t.json", '{"transition_matrix": null}', "it names no transition_matrix"),
        ("t.npy", "no array", "cannot be read as npy: it does not begin like an array that numpy saved$"),
        ("t.npy", "", "cannot be read as npy"),
        ("t.txt", "1,0", "a file that ends in .npy, .csv, .json is needed"),
        ("t", "1,0", "a file that ends in .npy, .csv, .json is needed"),
    ],
)
def test_a_file_that_holds_none_is_named_in_one_line(name, content, words, tmp_path):
    (tmp_path / name).write_text(content, encoding="latin-1")
    with pytest.raises(InputError, match=words) as caught:
        read_transition_matrix(tmp_path / name, 3)
    assert str(caught.value).startswith(f"transition_matrix={tmp_path / name}: ")
    assert "\n" not in str(caught.value)


def test_pickled_objects_are_not_read(tmp_path):
    np.save(tmp_path / "t.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="cannot be read as npy"):
        read_transition_matrix(tmp_path / "t.npy", 3)


@pytest.mark.parametrize("name", ["none.csv", "folder.csv"])
def test_a_missing_file_is_named(name, tmp_path):
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match=r"No such file|Is a directory"):
        read_transition_matrix(tmp_path / name, 3)
