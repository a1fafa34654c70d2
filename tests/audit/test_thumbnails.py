"""Small pictures as features."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.audit.thumbnails import SIDE, neighbour_agreement, thumbnails
from winnow.data.pixels import ArrayPixels


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
    assert (thumbnails(ArrayPixels(np.full((1, 20, 20, 3), 7, np.uint8))) == 0).all()


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
