"""The confident joint, counted in the plainest way; against cleanlab where it is installed."""

import numpy as np
import pytest

from winnow.errors import InvalidInput
from winnow.noise.confident_joint import (
    Reading,
    calibrated_joint,
    confident_joint,
    confident_thresholds,
    joint_counts,
    scaled_joint,
)
from winnow.noise.estimate import confident_joint_transition_matrix

# Means of the own class: (.9 + .8 + .7 + .2) / 4 = .65 and (.9 + .7 + .6 + .2) / 4 = .6.
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 1])
SECOND = np.array([0.1, 0.2, 0.3, 0.8, 0.9, 0.7, 0.6, 0.2])
PROBS = np.column_stack([1 - SECOND, SECOND])


def made(num, classes, seed, dtype=np.float64):
    """Noisy labels, a fifth of them wrong, and probabilities of the true classes."""
    random = np.random.default_rng(seed)
    clean = random.integers(classes, size=num)
    probs = random.random((num, classes)) * 0.05
    probs[np.arange(num), clean] += random.random(num) * 1.5
    noisy = np.where(random.random(num) < 0.2, (clean + random.integers(1, classes, num)) % classes, clean)
    return noisy, (probs / probs.sum(axis=1, keepdims=True)).astype(dtype)


def test_thresholds_are_the_mean_probability_of_the_own_label():
    np.testing.assert_allclose(confident_thresholds(LABELS, PROBS[np.arange(8), LABELS], 2), [0.65, 0.6])


def test_none_one_and_several_confident_classes():
    """The rule of the paper, row by row, in the plainest way."""
    noisy, probs = made(400, 4, seed=1)
    thresholds = [probs[noisy == k, k].mean() for k in range(4)]
    expected = np.zeros((4, 4), int)
    for label, row in zip(noisy, probs, strict=True):
        confident = [k for k in range(4) if row[k] >= thresholds[k] - 1e-6]
        if confident:
            expected[label, confident[0] if len(confident) == 1 else row.argmax()] += 1

    assert confident_joint(noisy, probs).tolist() == expected.tolist()
    assert 0 < expected.sum() < 400


def test_a_class_that_is_not_the_most_probable_one_may_be_the_only_confident_one():
    """Thresholds are (.9 + .9 + .6) / 3 = .8 and (.3 + .5 + .4) / 3 = .4.

    Rows 2, 4 and 5 have the most probable class 0 and are confident of class 1 alone, row 3 of none.
    """
    first = np.array([0.9, 0.9, 0.6, 0.7, 0.5, 0.6])
    assert confident_joint(np.array([0, 0, 0, 1, 1, 1]), np.column_stack([first, 1 - first])).tolist() == [
        [2, 1],
        [0, 2],
    ]


def test_the_diagonal_is_at_least_one_and_an_absent_class_is_reached_by_nobody():
    probs = np.array([[0.1, 0.5, 0.4], [0.8, 0.1, 0.1], [0.7, 0.2, 0.1]])

    joint = confident_joint(np.array([0, 1, 1]), probs)

    # Thresholds .1, .15, 2: row 0 is confident of both and most of class 1; rows 1 and 2 of class 0 (row 2 of both).
    assert joint.tolist() == [[1, 1, 0], [2, 1, 0], [0, 0, 1]]


def test_calibration_gives_each_row_the_count_of_its_label():
    joint = np.array([[2, 1, 0], [0, 1, 0], [1, 1, 2]])

    found = calibrated_joint(joint, np.array([6, 3, 6]))

    # Row 2 is (1.5, 1.5, 3), rounded to (2, 2, 3): one too many, taken from the first of the most changed.
    assert found.tolist() == [[4, 2, 0], [0, 3, 0], [1, 2, 3]]


def test_a_row_rounded_down_is_filled_up():
    # 4 x (1, 1, 1) / 3 = 1.33 each, one too few: the last of the most changed gets it.
    found = calibrated_joint(np.array([[1, 1, 1], [0, 1, 0], [0, 0, 1]]), np.array([4, 0, 1]))
    assert found.tolist() == [[1, 1, 2], [0, 0, 0], [0, 0, 1]]


