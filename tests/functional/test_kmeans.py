"""k-means: where the optimum is known, where points are too few, and for equal seeds."""

import numpy as np
import pytest
import torch

from winnow.errors import InvalidInput
from winnow.functional import kmeans as module
from winnow.functional.kmeans import kmeans


def blobs(per_blob=20, seed=0, dtype=np.float64):
    centres = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    noise = np.random.default_rng(seed).standard_normal((3, per_blob, 2)) * 0.3
    return (centres[:, None] + noise).reshape(-1, 2).astype(dtype)


def test_separated_blobs_are_the_clusters_and_their_means_the_centroids():
    features = blobs()

    found = kmeans(features, 3, seed=0)

    names = [found.members[20 * blob] for blob in range(3)]
    assert sorted(names) == [0, 1, 2]
    assert np.array_equal(found.members, np.repeat(names, 20))
    inertia = 0.0
    for blob, name in enumerate(names):
        mine = features[20 * blob : 20 * (blob + 1)]
        np.testing.assert_allclose(found.centroids[name], mine.mean(axis=0), atol=1e-12)
        inertia += ((mine - mine.mean(axis=0)) ** 2).sum()
    assert found.inertia == pytest.approx(inertia, rel=1e-12)


def test_one_cluster_is_the_mean():
    features = blobs()

    np.testing.assert_allclose(kmeans(features, 1, seed=0).centroids, features.mean(axis=0, keepdims=True), atol=1e-12)


def test_a_seed_decides_and_blocks_do_not(monkeypatch):
    features = np.random.default_rng(0).random((200, 4))
    first = kmeans(features, 8, seed=3)
    again = kmeans(features, 8, seed=3)
    other = kmeans(features, 8, seed=4)
    monkeypatch.setattr(module, "BLOCK_BYTES", 2000)
    in_blocks = kmeans(features, 8, seed=3)

    assert np.array_equal(first.centroids, again.centroids)
    assert not np.array_equal(first.centroids, other.centroids)
    assert np.array_equal(first.members, in_blocks.members)
    np.testing.assert_allclose(first.centroids, in_blocks.centroids, atol=1e-12)


def test_more_restarts_never_fit_worse():
    features = np.random.default_rng(0).random((100, 3))

    fits = [kmeans(features, 10, seed=1, restarts=restarts).inertia for restarts in (1, 3, 9)]

    assert fits == sorted(fits, reverse=True)
    assert fits[-1] < fits[0]


def test_a_cluster_that_loses_its_points_starts_again_at_the_furthest(monkeypatch):
    features = blobs()
    # The last centroid is so far away that it would never get a point.
    monkeypatch.setattr(
        module, "_start", lambda points, count, random: points[[0, 25, 0]] + torch.tensor([[0], [0], [1e3]])
    )

    found = kmeans(features, 3, seed=0)

    assert np.bincount(found.members, minlength=3).tolist() == [20, 20, 20]


def test_fewer_points_than_clusters_are_a_cluster_each():
    features = blobs(per_blob=1)

    found = kmeans(features, 7, seed=0)

    assert sorted(found.members) == [0, 1, 2]
    np.testing.assert_allclose(found.centroids[found.members], features, atol=1e-12)
    assert found.inertia == pytest.approx(0, abs=1e-20)
    assert kmeans(features[:0], 4, seed=0).centroids.shape == (0, 2)


def test_copies_of_one_point_make_one_cluster_and_no_nan():
    found = kmeans(np.full((30, 3), 0.1, dtype=np.float32), 4, seed=0)

    assert set(found.members) == {0}
    np.testing.assert_allclose(found.centroids, 0.1, rtol=1e-6)


def test_what_cannot_be_clustered_is_refused():
    with pytest.raises(InvalidInput, match=r"^features: NaN or infinite in 1 of 2 rows, the first is row 1$"):
        kmeans(np.array([[0.0], [np.nan]]), 1, seed=0)
    for name in ("clusters", "iterations", "restarts"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            kmeans(blobs(), **({"clusters": 2, "seed": 0} | {name: 0}))
    with pytest.raises(ValueError, match="tolerance must be at least 0, got -1"):
        kmeans(blobs(), 2, seed=0, tolerance=-1.0)
