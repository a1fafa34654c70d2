"""Labels and probabilities are checked before anything is concluded from them."""

import numpy as np
import pytest

from winnow.audit.probabilities import checked_probabilities
from winnow.errors import InputError, InvalidInput

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
        (np.empty((0, 2)), r"shape \(0, 2\); .* and a row is needed"),
        ([], r"shape \(0,\)"),
        ([[0.5, 0.5], [1.0]], "pred_probs: no array, its rows are of different lengths"),
        ("probs.npy", "numpy.load\\(path, mmap_mode='r'\\)"),
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
        ([[0], [1, 0], [1], [0]], "labels: no array, its rows are of different lengths"),
        ([], r"shape \(0,\) for 4 rows"),
    ],
)
def test_impossible_labels_are_refused_by_row(labels, message):
    with pytest.raises(InvalidInput, match=message):
        checked_probabilities(labels, PROBS)


@pytest.mark.parametrize("gap", [None, np.nan])
def test_a_missing_label_is_no_class(gap):
    assert checked_probabilities([0, gap, 1, 0], PROBS).labels.tolist() == [0, -1, 1, 0]


@pytest.mark.parametrize("hidden", [1, 7, -5])
def test_a_masked_label_is_missing_whatever_lies_under_the_mask(hidden):
    labels = np.ma.masked_array([0, hidden, 1, 0], [False, True, False, False])

    assert checked_probabilities(labels, PROBS).labels.tolist() == [0, -1, 1, 0]
    assert labels.data.tolist() == [0, hidden, 1, 0]
    with pytest.raises(InvalidInput, match="row 3: 7"):
        checked_probabilities(np.ma.masked_array([0, 1, 0, 7], [True, False, False, False]), PROBS)


def test_masked_probabilities_are_refused_by_row_and_an_empty_mask_is_none():
    mask = np.zeros((4, 2), dtype=bool)
    assert checked_probabilities(LABELS, np.ma.masked_array(PROBS, mask)).labels.tolist() == list(LABELS)

    mask[2, 1] = True
    with pytest.raises(InvalidInput, match="row 2: masked values"):
        checked_probabilities(LABELS, np.ma.masked_array(PROBS, mask))


def test_the_callers_labels_are_left_alone():
    labels = np.array([0.0, np.nan, 1.0, 0.0])
    checked_probabilities(labels, PROBS)
    assert np.isnan(labels[1])
    whole = np.array(LABELS)
    assert (checked_probabilities(whole, PROBS).labels == whole).all()


def test_rounding_is_put_right_and_said():
    rounded = np.array([[0.333, 0.333, 0.333], [0.5, 0.25, 0.25]])

    found = checked_probabilities([0, 1], rounded)

    np.testing.assert_allclose(found.rows(slice(None)), [[1 / 3, 1 / 3, 1 / 3], [0.5, 0.25, 0.25]], rtol=1e-12)
    np.testing.assert_allclose(found.rows(np.array([0])), [[1 / 3, 1 / 3, 1 / 3]], rtol=1e-12)
    np.testing.assert_allclose(found.reading.own, [1 / 3, 0.25], rtol=1e-12)
    assert "within 0.001" in found.notes[0]
    assert rounded[0, 0] == 0.333  # the caller's array is left alone


def test_half_precision_is_rounding():
    probs = np.random.default_rng(0).dirichlet(np.ones(50), 20).astype(np.float16)
    assert checked_probabilities(np.zeros(20, int), probs).rows(slice(3)).dtype == np.float32


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


def predicted(truth, classes, accuracy, random):
    """Probabilities of a classifier that is right that often beside lucky guesses."""
    guesses = np.where(random.random(len(truth)) < accuracy, truth, random.integers(classes, size=len(truth)))
    probs = 0.4 * random.dirichlet(np.ones(classes), len(truth))
    probs[np.arange(len(truth)), guesses] += 0.6
    return probs


