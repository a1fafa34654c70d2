"""Estimates of a transition matrix from a network's probabilities or from checked images."""

import numpy as np
import pytest

from winnow.errors import InvalidInput
from winnow.noise import estimate
from winnow.noise.estimate import (
    anchor_transition_matrix,
    confident_joint_transition_matrix,
    counted_transition_matrix,
    gold_transition_matrix,
    soft_transition_matrix,
)

PLANTED = np.array([[0.7, 0.2, 0.1, 0.0], [0.0, 0.6, 0.4, 0.0], [0.1, 0.1, 0.8, 0.0], [0.0, 0.45, 0.0, 0.55]])


def spread(count=2000, classes=4, seed=0):
    """Distinct probabilities and labels that have little to do with them."""
    random = np.random.default_rng(seed)
    return random.dirichlet(np.full(classes, 0.4), count), random.integers(0, classes, count)


def by_rank(probs, lower, upper):
    """The anchors' rule in the plainest way."""
    rows = []
    for k in range(probs.shape[1]):
        ordered = sorted(range(len(probs)), key=lambda n: probs[n, k])
        first, last = (int(np.ceil(percentile / 100 * (len(probs) - 1))) for percentile in (lower, upper))
        rows.append(np.mean([probs[n] for n in (ordered[first:last] if upper < 100 else ordered[first:])], axis=0))
    return np.array(rows)


@pytest.mark.parametrize("options", [{}, {"upper": 100.0}, {"single": True, "upper": 100.0}])
def test_anchors_that_are_certain_give_the_matrix_itself(options):
    clean = np.repeat(np.arange(4), 50)
    found = anchor_transition_matrix(PLANTED[clean], **options)

    np.testing.assert_allclose(found, PLANTED, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("lower", "upper"), [(90.0, 97.0), (75.0, 92.5), (80.0, 100.0), (0.0, 50.0)])
def test_anchors_are_averaged_between_two_percentiles(lower, upper):
    probs, _ = spread()
    found = anchor_transition_matrix(probs, lower=lower, upper=upper)

    np.testing.assert_allclose(found, by_rank(probs, lower, upper), rtol=1e-12)


@pytest.mark.parametrize(("classes", "lower", "upper"), [(10, 90.0, 97.0), (2, 50.0, 85.0), (40, 97.5, 99.25)])
def test_the_default_percentiles_fit_the_share_of_a_class(classes, lower, upper):
    probs, _ = spread(classes=classes)
    expected = anchor_transition_matrix(probs, lower=lower, upper=upper)
    assert np.array_equal(anchor_transition_matrix(probs), expected)


@pytest.mark.parametrize("upper", [97.0, 100.0])
def test_a_single_anchor_is_the_papers(upper):
    """As the authors' code has it, on a copy for every class."""
    probs, _ = spread()
    expected = []
    for k in range(4):
        column = probs[:, k].copy()
        if upper < 100:
            column[column >= np.percentile(column, upper, method="higher")] = 0
        expected.append(probs[column.argmax()])

    found = anchor_transition_matrix(probs, upper=upper, single=True)

    np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_many_equally_certain_images_all_count():
    """Half of the images share the highest value: no image lies between the percentiles."""
    probs = np.repeat([[0.9, 0.1], [0.3, 0.7]], 50, axis=0)
    np.testing.assert_allclose(anchor_transition_matrix(probs, lower=90.0, upper=97.0), [[0.9, 0.1], [0.3, 0.7]])


@pytest.mark.parametrize("single", [False, True])
def test_anchors_do_not_depend_on_the_order_of_classes_or_images(single):
    probs, _ = spread()
    order, shuffled = np.array([2, 0, 3, 1]), np.random.default_rng(1).permutation(len(probs))
    expected = anchor_transition_matrix(probs, single=single)

    found = anchor_transition_matrix(probs[shuffled][:, order], single=single)

    np.testing.assert_allclose(found, expected[np.ix_(order, order)], rtol=1e-12)


@pytest.mark.parametrize(("lower", "upper"), [(97.0, 90.0), (90.0, 90.0), (-1.0, 97.0), (90.0, 101.0), (np.nan, 97.0)])
def test_percentiles_out_of_order_are_refused(lower, upper):
    with pytest.raises(InvalidInput, match=f"got {lower} and {upper}"):
        anchor_transition_matrix(spread()[0], lower=lower, upper=upper)


def test_no_images_have_no_anchors():
    with pytest.raises(InvalidInput, match="no images"):
        anchor_transition_matrix(np.zeros((0, 3)))


def test_soft_counts_are_the_sum_over_images():
    probs, labels = spread(300)
    labels[::7] = -1
    known = labels >= 0
    expected = [[probs[known & (labels == j), i].sum() / probs[known, i].sum() for j in range(4)] for i in range(4)]
    np.testing.assert_allclose(soft_transition_matrix(probs, labels), expected, rtol=1e-12)


