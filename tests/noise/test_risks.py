"""How far labels and a teacher lie from the truth, where no image has both a noisy label and the true one."""

import numpy as np
import pytest

from winnow.methods.distillation import optimal_given_weight
from winnow.noise.matrices import map_matrix, symmetric_matrix
from winnow.noise.risks import estimated_cell_risks, estimated_risks


def drawn(num, matrix, rng, classes=10, sure=2.5, shares=None):
    """(True labels, given labels, beliefs of a teacher that confuses a class with the next one) of some images."""
    truth = rng.choice(classes, size=num, p=shares)
    scores = rng.normal(size=(num, classes))
    scores[np.arange(num), truth] += sure
    scores[np.arange(num), (truth + 1) % classes] += 1
    chances = np.exp(sure * scores)
    given = (rng.random((num, 1)) < matrix[truth].cumsum(axis=1)).argmax(axis=1)
    return truth, given, chances / chances.sum(axis=1, keepdims=True)


def true_risks(truth, given, probs):
    e_y, e_s = (given[:, None] == np.arange(probs.shape[1])) - np.eye(probs.shape[1])[truth], probs.copy()
    e_s[np.arange(len(truth)), truth] -= 1
    return np.square(e_y).sum(axis=1).mean(), np.square(e_s).sum(axis=1).mean(), (e_y * e_s).sum(axis=1).mean()


@pytest.mark.parametrize("shares", [None, np.arange(1, 11) / 55], ids=["even", "skewed"])
@pytest.mark.parametrize("kind", ["none", "symmetric", "next"])
def test_risks_are_found_without_an_image_that_has_both_labels(kind, shares):
    """The clean part has all classes alike, the noisy one not always; `next` is whom the teacher confuses, too."""
    matrix = {
        "none": np.eye(10),
        "symmetric": symmetric_matrix(10, 0.5),
        "next": map_matrix(10, {k: (k + 1) % 10 for k in range(10)}, 0.3),
    }[kind]
    rng = np.random.default_rng(0)
    clean, _, clean_probs = drawn(1000, np.eye(10), rng)
    truth, given, probs = drawn(8000, matrix, rng, shares=shares)
    expected = true_risks(truth, given, probs)

    found = estimated_risks(clean_probs, clean, probs, given)

    np.testing.assert_allclose(found, expected, atol=0.05)
    assert optimal_given_weight(*found) == pytest.approx(optimal_given_weight(*expected), abs=0.07)


def test_the_proposition_of_independent_errors_would_trust_labels_too_much():
    """Both errors hold the true label, so that the covariance is not 0 however independent the noise is."""
    rng = np.random.default_rng(0)
    clean, _, clean_probs = drawn(1000, np.eye(10), rng)
    _, given, probs = drawn(8000, symmetric_matrix(10, 0.5), rng)
    risks = estimated_risks(clean_probs, clean, probs, given)

    assert risks.covariance > 0.05
    assert optimal_given_weight(risks.label, risks.teacher) > optimal_given_weight(*risks) + 0.02


def test_a_class_without_clean_images_does_not_stand_in_the_way():
    rng = np.random.default_rng(0)
    clean, _, clean_probs = drawn(600, np.eye(10), rng)
    _, given, probs = drawn(6000, symmetric_matrix(10, 0.5), rng)
    seen, judged = clean != 3, given != 3

    found = estimated_risks(clean_probs[seen], clean[seen], probs[judged], given[judged])

    assert found.label == pytest.approx(0.9, abs=0.15)


@pytest.mark.parametrize("classes", [1, 2, 10])
def test_a_teacher_that_knows_nothing_leaves_the_labels_alone(classes):
    y = np.arange(60) % classes
    flat = np.full((60, classes), 1 / classes)

    found = estimated_risks(flat, y, flat, y)

    assert found.label == 0
    assert optimal_given_weight(*found) == 1


def test_of_several_classes_each_has_its_own_risks():
    rng = np.random.default_rng(0)

    def cells(num, flips):
        truth = (rng.random((num, 3)) < [0.2, 0.5, 0.7]).astype(np.int8)
        probs = 1 / (1 + np.exp(-(6 * truth - 3 + 2 * rng.normal(size=truth.shape))))
        return truth, np.where(rng.random(truth.shape) < flips, 1 - truth, truth).astype(np.int8), probs

    clean, _, clean_probs = cells(1500, 0)
    truth, given, probs = cells(8000, np.array([0.1, 0.3, 0.2]))
    e_y, e_s = given - truth, probs - truth
    expected = [2 * np.square(e_y).mean(), 2 * np.square(e_s).mean(), 2 * (e_y * e_s).mean()]
    given[::7, 1] = clean[::5, 2] = -1

    np.testing.assert_allclose(estimated_cell_risks(clean_probs, clean, probs, given), expected, atol=0.03)


def test_classes_whose_clean_cells_are_all_alike_are_left_out():
    labels_of = np.ones((8, 2), np.int8)
    assert estimated_cell_risks(np.full((8, 2), 0.9), labels_of, np.full((8, 2), 0.9), labels_of) == (0, 0, 0)
