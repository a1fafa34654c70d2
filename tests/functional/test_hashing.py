import numpy as np
import pytest

from winnow.functional.hashing import (
    Window,
    alike,
    components,
    cosine_transform,
    exact_groups,
    hash_distances,
    most_alike,
    near_hashes,
    perceptual_hash,
    resampling,
    scaled,
    thumbnails,
)


def pictures(number, side=48, channels=1, seed=0):
    """Smooth random pictures."""
    noise = np.random.default_rng(seed).normal(size=(number, 6, 6, channels))
    grid = np.linspace(0, 5, side)
    weights = np.maximum(0, 1 - np.abs(grid[:, None] - np.arange(6)))
    smooth = np.einsum("ai,nijc,bj->nabc", weights, noise, weights)
    return np.clip(128 + 60 * smooth, 0, 255).astype(np.uint8)


def test_the_transform_is_scipys_cosine_transform():
    from scipy.fft import dctn

    image = np.random.default_rng(0).normal(size=(32, 32))
    matrix = cosine_transform(32).astype(np.float64)

    # scipy's type II has a factor 2 in each direction.
    assert matrix @ image @ matrix.T == pytest.approx(dctn(image, type=2) / 4, abs=1e-4)


def test_the_hash_is_above_the_median_of_the_low_frequencies():
    images = np.random.default_rng(1).integers(0, 256, (30, 32, 32, 1), dtype=np.uint8)
    n, k = np.arange(32), np.arange(8)
    basis = np.cos(np.pi * np.outer(k, 2 * n + 1) / 64)
    low = (basis @ images[..., 0].astype(float) @ basis.T).reshape(30, 64)
    expected = [int("".join("1" if value > np.median(each) else "0" for value in each), 2) for each in low]

    assert perceptual_hash(images).tolist() == expected
    # 32 of 64 values lie above a median of distinct values.
    assert (np.bitwise_count(perceptual_hash(images)) == 32).all()


def test_grey_is_the_luma_of_colour():
    image = np.zeros((1, 4, 4, 3), dtype=np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 10, 20, 30

    # 0.299 * 10 + 0.587 * 20 + 0.114 * 30 = 18.15.
    assert scaled(image, 2) == pytest.approx(np.full((1, 2, 2), 18.15), abs=1e-4)


def test_scaling_keeps_a_ramp_and_sums_to_one():
    weights = resampling(8, 4)

    assert weights.sum(axis=1) == pytest.approx(np.ones(4))
    # The two middle cells of 0..7 in fours are centred at 2.5 and 4.5.
    assert (weights @ np.arange(8))[1:3] == pytest.approx([2.5, 4.5])
    # Of one pixel to one pixel nothing changes.
    assert resampling(5, 5) == pytest.approx(np.eye(5))
    # The middle half of 8 pixels, in four: pixels 2 to 5.
    assert resampling(8, 4, 0.25, 0.5) == pytest.approx(np.eye(8)[2:6])


def test_a_mirrored_window_hashes_a_mirrored_image():
    images = pictures(5)

    assert (perceptual_hash(images, Window(mirrored=True)) == perceptual_hash(images[:, :, ::-1])).all()


def test_a_recoloured_and_a_scaled_copy_stay_near_and_others_far():
    images = pictures(40)
    brighter = np.clip(images * 0.8 + 20, 0, 255).astype(np.uint8)
    smaller = images[:, ::2, ::2]

    hashes = perceptual_hash(images)
    assert hash_distances(hashes, perceptual_hash(brighter)).max() <= 6
    assert hash_distances(hashes, perceptual_hash(smaller)).max() <= 10
    distances = hash_distances(hashes[:, None], hashes)
    assert distances[~np.eye(40, dtype=bool)].min() > 10
    assert (distances == distances.T).all()
    assert not distances.diagonal().any()


def test_thumbnails_have_length_one_and_flat_ones_none():
    images = np.concatenate([pictures(3, channels=3), np.full((1, 48, 48, 3), 77, np.uint8)])
    thumbs = thumbnails(images)

    assert (thumbs**2).sum(axis=1) == pytest.approx([1, 1, 1, 0], abs=1e-5)
    assert thumbs.mean(axis=1) == pytest.approx(np.zeros(4), abs=1e-6)
    # Correlation does not see brightness or contrast.
    assert (thumbs[:3] * thumbnails(images[:3] // 2 + 30)).sum(axis=1) == pytest.approx(np.ones(3), abs=1e-3)


def test_blocks_find_every_pair_once(monkeypatch):
    monkeypatch.setattr("winnow.functional.hashing._PAIRS_AT_ONCE", 9)
    monkeypatch.setattr("winnow.functional.hashing._VALUES_AT_ONCE", 4)
    rng = np.random.default_rng(0)
    first, second = (rng.integers(0, 2, n).astype(np.uint64) for n in (7, 11))
    found = sorted(
        (int(r), int(c)) for rows, cols in near_hashes(first, second, 0) for r, c in zip(rows, cols, strict=True)
    )
    assert found == [(r, c) for r in range(7) for c in range(11) if first[r] == second[c]]

    a, b = rng.normal(size=(7, 3)).astype(np.float32), rng.normal(size=(11, 3)).astype(np.float32)
    pairs = sorted((int(r), int(c)) for rows, cols in alike(a, b, 0.5) for r, c in zip(rows, cols, strict=True))
    assert pairs == [(r, c) for r in range(7) for c in range(11) if a[r] @ b[c] >= 0.5]
    likeness, row = most_alike(a, b)
    assert row.tolist() == [int(np.argmax(x @ b.T)) for x in a]
    assert likeness == pytest.approx([max(x @ b.T) for x in a], rel=1e-6)


def test_exact_groups_are_named_by_their_first_row():
    images = np.zeros((5, 2, 2, 1), np.uint8)
    images[1], images[3], images[4, 0, 0] = 9, 9, 1

    assert exact_groups(images).tolist() == [0, 1, 0, 1, 4]


def test_components_follow_chains_to_the_smallest():
    pairs = [(np.array([4, 2]), np.array([3, 4])), (np.array([0]), np.array([1]))]

    assert components(6, pairs).tolist() == [0, 0, 2, 2, 2, 5]
    assert components(3, []).tolist() == [0, 1, 2]
