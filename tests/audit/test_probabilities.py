"""Labels and probabilities are checked before anything is concluded from them."""

import numpy as np
import pytest

from winnow.audit.probabilities import InvalidInput, checked_probabilities
from winnow.errors import InputError

LABELS = [0, 1, 1, 0]
PROBS = np.array([[0.9, 0.1], [0.2, 0.8], [0.7, 0.3], [0.5, 0.5]])


def changed(row, values):
    probs = PROBS.copy()
    probs[row] = values
    return probs


def test_what_is_in_order_is_handed_on_as_it_is():
    found = checked_probabilities(LABELS, PROBS)

    assert found.probs is PROBS
    assert found.labels.tolist() == LABELS
    assert found.predicted.tolist() == [0, 1, 0, 0]  # the first of equals
    assert found.notes == ()


@pytest.mark.parametrize(
    ("probs", "message"),
    [
        (changed(2, np.nan), r"row 2: NaN or infinite"),
        (changed(1, [np.inf, 0]), r"row 1: NaN or infinite"),
        (changed(1, [np.inf, -np.inf]), r"row 1: NaN or infinite"),
        (changed(3, [1.2, -0.2]), r"row 3: negative values"),
        (changed(0, [0.9, 0.3]), r"row 0: values that do not sum to 1"),
        (3 * PROBS, r"rows 0, 1, 2, 3: values that do not sum to 1"),
        (PROBS[:, :1], r"shape \(4, 1\); \(rows, classes\) with at least 2"),
        (PROBS[0], r"shape \(2,\)"),
        (np.empty((0, 2)), r"shape \(0, 2\)"),
        (PROBS[:3], r"labels: shape \(4,\) for 3 rows"),
        (PROBS.astype(str), "numbers are needed"),
    ],
)
def test_impossible_probabilities_are_refused_by_row(probs, message):
    with pytest.raises(InvalidInput, match=message):
        checked_probabilities(LABELS, probs)


def test_ten_rows_are_named_and_the_others_counted():
    probs = np.full((30, 2), 0.5)
    probs[3:15, 1] = np.nan
    with pytest.raises(InvalidInput, match=r"rows 3, 4, 5, 6, 7, 8, 9, 10, 11, 12 and 2 more: NaN"):
        checked_probabilities(np.zeros(30, int), probs)


def test_the_error_is_winnows_and_pythons():
    assert issubclass(InvalidInput, InputError)
    assert issubclass(InvalidInput, ValueError)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, 1, 2, 0], "row 2: 2; pred_probs has 2 columns, so 0 to 1"),
        ([0, -1, 1, 0], "row 1: -1"),
        ([0, 1, 0.5, 0], "row 2: 0.5"),
        ([0, 1, np.inf, 0], "row 2: inf"),
        (["cat", "dog", "cat", "dog"], "numpy.unique"),
        ([[0], [1], [1], [0]], "one label a row"),
    ],
)
def test_impossible_labels_are_refused_by_row(labels, message):
    with pytest.raises(InvalidInput, match=message):
        checked_probabilities(labels, PROBS)


@pytest.mark.parametrize("gap", [None, np.nan])
def test_a_missing_label_is_no_class(gap):
    assert checked_probabilities([0, gap, 1, 0], PROBS).labels.tolist() == [0, -1, 1, 0]


def test_rounding_is_put_right_and_said():
    rounded = np.array([[0.333, 0.333, 0.333], [0.5, 0.25, 0.25]])

    found = checked_probabilities([0, 1], rounded)

    np.testing.assert_allclose(found.probs, [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.25, 0.25]], rtol=1e-12)
    assert "within 0.001" in found.notes[0]
    assert rounded[0, 0] == 0.333  # the caller's array is left alone


def test_half_precision_is_rounding():
    probs = np.random.default_rng(0).dirichlet(np.ones(50), 20).astype(np.float16)
    assert checked_probabilities(np.zeros(20, int), probs).probs.dtype == np.float32


def ordered(classes, moved, num=500):
    """Good predictions whose columns stand in the order `moved`."""
    labels = np.arange(num) % classes
    probs = np.full((num, classes), 0.1 / (classes - 1))
    probs[np.arange(num), labels] = 0.9
    return labels, probs[:, moved]


def test_columns_in_another_order_are_refused_with_the_order():
    labels, probs = ordered(3, [1, 2, 0])  # column 0 holds class 1, so class 0 stands in column 2
    with pytest.raises(InvalidInput, match=r"0% of the rows, but in 100% .*0 -> 2, 1 -> 0, 2 -> 1"):
        checked_probabilities(labels, probs)


def test_two_columns_changed_over_are_noted_only():
    """Two classes of ten may have been confused by the annotators."""
    labels, probs = ordered(10, [1, 0, *range(2, 10)], num=3000)
    (note,) = checked_probabilities(labels, probs).notes
    assert "80% of the rows, but in 100%" in note
    assert "0 -> 1, 1 -> 0" in note


def test_predictions_without_value_and_noise_below_a_half_are_no_other_order():
    random = np.random.default_rng(0)
    labels = random.integers(10, size=300)
    assert checked_probabilities(labels, random.dirichlet(np.ones(10), 300)).notes == ()
    labels, probs = ordered(4, [0, 1, 2, 3])
    labels[random.random(500) < 0.45] += 1
    assert checked_probabilities(labels % 4, probs).notes == ()
