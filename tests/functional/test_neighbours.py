"""Nearest neighbours against brute force, by both searches."""

from importlib.util import find_spec

import numpy as np
import pytest

from winnow.errors import InvalidInput
from winnow.functional import neighbours as module
from winnow.functional.neighbours import neighbours

SEARCHES = [
    "torch",
    pytest.param("faiss", marks=pytest.mark.skipif(find_spec("faiss") is None, reason="the extra faiss is not here")),
]


def points(count, dim=6, seed=0, dtype=np.float64):
    return np.random.default_rng(seed).standard_normal((count, dim)).astype(dtype)


def brute_force(features, queries, k, metric, *, without_self=False):
    """Every distance by its definition, sorted by (distance, index)."""
    answer = []
    for row, query in enumerate(queries):
        ranked = []
        for index, point in enumerate(features):
            if metric == "euclidean":
                distance = float(np.sqrt(((query - point) ** 2).sum()))
            else:
                distance = 1 - float(query @ point) / float(np.linalg.norm(query) * np.linalg.norm(point))
            if not (without_self and row == index):
                ranked.append((distance, index))
        answer.append(sorted(ranked)[:k])
    return np.array([[i for _, i in row] for row in answer]), np.array([[d for d, _ in row] for row in answer])


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
@pytest.mark.parametrize("count", [20, 150])
def test_neighbours_within_a_set_are_those_of_brute_force(search, metric, count):
    features = points(count)
    indices, distances = brute_force(features, features, 4, metric, without_self=True)

    found = neighbours(features, 4, metric=metric, search=search)

    assert np.array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=0, atol=1e-12)


@pytest.mark.parametrize("search", SEARCHES)
@pytest.mark.parametrize("metric", ["euclidean", "cosine"])
def test_neighbours_of_queries_are_those_of_brute_force(search, metric):
    features, queries = points(150, seed=1) + 3, points(30, seed=2)
    indices, distances = brute_force(features, queries, 5, metric)

    found = neighbours(features, 5, queries=queries, metric=metric, search=search)

    assert np.array_equal(found.indices, indices)
    np.testing.assert_allclose(found.distances, distances, rtol=0, atol=1e-12)


@pytest.mark.parametrize("search", SEARCHES)
def test_blocks_tiles_and_groups_do_not_change_the_answer(search, monkeypatch):
    features = points(700, dim=3, dtype=np.float32)
    whole = neighbours(features, 2, search=search)
    monkeypatch.setattr(module, "SPARE", 1)
    monkeypatch.setattr(module, "BLOCK_ROWS", 90)
    monkeypatch.setattr(module, "TILE_COLUMNS", 211)
    monkeypatch.setattr(module, "BLOCK_BYTES", 3000)
    monkeypatch.setattr(module, "CANDIDATE_BYTES", 3000)

    parts = neighbours(features, 2, search=search)

    assert np.array_equal(parts.indices, whole.indices)
    assert np.array_equal(parts.distances, whole.distances)
    indices, _ = brute_force(features.astype(np.float64), features[:40].astype(np.float64), 2, "euclidean",
                             without_self=True)  # fmt: skip
    assert np.array_equal(whole.indices[:40], indices)


@pytest.mark.parametrize("search", SEARCHES)
def test_of_equally_near_points_the_lower_index_comes_first(search):
    # A lattice: many neighbours of a point are exactly as near as others.
    grid = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), axis=-1).reshape(-1, 3)
    features = grid[np.random.default_rng(0).permutation(len(grid))]
    indices, distances = brute_force(features, features, 3, "euclidean", without_self=True)

    found = neighbours(features, 3, search=search)

    assert np.array_equal(found.indices, indices)
    assert np.array_equal(found.distances, distances)


@pytest.mark.parametrize("search", SEARCHES)
def test_copies_are_each_others_neighbours_at_distance_0(search):
    features = np.concatenate([points(1, dim=40, dtype=np.float32) * 100] * 60 + [points(200, 40, 1, np.float32)])

    found = neighbours(features, 3, search=search)

    assert (found.distances[:60] == 0).all()
    assert found.indices[0].tolist() == [1, 2, 3]
    assert found.indices[2].tolist() == [0, 1, 3]


@pytest.mark.parametrize("search", SEARCHES)
def test_points_far_from_the_origin_are_told_apart(search):
    near = points(200, dim=2, dtype=np.float32)
    features = near + np.float32(10_000)
    exact = features.astype(np.float64)

    found = neighbours(features, 3, search=search)

    assert np.array_equal(found.indices, brute_force(exact, exact, 3, "euclidean", without_self=True)[0])


def test_a_product_that_overflows_is_not_believed():
    features = points(120, dtype=np.float32) * np.float32(1e30)

    found = neighbours(features, 3)

    assert np.array_equal(found.indices, neighbours(features.astype(np.float64) / 1e30, 3).indices)
    assert np.isfinite(found.distances).all()


def test_under_the_cosine_a_zero_vector_is_at_right_angles_to_all_others():
    features = np.array([[0.0, 0.0], [2.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])

    found = neighbours(features, 3, metric="cosine")

    assert found.indices.tolist() == [[3, 1, 2], [0, 3, 2], [0, 3, 1], [0, 1, 2]]
    np.testing.assert_allclose(found.distances, [[0, 1, 1], [1, 1, 2], [1, 1, 2], [0, 1, 1]], atol=1e-12)


@pytest.mark.parametrize(("count", "columns"), [(0, 0), (1, 0), (3, 2)])
def test_fewer_points_than_k_give_them_all(count, columns):
    found = neighbours(points(count), 5)

    assert found.indices.shape == found.distances.shape == (count, columns)
    assert neighbours(points(count), 5, queries=points(2)).indices.shape == (2, count)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_number_that_is_none_is_refused_in_one_line(bad):
    features = points(10)
    features[7, 2] = features[4, 0] = bad

    with pytest.raises(InvalidInput, match=r"^features: NaN or infinite in 2 of 10 rows, the first is row 4$"):
        neighbours(features, 2)
    with pytest.raises(InvalidInput, match=r"^queries: NaN or infinite in 2 of 10 rows"):
        neighbours(points(10), 2, queries=features)


def test_large_numbers_whose_sum_overflows_are_no_infinity():
    assert neighbours(np.full((4, 2), 1e308), 1).distances.tolist() == [[0.0]] * 4


def test_a_read_only_array_will_do():
    features = points(30)
    features.setflags(write=False)

    assert neighbours(features, 1).indices.shape == (30, 1)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"k": 0}, "k must be at least 1, got 0"),
        ({"k": 1, "metric": "manhattan"}, "metric must be euclidean or cosine, got manhattan"),
        ({"k": 1, "search": "annoy"}, "search must be torch or faiss, got annoy"),
    ],
)
def test_options_out_of_range_are_refused(options, says):
    with pytest.raises(ValueError, match=says):
        neighbours(points(4), **options)
