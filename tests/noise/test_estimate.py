"""Counting a transition matrix among confident images."""

from itertools import pairwise

import numpy as np
import pytest

from winnow.noise.estimate import (
    confident_transition_matrix,
    joint_transition_matrix,
    transition_matrix_of_joints,
)


def beliefs_of(predicted, confidence, classes):
    """Rows with `confidence` on the predicted class and the rest spread."""
    rows = np.repeat((1 - np.asarray(confidence))[:, None] / (classes - 1), classes, axis=1)
    rows[np.arange(len(rows)), predicted] = confidence
    return rows


#                     the half of class 0 that counts | the rest       | the only one of class 1
PREDICTED = np.array([0, 0, 0, 0, 1])
CONFIDENCE = np.array([0.7, 0.95, 0.6, 0.9, 0.5])
GIVEN = np.array([2, 0, 2, 1, 1])


def test_the_matrix_is_counted_and_shrunk_by_hand():
    """Class 0 keeps its two most confident images (labels 0 and 1), class 1 its one (label 1), class 2 has none."""
    found = confident_transition_matrix(beliefs_of(PREDICTED, CONFIDENCE, 3), GIVEN, share=0.5, pseudo_counts=2.0)

    # Two of three agree: r = (2 + 1) / (3 + 1 + 1/3) = 9/13, and 2/13 for each other class.
    r, rest = 9 / 13, 2 / 13
    expected = [
        [(1 + 2 * r) / 4, (1 + 2 * rest) / 4, 2 * rest / 4],
        [2 * rest / 3, (1 + 2 * r) / 3, 2 * rest / 3],
        [rest, rest, r],
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_defaults_keep_a_fifth_and_count_a_hundred_images_for_symmetric_noise():
    predicted = np.repeat([0, 1], 10)
    confidence = np.tile(np.linspace(0.95, 0.55, 10), 2)  # the first two of each class are kept
    given = np.array([0, 1, *[0] * 8, 1, 1, *[0] * 8])

    found = confident_transition_matrix(beliefs_of(predicted, confidence, 2), given)

    r = (3 + 1) / (4 + 1 + 1 / 2)
    expected = [
        [(1 + 100 * r) / 102, (1 + 100 * (1 - r)) / 102],
        [100 * (1 - r) / 102, (2 + 100 * r) / 102],
    ]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_agreement_is_never_taken_for_certain():
    """A thousand images that all agree: r stops at 0.98."""
    predicted = np.repeat([0, 1], 500)
    found = confident_transition_matrix(beliefs_of(predicted, np.full(1000, 0.9), 2), predicted, share=1.0)

    expected = (500 + 100 * 0.98) / 600
    np.testing.assert_allclose(found, [[expected, 1 - expected], [1 - expected, expected]], rtol=0, atol=1e-12)


def test_ties_in_confidence_go_to_the_first_rows():
    predicted = np.zeros(10, dtype=np.int64)
    given = np.array([1, 1, 1, 0, 0, 0, 0, 0, 0, 0])

    found = confident_transition_matrix(beliefs_of(predicted, np.full(10, 0.8), 2), given, share=0.3, pseudo_counts=1.0)

    r = 1 / (3 + 1 + 1 / 2)
    assert found[0].tolist() == pytest.approx([r / 4, (3 + 1 - r) / 4])


PLANTED = np.array(
    [
        [0.80, 0.05, 0.05, 0.05, 0.05],
        [0.40, 0.55, 0.05, 0.00, 0.00],
        [0.00, 0.00, 0.95, 0.05, 0.00],
        [0.00, 0.10, 0.10, 0.60, 0.20],
        [0.25, 0.00, 0.00, 0.00, 0.75],
    ]
)


@pytest.mark.parametrize("seed", range(3))
def test_a_planted_matrix_is_recovered_but_for_the_pull_to_symmetric_noise(seed):
    random = np.random.default_rng(seed)
    count = 200_000
    truth = random.integers(0, 5, count)
    noisy = (random.random(count)[:, None] > PLANTED.cumsum(axis=1)[truth]).sum(axis=1)

    found = confident_transition_matrix(np.eye(5)[truth], noisy)

    # 40,000 images a class, 8,000 of them kept; the diagonal's mean is 0.73.
    prior = np.full((5, 5), (1 - 0.73) / 4) + (0.73 - (1 - 0.73) / 4) * np.eye(5)
    bias = 100 / 8100 * np.abs(prior - PLANTED)
    assert (np.abs(found - PLANTED) < 0.01 + bias).all()
    # Which way round: from class 1 to 0, not from 0 to 1.
    assert found[1, 0] > 0.38
    assert found[0, 1] < 0.07
    # With the stated pull taken out again nothing is left but chance: four standard errors.
    unbiased = (found - 100 / 8100 * prior) * 8100 / 8000
    assert (np.abs(unbiased - PLANTED) < 4 * np.sqrt(PLANTED * (1 - PLANTED) / 7800) + 1e-3).all()


def test_rows_are_distributions():
    random = np.random.default_rng(0)
    beliefs = random.dirichlet(np.ones(6), 500)

    found = confident_transition_matrix(beliefs, random.integers(0, 6, 500))

    assert (found > 0).all()
    assert np.abs(found.sum(axis=1) - 1).max() < 1e-12


def test_a_class_that_is_never_predicted_gets_the_symmetric_row():
    predicted = np.repeat([0, 2], 50)
    given = predicted.copy()
    given[:5] = 3
    confidence = np.linspace(0.9, 0.6, 100)

    found = confident_transition_matrix(beliefs_of(predicted, confidence, 4), given)

    # Ten of each are kept; five of the twenty disagree.
    r = (15 + 1) / (20 + 1 + 1 / 4)
    for k in (1, 3):
        row = [(1 - r) / 3] * 4
        row[k] = r
        assert found[k].tolist() == pytest.approx(row, abs=1e-12)
    assert np.isfinite(found).all()


def test_no_images_give_a_symmetric_matrix():
    found = confident_transition_matrix(np.zeros((0, 3)), np.zeros(0, dtype=np.int64))

    r = 1 / (1 + 1 / 3)
    np.testing.assert_allclose(found, np.full((3, 3), (1 - r) / 2) + (r - (1 - r) / 2) * np.eye(3), atol=1e-12)


def test_a_single_class_is_certain():
    found = confident_transition_matrix(np.ones((5, 1)), np.zeros(5, dtype=np.int64))

    assert found.tolist() == [[1.0]]


def distinct(count=400, classes=5, seed=3):
    random = np.random.default_rng(seed)
    beliefs = random.dirichlet(np.full(classes, 0.5), count)
    assert len(np.unique(beliefs.max(axis=1))) == count
    return beliefs, random.integers(0, classes, count)


def test_renaming_the_classes_permutes_rows_and_columns():
    beliefs, given = distinct()
    order = np.array([3, 0, 4, 1, 2])  # class order[k] is called k now
    renamed = np.argsort(order)[given]

    found = confident_transition_matrix(beliefs[:, order], renamed)

    expected = confident_transition_matrix(beliefs, given)[np.ix_(order, order)]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_the_order_of_the_images_changes_nothing():
    beliefs, given = distinct()
    expected = confident_transition_matrix(beliefs, given)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(given))
        assert np.array_equal(confident_transition_matrix(beliefs[order], given[order]), expected)


