"""Cluster noise: wrong labels that lie together."""

import numpy as np
import pytest

from winnow.errors import UsageError
from winnow.noise.cluster import cluster

from .checks import clean, names

# Four well separated groups in every class.
GROUP = np.random.default_rng(7).integers(0, 4, 4000)
FEATURES = (np.eye(4)[GROUP] * 50 + np.random.default_rng(1).normal(size=(4000, 4))).astype(np.float32)
LABELS = clean(4000, 5)


def made(rate, **options):
    return cluster(LABELS, names(4000), 5, rate, FEATURES, seed=options.pop("seed", 0), clusters=4, **options)


def test_counts_are_exact_for_every_class():
    noise = made(0.4)

    for label in range(5):
        mine = label == LABELS
        assert noise.flipped[mine].sum() == round(0.4 * mine.sum())
        assert noise.transition_matrix[label] == pytest.approx(
            np.bincount(noise.noisy_labels[mine], minlength=5) / mine.sum()
        )


def test_whole_groups_are_changed_each_to_one_class_but_for_the_last():
    noise = made(0.4)

    for label in range(5):
        shares = []
        for group in range(4):
            rows = (label == LABELS) & (group == GROUP)
            targets = set(noise.noisy_labels[rows & noise.flipped].tolist())
            assert len(targets) <= 1
            assert label not in targets
            shares.append(noise.flipped[rows].mean())
        # One group as a whole, one in part, the others not at all.
        assert sorted(share == 0 for share in shares) == [False, False, True, True]
        assert max(shares) == 1


def test_the_part_of_a_cluster_that_is_changed_is_its_middle():
    noise = made(0.1)

    for label in range(5):
        rows = np.flatnonzero(label == LABELS)
        group = GROUP[rows[noise.flipped[rows]][0]]
        rows = rows[GROUP[rows] == group]
        distance = np.linalg.norm(FEATURES[rows] - FEATURES[rows].mean(axis=0), axis=1)
        assert distance[noise.flipped[rows]].max() < distance[~noise.flipped[rows]].min() + 1e-3


def test_seed_order_rate_zero_and_missing_labels():
    order = np.random.default_rng(2).permutation(4000)
    ids = names(4000)
    labels = LABELS.copy()
    labels[::6] = -1

    forward = made(0.3).noisy_labels
    shuffled = cluster(
        LABELS[order], [ids[row] for row in order], 5, 0.3, FEATURES[order], seed=0, clusters=4
    ).noisy_labels

    assert (shuffled == forward[order]).all()
    assert (forward != made(0.3, seed=1).noisy_labels).any()
    assert not made(0.0).flipped.any()
    assert (cluster(labels, ids, 5, 0.3, FEATURES, seed=0).noisy_labels[::6] == -1).all()


def test_copies_of_one_image_and_classes_smaller_than_their_clusters_are_no_trouble():
    noise = cluster(np.array([0, 0, 0, 1]), names(4), 3, 0.5, np.zeros((4, 2), np.float32), seed=0)

    assert noise.flipped.sum() == 2


def test_impossible_requests_are_refused():
    with pytest.raises(UsageError, match="at least 1 cluster"):
        cluster(LABELS, names(4000), 5, 0.3, FEATURES, seed=0, clusters=0)
    with pytest.raises(UsageError, match="rows of features"):
        cluster(LABELS, names(4000), 5, 0.3, FEATURES[:7], seed=0)