@pytest.mark.parametrize(("num", "classes"), [(300, 3), (2000, 2), (3000, 10), (2000, 60)])
@pytest.mark.parametrize("seed", [0, 1])
def test_cleanlab_counts_the_same(num, classes, seed):
    count = pytest.importorskip("cleanlab.count", reason="cleanlab, the oracle of this test, is not installed")
    noisy, probs = made(num, classes, seed)

    assert (confident_joint(noisy, probs) == count.compute_confident_joint(noisy, probs, calibrate=False)).all()


def test_sure_probabilities_give_the_contingency_table():
    random = np.random.default_rng(0)
    clean, noisy = random.integers(4, size=(2, 500))
    expected = np.zeros((4, 4), int)
    for label, truth in zip(noisy, clean, strict=True):
        expected[label, truth] += 1

    assert confident_joint(noisy, np.eye(4)[clean]).tolist() == expected.tolist()


def test_scaling_and_calibration_keep_the_number_of_every_label():
    noisy, probs = made(800, 5, seed=2)
    joint, counts = confident_joint(noisy, probs), np.bincount(noisy)
    assert joint.sum() < 800
    np.testing.assert_allclose(scaled_joint(joint, counts).sum(axis=1), counts, rtol=1e-12)
    assert calibrated_joint(joint, counts).sum(axis=1).tolist() == counts.tolist()


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_file_read_in_pieces_counts_the_same(tmp_path, dtype):
    noisy, probs = made(700, 6, seed=4, dtype=dtype)
    noisy[::9] = -1
    np.save(tmp_path / "probs.npy", probs)
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")
    whole = confident_joint(noisy, probs)
    for rows in (1, 7, 64, 10_000):
        assert (confident_joint(noisy, mapped, chunk_rows=rows) == whole).all()


@pytest.mark.parametrize("classes", [2, 32, 33, 300])
def test_a_reading_names_the_first_of_the_largest(classes):
    random = np.random.default_rng(classes)
    probs = random.integers(0, 4, (500, classes)).astype(np.float32)
    labels = random.integers(-1, classes, 500)
    found = Reading.of(labels, probs, chunk_rows=7)
    assert found.predicted.tolist() == [row.tolist().index(max(row)) for row in probs]
    assert (found.top == probs.max(axis=1)).all()
    own = [np.nan if label < 0 else row[label] for label, row in zip(labels, probs, strict=True)]
    np.testing.assert_array_equal(found.own, own)


@pytest.mark.parametrize("classes", [3, 40])
def test_a_row_that_is_not_a_number_counts_for_nothing(classes):
    labels, probs = np.arange(200) % classes, np.eye(classes)[np.arange(200) % classes]
    probs[5:9] = np.nan
    labels[5:9] = -1
    assert confident_joint(labels, probs).sum() == 196


def test_missing_labels_are_counted_nowhere():
    assert joint_counts(np.array([0, -1, 1, 1]), np.array([1, 1, -1, 1]), 2).tolist() == [[0, 1], [0, 1]]


def test_the_transition_matrix_is_the_scaled_joint_by_true_class():
    """Of the labels 0 and 1 four each; row 0 of the joint counts (3, 1), row 1 (1, 2), which scales to (4, 8) / 3."""
    second = np.array([0.1, 0.2, 0.3, 0.8, 0.9, 0.7, 0.5, 0.2])
    probs = np.column_stack([1 - second, second])
    # Thresholds .65 and .575: row 6 is confident of neither.
    assert confident_joint(LABELS, probs).tolist() == [[3, 1], [1, 2]]

    found = confident_joint_transition_matrix(probs, LABELS)

    np.testing.assert_allclose(found, [[3 / (3 + 4 / 3), 4 / 3 / (3 + 4 / 3)], [1 / (1 + 8 / 3), 8 / 3 / (1 + 8 / 3)]])


def test_a_matrix_of_no_labels_is_refused():
    with pytest.raises(InvalidInput, match="all are missing"):
        confident_joint_transition_matrix(PROBS, np.full(8, -1))