def test_only_the_confident_part_is_counted():
    beliefs, given = distinct()
    predicted, confidence = beliefs.argmax(axis=1), beliefs.max(axis=1)
    doubtful = np.zeros(len(given), dtype=bool)
    for k in range(5):
        members = np.flatnonzero(predicted == k)
        kept = round(0.2 * len(members))
        doubtful[members[np.argsort(-confidence[members])[kept:]]] = True
    other = np.where(doubtful, (given + 1) % 5, given)

    assert doubtful.sum() > 300
    assert np.array_equal(confident_transition_matrix(beliefs, other), confident_transition_matrix(beliefs, given))


def test_more_disagreement_in_the_kept_part_lowers_the_diagonal():
    beliefs, _ = distinct()
    given = beliefs.argmax(axis=1)
    members = np.flatnonzero(given == 2)
    ranked = members[np.argsort(-beliefs[members, 2])]
    diagonals = []
    for wrong in range(6):
        noisy = given.copy()
        noisy[ranked[:wrong]] = 4
        diagonals.append(confident_transition_matrix(beliefs, noisy)[2, 2])

    assert all(before > after for before, after in pairwise(diagonals))


def test_the_inputs_are_left_as_they_were():
    beliefs, given = distinct()
    before = beliefs.copy(), given.copy()
    confident_transition_matrix(beliefs, given)

    assert np.array_equal(beliefs, before[0])
    assert np.array_equal(given, before[1])