def test_what_nothing_is_believed_of_keeps_its_label():
    found = soft_transition_matrix(np.array([[1.0, 0, 0], [0, 1, 0]]), np.array([2, 1]))
    assert found.tolist() == [[0, 0, 1], [0, 1, 0], [0, 0, 1]]


def test_checked_images_are_counted():
    clean, noisy = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2]), np.array([0, 0, 2, 1, 0, 2, 2, 1, 2])
    found = counted_transition_matrix(noisy, clean, 3)
    np.testing.assert_allclose(found, [[2 / 3, 0, 1 / 3], [1 / 2, 1 / 2, 0], [0, 1 / 4, 3 / 4]])


def test_classes_with_too_few_checked_images_get_symmetric_noise_at_the_rate_of_all():
    clean, noisy = np.array([0, 0, 0, 2]), np.array([0, 0, 1, 1])  # half are wrong
    assert counted_transition_matrix(noisy, clean, 3).tolist() == [[2 / 3, 1 / 3, 0], [0.25, 0.5, 0.25], [0, 1, 0]]
    found = counted_transition_matrix(noisy, clean, 3, least=2)
    assert found.tolist() == [[2 / 3, 1 / 3, 0], [0.25, 0.5, 0.25], [0.25, 0.25, 0.5]]
    found = counted_transition_matrix(noisy, clean, 3, fallback=np.eye(3))
    assert found.tolist() == [[2 / 3, 1 / 3, 0], [0, 1, 0], [0, 1, 0]]


def test_counting_refuses_what_it_cannot_count():
    with pytest.raises(InvalidInput, match="no image's true class is known"):
        counted_transition_matrix(np.zeros(0, int), np.zeros(0, int), 3)
    with pytest.raises(InvalidInput, match="clean_labels: 0 to 3; 0 to 2 are possible"):
        counted_transition_matrix(np.array([0, 1]), np.array([0, 3]), 3)


def test_the_network_is_averaged_over_the_images_of_each_true_class():
    probs, clean = spread(100)
    expected = [probs[clean == k].mean(axis=0) for k in range(4)]
    np.testing.assert_allclose(gold_transition_matrix(probs, clean), expected, rtol=1e-12)
    # A class that has none: symmetric, 1 - the mean probability of the true class.
    some = clean != 3
    wrong = 1 - probs[some, clean[some]].mean()
    found = gold_transition_matrix(probs[some], clean[some])
    np.testing.assert_allclose(found[:3], expected[:3], rtol=1e-12)
    np.testing.assert_allclose(found[3], [wrong / 3] * 3 + [1 - wrong], rtol=1e-12)


ESTIMATES = {
    "anchor": lambda probs, labels: anchor_transition_matrix(probs),
    "single anchor": lambda probs, labels: anchor_transition_matrix(probs, single=True),
    "confident": confident_joint_transition_matrix,
    "soft": soft_transition_matrix,
    "gold": gold_transition_matrix,
}


@pytest.mark.parametrize("name", ESTIMATES)
def test_blocks_and_files_give_the_same_and_inputs_stay_as_they_were(name, tmp_path, monkeypatch):
    probs, labels = spread(500)
    before = probs.copy(), labels.copy()
    expected = ESTIMATES[name](probs, labels)
    np.save(tmp_path / "probs.npy", probs)
    mapped = np.load(tmp_path / "probs.npy", mmap_mode="r")

    assert np.array_equal(ESTIMATES[name](mapped, labels), expected)
    assert np.array_equal(probs, before[0])
    assert np.array_equal(labels, before[1])
    np.testing.assert_allclose(expected.sum(axis=1), 1, rtol=1e-12)
    for values in (4, 52, 1000):
        monkeypatch.setattr(estimate, "CHUNK_VALUES", values)
        monkeypatch.setattr("winnow.noise.confident_joint.CHUNK_VALUES", values)
        found = ESTIMATES[name](mapped, labels)
        # Percentiles and counts are exact; sums of floating numbers depend on their order.
        np.testing.assert_allclose(found, expected, rtol=1e-12)


def test_estimates_recover_a_planted_matrix():
    """Labels drawn by the matrix, images whose true class is told with some doubt."""
    random = np.random.default_rng(0)
    clean = random.integers(0, 4, 20_000)
    noisy = (random.random(20_000)[:, None] > PLANTED.cumsum(axis=1)[clean]).sum(axis=1)
    sure = random.beta(20, 1, 20_000)[:, None]
    probs = (sure * np.eye(4)[clean] + (1 - sure) / 4) @ PLANTED  # of the noisy label
    identity_error = np.abs(np.eye(4) - PLANTED).sum()

    # Predictions of the noisy label are no posterior of the true one, so counting with them as weights is coarse.
    for name, most in (("anchor", 0.1), ("confident", 0.25), ("gold", 0.25)):
        found = ESTIMATES[name](probs, clean if name == "gold" else noisy)
        assert np.abs(found - PLANTED).sum() < most * identity_error, name
