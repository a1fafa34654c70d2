"""Features without a network."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.audit.untrained import SIDE, edges, neighbour_agreement, thumbnails, untrained
from winnow.data.pixels import ArrayPixels

DIRECTIONS, WINDOWS = 9, 7


def test_a_thumbnail_is_the_mean_of_blocks_centred_and_of_length_one():
    picture = np.arange(32 * 32, dtype=np.uint16).reshape(32, 32) % 251
    blocks = picture.reshape(16, 2, 16, 2).mean(axis=(1, 3)).ravel()
    centred = blocks - blocks.mean()
    found = thumbnails(ArrayPixels(picture.astype(np.uint8)[None, :, :, None]))
    assert found.dtype == np.float32
    np.testing.assert_allclose(found[0], centred / np.linalg.norm(centred), atol=1e-6)


def test_tiny_pictures_keep_every_pixel_and_colours_stay_apart():
    random = np.random.default_rng(0)
    assert thumbnails(ArrayPixels(random.integers(0, 255, (3, 8, 8, 1), dtype=np.uint8))).shape == (3, 64)
    assert thumbnails(ArrayPixels(random.integers(0, 255, (3, 64, 64, 3), dtype=np.uint8))).shape == (3, 3 * SIDE**2)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 3), st.integers(0, 60))
def test_neither_contrast_nor_brightness_counts(factor, shift):
    picture = np.random.default_rng(1).integers(0, 64, (1, 16, 16, 1), dtype=np.uint8)
    changed = picture * factor + shift
    pair = thumbnails(ArrayPixels(np.concatenate([picture, changed]).astype(np.uint8)))
    np.testing.assert_allclose(pair[0], pair[1], atol=1e-6)


def test_a_flat_picture_is_zero():
    assert (untrained(ArrayPixels(np.full((1, 20, 20, 3), 7, np.uint8))) == 0).all()


def histograms(picture: np.ndarray) -> np.ndarray:
    """Edges of one picture, by direction and window."""
    return edges(ArrayPixels(picture.astype(np.uint8)[None])).reshape(DIRECTIONS, WINDOWS, WINDOWS)


def step(axis: int) -> np.ndarray:
    """Dark, from the middle on bright, in columns or in rows."""
    picture = np.zeros((32, 32, 1))
    picture[(slice(None),) * axis + (slice(16, None),)] = 90
    return picture


def test_an_upright_step_lies_in_the_first_direction_of_the_windows_that_it_crosses():
    found = histograms(step(axis=1))
    # Central differences see it in columns 15 and 16: both in window 3 (columns 12 to 19), one each in 2 and 4.
    one = np.sqrt(1 / 2)  # of window 3 against 1 for two columns, before all is brought to length 1
    expected = np.zeros((DIRECTIONS, WINDOWS, WINDOWS))
    expected[0, :, 2], expected[0, :, 3], expected[0, :, 4] = one, 1, one
    np.testing.assert_allclose(found, expected / np.linalg.norm(expected), atol=1e-6)


def test_a_level_step_is_shared_by_the_two_directions_nearest_to_it():
    found = histograms(step(axis=0))  # a gradient of 90 degrees, of nine directions 20 degrees apart the 4.5th
    assert np.flatnonzero(found.sum(axis=(1, 2))).tolist() == [4, 5]
    np.testing.assert_allclose(found[4], found[5], atol=1e-6)


def test_a_gradient_between_directions_is_shared_by_nearness():
    slope = np.add.outer(np.zeros(32), 3.0 * np.arange(32)) + np.add.outer(np.arange(32.0), np.zeros(32))
    inner = histograms(slope[..., None])[:, 1:-1, 1:-1]
    share = np.arctan2(1, 3) / np.pi * DIRECTIONS  # 0.92: between the first two directions
    np.testing.assert_allclose(inner[1] ** 2 / (inner[0] ** 2 + inner[1] ** 2), share, atol=1e-4)
    assert (inner[2:] == 0).all()


def test_an_edge_from_bright_to_dark_is_the_same_edge():
    picture = np.random.default_rng(2).integers(0, 255, (32, 32, 1))
    np.testing.assert_allclose(histograms(picture), histograms(255 - picture), atol=1e-6)


def test_of_the_channels_the_one_that_changes_most_counts():
    coloured = np.concatenate([np.zeros((32, 32, 1)), step(axis=1), 0.5 * step(axis=0)], axis=2)
    found = histograms(coloured)
    # Along the level step the second channel is still, the third is not; elsewhere the upright step is the stronger.
    assert found[0].sum() > 0
    assert found[4].sum() > 0
    plain = histograms(step(axis=1))
    np.testing.assert_allclose(found[0, :2] / found[0, 0, 3], plain[0, :2] / plain[0, 0, 3], atol=1e-5)


def test_edges_and_thumbnail_lie_side_by_side():
    pictures = ArrayPixels(np.random.default_rng(0).integers(0, 255, (3, 20, 20, 3), dtype=np.uint8))
    found = untrained(pictures)
    np.testing.assert_array_equal(found[:, :441], edges(pictures))
    np.testing.assert_array_equal(found[:, 441:], 0.5 * thumbnails(pictures))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), np.sqrt(1.25), rtol=1e-5)


def test_agreement_counts_labels_that_most_neighbours_share():
    angles = np.concatenate([np.linspace(0, 0.1, 12), np.linspace(2, 2.1, 12)])
    features = np.column_stack([np.cos(angles), np.sin(angles)]).astype(np.float32)
    labels = np.repeat([0, 1], 12)
    assert neighbour_agreement(features, labels) == 1
    labels[:3] = 1
    assert neighbour_agreement(features, labels) == pytest.approx(21 / 24)


def test_one_picture_has_no_neighbours_and_agrees_with_the_lowest_class():
    assert neighbour_agreement(np.ones((1, 2), np.float32), np.array([0])) == 1
    assert neighbour_agreement(np.ones((1, 2), np.float32), np.array([1])) == 0
