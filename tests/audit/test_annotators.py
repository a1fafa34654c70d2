"""Consensus of several people: habits are found, few labels are not over-read, limits are exact."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.audit.annotators import consensus
from winnow.noise.annotators import annotator_matrices

CLASSES = 4


def votes_of(rates, n=2000, seed=0):
    """Truth, and labels of people whose mistakes are uniform over the other classes."""
    random = np.random.default_rng(seed)
    truth = random.integers(CLASSES, size=n)
    columns = []
    for rate in rates:
        wrong = random.random(n) < rate
        columns.append(np.where(wrong, (truth + random.integers(1, CLASSES, n)) % CLASSES, truth))
    return truth, np.stack(columns, axis=1)


def test_each_persons_quality_is_found_and_lies_in_its_interval():
    rates = [0.05, 0.2, 0.5]
    _, votes = votes_of(rates)

    found = consensus(votes, CLASSES)

    assert found.quality == pytest.approx([0.95, 0.8, 0.5], abs=0.04)
    assert (found.quality_interval[:, 0] < found.quality).all()
    assert (found.quality < found.quality_interval[:, 1]).all()
    assert found.matrices.sum(axis=2) == pytest.approx(np.ones((3, CLASSES)))


def test_one_good_person_outweighs_two_bad_ones_who_agree_by_chance():
    truth, votes = votes_of([0.02, 0.6, 0.6], n=4000)

    found = consensus(votes, CLASSES)

    majority = np.array([np.bincount(row, minlength=CLASSES).argmax() for row in votes])
    assert (found.labels == truth).mean() > (majority == truth).mean() + 0.1
    assert (found.labels == truth).mean() > 0.97


def test_habits_are_told_apart_in_their_direction():
    """P(says j given class i), never its transpose: the first person calls class 0 by the name of class 1."""
    random = np.random.default_rng(1)
    truth = random.integers(CLASSES, size=4000)
    habit = np.where((truth == 0) & (random.random(4000) < 0.6), 1, truth)
    votes = np.stack([habit, truth, truth], axis=1)

    found = consensus(votes, CLASSES)

    assert found.matrices[0, 0, 1] == pytest.approx(0.6, abs=0.05)
    assert found.matrices[0, 1, 0] < 0.02


def test_missing_labels_count_for_nothing_and_nobody_leaves_the_shares():
    _, votes = votes_of([0.1, 0.1, 0.1])
    votes[:, 2] = -1
    votes[5] = -1

    found = consensus(votes, CLASSES)

    assert found.labels[5] == -1
    assert found.posterior[5] == pytest.approx(found.posterior[np.arange(2000) != 5].mean(axis=0), abs=0.02)
    assert found.counts.tolist() == [1999, 1999, 0]
    assert found.quality_interval[2].tolist() == [0.0, 1.0]
    alone = consensus(votes[:, :2], CLASSES)
    assert (alone.labels == found.labels).all()


def test_a_permutation_of_the_classes_permutes_the_answer():
    _, votes = votes_of([0.1, 0.3, 0.4], n=500)
    order = np.array([2, 0, 3, 1])

    found, permuted = consensus(votes, CLASSES), consensus(order[votes], CLASSES)

    assert permuted.posterior[:, order] == pytest.approx(found.posterior, abs=1e-6)
    assert permuted.matrices[:, order[:, None], order] == pytest.approx(found.matrices, abs=1e-6)


def test_unanimous_people_are_believed():
    labels = np.arange(40) % CLASSES

    found = consensus(np.stack([labels, labels, labels], axis=1), CLASSES)

    assert (found.labels == labels).all()
    assert (found.posterior.max(axis=1) > 0.95).all()


def test_habits_that_noise_was_made_with_are_recovered():
    matrices = annotator_matrices(CLASSES, 0.3, 3, seed=3)
    random = np.random.default_rng(0)
    truth = random.integers(CLASSES, size=20_000)
    votes = np.stack(
        [(matrices[a][truth].cumsum(axis=1) < random.random((20_000, 1))).sum(axis=1) for a in range(3)], 1
    )

    found = consensus(votes, CLASSES)

    assert np.abs(found.matrices - matrices).mean() < 0.02
