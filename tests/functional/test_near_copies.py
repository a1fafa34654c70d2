"""Near copies: the search against brute force, the law of chance pairs, tangent distances."""

import numpy as np
import pytest

from tests.functional.test_hashing import pictures
from winnow.functional import near_copies
from winnow.functional.hashing import thumbnails
from winnow.functional.near_copies import Chance, Nearest, chance, nearest, scales


def unit(count, seed=0):
    values = np.random.default_rng(seed).normal(size=(count, 256)).astype(np.float32)
    values -= values.mean(axis=1, keepdims=True)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def test_a_small_shift_is_nearly_no_distance():
    image = pictures(1, side=60)
    shifted = thumbnails(np.roll(image, 1, axis=2)[:, 4:-4, 4:-4])
    whole = thumbnails(image[:, 4:-4, 4:-4])
    plain = np.sqrt(1 - float((whole * shifted).sum()) ** 2)

    assert nearest(whole, shifted, k=1).distances[0, 0] < 0.25 * plain


def test_without_moves_the_distance_is_the_sine_of_the_angle(monkeypatch):
    monkeypatch.setattr(near_copies, "_tangents", lambda thumbs: np.zeros((len(thumbs), 3, 256), np.float32))
    points = unit(30)
    found = nearest(points, k=3)
    products = points.astype(np.float64) @ points.T.astype(np.float64)
    np.fill_diagonal(products, -1)
    expected = np.sort(products, axis=1)[:, ::-1][:, :3]

    assert found.distances == pytest.approx(np.sqrt(1 - expected**2), abs=1e-4)
    assert (np.take_along_axis(products, found.indices, axis=1) == expected).all()


def test_cells_find_the_copies_that_brute_force_finds(monkeypatch):
    originals = pictures(600, side=32, seed=3)
    noise = np.random.default_rng(1).normal(0, 2, originals[:100].shape)
    copies = np.clip(originals[:100] + noise, 0, 255).astype(np.uint8)
    points = thumbnails(np.concatenate([originals, copies]))
    whole = nearest(points)
    monkeypatch.setattr(near_copies, "SEARCHED_WHOLE", 10)
    in_cells = nearest(points)

    assert (whole.indices[600:, 0] == np.arange(100)).all()
    assert (in_cells.indices[600:, 0] == np.arange(100)).all()
    assert (in_cells.indices[:, 0] == whole.indices[:, 0]).mean() > 0.6


@pytest.mark.parametrize("whole", [4096, 10])
def test_the_order_of_points_does_not_matter(monkeypatch, whole):
    monkeypatch.setattr(near_copies, "SEARCHED_WHOLE", whole)
    points = thumbnails(pictures(200, side=32, seed=5))
    order = np.random.default_rng(0).permutation(200)
    first, second = nearest(points), nearest(points[order])

    assert second.distances == pytest.approx(first.distances[order], abs=1e-5)


def test_flat_and_lone_points_have_no_neighbours():
    points = np.concatenate([unit(2), np.zeros((1, 256), np.float32)])
    found = nearest(points)

    assert (found.indices[2] == -1).all()
    assert np.isinf(found.distances[2]).all()
    assert np.isinf(scales(found)[2])
    assert nearest(unit(1)).indices.tolist() == [[-1] * 5]


def test_a_scale_is_the_last_distance_but_not_below_the_lowest_hundredth():
    distances = np.tile(np.array([[0.1, 0.2]], np.float32), (101, 1))
    distances[7] = 0.001
    scale = scales(Nearest(np.zeros((101, 2), np.int64), distances))

    # The quantile .01 of 101 numbers is the second smallest.
    assert scale == pytest.approx(np.full(101, 0.2))


@pytest.mark.parametrize("dimensions", [3.0, 8.0])
def test_the_dimensions_are_those_of_the_law(dimensions):
    """Of k - 1 points within the last one, a ratio to the power of m is uniform."""
    uniform = np.sort(np.random.default_rng(0).random((20_000, 4)), axis=1)
    distances = np.concatenate([uniform ** (1 / dimensions), np.ones((20_000, 1))], axis=1)
    law = chance(Nearest(np.zeros(distances.shape, np.int64), distances), np.ones(20_000), looks=2)

    assert law.dimensions == pytest.approx(dimensions, rel=0.03)
    assert law.trials == 2 * 20_000 * 4
    assert (distances[:, :4] < law.bound(200.0)).sum() == pytest.approx(100, abs=40)


def test_the_bound_is_where_so_many_are_expected():
    law = Chance(1000, 2.0)

    assert law.bound(0.1) == pytest.approx(0.01)  # 1000 x .01^2 = .1
    assert Chance(0, 0.0).bound(1.0) == 0
    assert Chance(10, 2.0).bound(100.0) == 1