def test_a_joint_count_becomes_a_transition_matrix_by_transposition():
    """Of 5 images truly 0 one is called 1; class 2 is never true, so it keeps its labels."""
    joint = np.array([[4, 2, 0], [1, 8, 0], [0, 0, 0]])  # rows: given label

    found = joint_transition_matrix(joint)

    np.testing.assert_allclose(found, [[4 / 5, 1 / 5, 0], [2 / 10, 8 / 10, 0], [0, 0, 1]])


def joints(count=None, classes=7, seed=0):
    """A diagonally dominant T, and the two tables of labels and predictions: exact, or counted from `count` triples."""
    random = np.random.default_rng(seed)
    transition = 0.6 * np.eye(classes) + 0.4 * random.dirichlet(np.ones(classes), classes)
    confusion = 0.7 * np.eye(classes) + 0.3 * random.dirichlet(np.ones(classes), classes)
    prior = random.dirichlet(np.full(classes, 20.0))
    if count is None:
        clean = prior[:, None] * confusion
        return transition, clean, transition.T @ clean
    truth = random.choice(classes, count, p=prior)
    noisy = (random.random(count)[:, None] > transition.cumsum(axis=1)[truth]).sum(axis=1)
    predicted = (random.random(count)[:, None] > confusion.cumsum(axis=1)[truth]).sum(axis=1)
    tables = [np.zeros((classes, classes)) for _ in range(2)]
    for table, rows in zip(tables, (truth, noisy), strict=True):
        np.add.at(table, (rows, predicted), 1)
    return transition, tables[0], tables[1]


def test_exact_joints_give_the_exact_matrix_whatever_their_totals():
    transition, clean, noisy = joints()
    found = transition_matrix_of_joints(100 * clean, 3 * noisy)

    np.testing.assert_allclose(found, transition, rtol=0, atol=1e-10)


def test_counted_joints_give_it_but_for_chance():
    transition, clean, noisy = joints(400_000)
    assert np.abs(transition_matrix_of_joints(clean, noisy) - transition).max() < 0.02


def test_the_ridge_is_least_squares_with_a_pull_to_labels_that_are_kept():
    transition, clean, noisy = joints()
    strength = 0.3 * np.square(clean).sum(axis=1).mean()
    stacked = np.vstack([clean.T, np.sqrt(strength) * np.eye(7)])
    wanted = np.vstack([noisy.T, np.sqrt(strength) * np.eye(7)])
    expected = np.linalg.lstsq(stacked, wanted, rcond=None)[0].clip(min=0)
    expected /= expected.sum(axis=1, keepdims=True)

    found = transition_matrix_of_joints(clean, noisy, ridge=0.3)

    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)
    assert (np.diag(found) > np.diag(transition)).all()


def test_a_class_without_images_keeps_its_labels_and_the_others_are_solved():
    transition, clean, noisy = joints()
    clean[4] = clean[:, 4] = 0
    noisy = transition.T @ clean
    found = transition_matrix_of_joints(clean, noisy)

    assert found[4].tolist() == pytest.approx(np.eye(7)[4].tolist(), abs=1e-6)
    np.testing.assert_allclose(np.delete(found, 4, axis=0), np.delete(transition, 4, axis=0), rtol=0, atol=1e-3)


def test_what_chance_makes_negative_is_cut_off():
    clean = np.array([[0.5, 0.0], [0.1, 0.4]])
    found = transition_matrix_of_joints(clean, np.array([[0.4, 0.0], [0.2, 0.4]]))

    # By hand Q = C_n C_c^-1 = [[0.8, 0], [0.2, 1]]: nothing to cut. Less of label 1 makes its entry negative.
    np.testing.assert_allclose(found, [[0.8, 0.2], [0.0, 1.0]], rtol=0, atol=1e-12)
    cut = transition_matrix_of_joints(clean, np.array([[0.58, 0.0], [0.02, 0.4]]))
    np.testing.assert_allclose(cut, [[1.0, 0.0], [0.0, 1.0]], rtol=0, atol=1e-12)


def test_tables_without_images_and_a_negative_ridge_are_refused():
    _, clean, noisy = joints()
    with pytest.raises(ValueError, match="at least one image"):
        transition_matrix_of_joints(0 * clean, noisy)
    with pytest.raises(ValueError, match="ridge must be at least 0, got -1"):
        transition_matrix_of_joints(clean, noisy, ridge=-1.0)
