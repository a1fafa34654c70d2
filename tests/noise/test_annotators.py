"""Several annotators: each one's habits, and the law of their majority."""

from itertools import product

import numpy as np
import pytest

from winnow.errors import UsageError
from winnow.noise.annotators import annotator_matrices, annotators
from winnow.noise.matrices import pair_matrix, symmetric_matrix

from .checks import K, assert_fits, clean, counts, names


def test_the_mean_error_rate_is_the_one_asked_for():
    for rate, count in ((0.2, 3), (0.9, 5), (1.0, 3), (0.4, 1)):
        matrices = annotator_matrices(K, rate, count, seed=0)
        diagonal = np.diagonal(matrices, axis1=1, axis2=2)

        assert diagonal.mean() == pytest.approx(1 - rate)
        assert (matrices >= 0).all()
        assert np.abs(matrices.sum(axis=2) - 1).max() < 1e-12
    assert 1 - np.diagonal(annotator_matrices(K, 0.2, 3, seed=0), axis1=1, axis2=2)[:, 0] == pytest.approx(
        [0.1, 0.2, 0.3]
    )


@pytest.mark.parametrize("draw", ["exact", "expected"])
def test_every_annotator_follows_an_own_matrix(draw):
    noise = annotators(clean(), names(), K, 0.3, seed=1, draw=draw)
    matrices = annotator_matrices(K, 0.3, 3, seed=1)

    assert list(noise.label_columns) == ["annotator_1", "annotator_2", "annotator_3"]
    for matrix, (name, labels) in zip(matrices, noise.label_columns.items(), strict=True):
        assert_fits(counts(clean(), labels), matrix)
        assert noise.realised_rates[name] == (labels != clean()).mean()
    assert noise.transition_matrix is None


def test_the_majority_has_the_distribution_of_all_votes_enumerated():
    matrices = np.stack([symmetric_matrix(3, 0.4), pair_matrix(3, 0.5), symmetric_matrix(3, 0.2)])
    labels = clean(classes=3)
    expected = np.zeros((3, 3))
    for row in range(3):
        for votes in product(range(3), repeat=3):
            tally = np.bincount(votes, minlength=3)
            best = tally == tally.max()
            chance = np.prod([matrices[person][row][vote] for person, vote in enumerate(votes)])
            expected[row] += chance * best / best.sum()

    noise = annotators(labels, names(), 3, 0.3, seed=2, matrices=matrices, draw="expected")

    assert_fits(counts(labels, noise.noisy_labels, 3), expected)
    assert noise.realised_rate == (noise.noisy_labels != labels).mean()


def test_two_who_agree_outvote_a_third_and_one_alone_decides():
    right, wrong = np.eye(3), pair_matrix(3, 1.0)
    labels = clean(300, 3)

    two = annotators(labels, names(300), 3, 0.3, seed=0, matrices=np.stack([wrong, right, right]))
    one = annotators(labels, names(300), 3, 0.3, seed=0, matrices=wrong[None])

    assert not two.flipped.any()
    assert (one.noisy_labels == (labels + 1) % 3).all()
    assert (one.transition_matrix == wrong).all()


def test_a_subset_and_another_order_have_the_labels_of_the_whole():
    rows = np.random.default_rng(0).permutation(2000)[:700]
    ids = names(2000)

    whole = annotators(clean(2000), ids, K, 0.4, seed=3, draw="expected")
    part = annotators(clean(2000)[rows], [ids[row] for row in rows], K, 0.4, seed=3, draw="expected")

    assert (part.noisy_labels == whole.noisy_labels[rows]).all()


def test_no_noise_and_missing_labels_stay_as_they_are():
    labels = clean(500)
    labels[::7] = -1

    assert (annotators(labels, names(500), K, 0.0, seed=0).noisy_labels == labels).all()
    assert (annotators(labels, names(500), K, 0.5, seed=0).noisy_labels[::7] == -1).all()


def test_impossible_requests_are_refused():
    with pytest.raises(UsageError, match="at least 1 annotator"):
        annotators(clean(5), names(5), K, 0.1, seed=0, count=0)
    with pytest.raises(UsageError, match="rows summing to 1"):
        annotators(clean(5), names(5), K, 0.1, seed=0, matrices=np.ones((2, K, K)))