@pytest.mark.parametrize("classes", [4, 5, 10])
@pytest.mark.parametrize("accuracy", [0.7, 0.95])
def test_two_columns_changed_over_are_refused_despite_noise(classes, accuracy):
    random = np.random.default_rng(classes)
    truth = random.integers(classes, size=1000)
    noisy = np.where(random.random(1000) < 0.2, random.integers(classes, size=1000), truth)
    probs = predicted(truth, classes, accuracy, random)[:, [1, 0, *range(2, classes)]]
    with pytest.raises(InvalidInput, match=r"class -> column: 0 -> 1, 1 -> 0\); order the columns"):
        checked_probabilities(noisy, probs)


def test_what_few_rows_suggest_is_noted_only():
    # Ten rows against none, of two classes among four: 4^2 exp(-10^2 / 20) = 0.1. Thirty: 16 exp(-15) = 5e-6.
    assert checked_probabilities(*ordered(4, [1, 0, 2, 3], num=20)).notes == ()
    (note,) = checked_probabilities(*ordered(4, [1, 0, 2, 3], num=60)).notes
    assert "50% of the rows, but in 100%" in note
    assert "0 -> 1, 1 -> 0" in note
    with pytest.raises(InvalidInput, match="order the columns"):
        checked_probabilities(*ordered(4, [1, 0, 2, 3], num=80))  # 16 exp(-20) = 3e-8


@pytest.mark.parametrize("classes", [2, 4, 10])
@pytest.mark.parametrize("share", [0.4, 0.45])
def test_noise_to_the_next_class_below_a_half_is_no_other_order(classes, share):
    random = np.random.default_rng(0)
    truth = random.integers(classes, size=20_000)
    noisy = np.where(random.random(20_000) < share, (truth + 1) % classes, truth)
    assert checked_probabilities(noisy, predicted(truth, classes, 0.95, random)).notes == ()


def test_noise_by_a_permutation_below_a_half_is_no_other_order():
    random = np.random.default_rng(0)
    truth = random.integers(10, size=20_000)
    noisy = np.where(random.random(20_000) < 0.45, random.permutation(10)[truth], truth)
    assert checked_probabilities(noisy, predicted(truth, 10, 0.95, random)).notes == ()


@pytest.mark.parametrize(("classes", "num"), [(2, 1000), (10, 300), (100, 10_000), (300, 3000)])
def test_random_probabilities_are_no_other_order(classes, num):
    random = np.random.default_rng(0)
    probs = random.dirichlet(np.ones(classes), num)
    assert checked_probabilities(random.integers(classes, size=num), probs).notes == ()


def test_a_classifier_that_prefers_the_rare_class_is_noted_only():
    """Of 1000 common rows 600 are predicted as rare; the rare ones are predicted right. No column is another's."""
    labels = np.repeat([0, 1], [1000, 10])
    probs = np.where((np.arange(1010) < 400)[:, None], [0.9, 0.1], [0.1, 0.9])
    (note,) = checked_probabilities(labels, probs).notes
    assert "41% of the rows, but in 59%" in note
    assert checked_probabilities(labels, np.tile([0.1, 0.9], (1010, 1))).notes  # always the rare one


def test_labels_that_count_from_one_are_asked_about():
    with pytest.raises(InvalidInput, match=r"they run from 1: count from 0\?"):
        checked_probabilities([1, 2, 2, 1], PROBS)
    with pytest.raises(InvalidInput, match=r"missing$"):
        checked_probabilities([0, 1, 2, 1], PROBS)


def test_the_refusal_of_rounded_rows_says_how_they_are_rescaled():
    probs = np.round(np.full((4, 8), 1 / 8), 2)  # 0.12 each, 0.96 a row
    with pytest.raises(InvalidInput, match=r"divide each row by its sum: pred_probs / pred_probs.sum\(axis=1"):
        checked_probabilities(LABELS, probs)
    assert checked_probabilities(LABELS, probs / probs.sum(axis=1, keepdims=True)).notes == ()


def test_predictions_without_value_and_noise_below_a_half_are_no_other_order():
    random = np.random.default_rng(0)
    labels = random.integers(10, size=300)
    assert checked_probabilities(labels, random.dirichlet(np.ones(10), 300)).notes == ()
    labels, probs = ordered(4, [0, 1, 2, 3])
    labels[random.random(500) < 0.45] += 1
    assert checked_probabilities(labels % 4, probs).notes == ()
