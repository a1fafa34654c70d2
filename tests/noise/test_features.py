"""Features without a network, and the opinion of a linear model."""

import numpy as np
import pytest
from PIL import Image

from winnow.data.open import open_source
from winnow.data.rows import subset
from winnow.errors import InputError
from winnow.noise.features import (
    WIDTH,
    confusable_map,
    out_of_fold_probabilities,
    standardised,
    thumbnail_features,
)

from .checks import names


def test_standardised_images_have_mean_zero_and_the_length_of_their_size():
    images = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    images[3] = 77

    rows = standardised(images)

    assert rows.mean(axis=1) == pytest.approx(np.zeros(5), abs=1e-12)
    assert (rows**2).sum(axis=1) == pytest.approx([48, 48, 48, 0, 48])


def test_features_depend_on_the_picture_alone_and_keep_lengths_on_average():
    digits = open_source("digits", limit=300)
    rows = np.array([250, 3, 77])

    features = thumbnail_features(digits)

    assert features.shape == (300, WIDTH)
    assert features.dtype == np.float32
    assert np.abs(thumbnail_features(subset(digits, rows)) - features[rows]).max() < 1e-5
    # 256 standardised pixels; the mean squared length over many pictures is kept within some per cent.
    assert (features**2).sum(axis=1).mean() == pytest.approx(256, rel=0.15)


def test_pictures_that_cannot_be_read_give_zeros(tmp_path):
    for row in range(6):
        (tmp_path / "a").mkdir(exist_ok=True)
        pixels = np.random.default_rng(row).integers(0, 256, (9, 9, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "a" / f"{row}.png")
    (tmp_path / "a" / "2.png").write_bytes(b"broken")

    features = thumbnail_features(open_source(tmp_path))

    assert [bool(row.any()) for row in features] == [True, True, False, True, True, True]
    for row in range(6):
        (tmp_path / "a" / f"{row}.png").write_bytes(b"broken")
    with pytest.raises(InputError, match="none of the 6 images"):
        thumbnail_features(open_source(tmp_path))


def test_no_image_is_judged_by_a_model_that_saw_it():
    # Labels without any relation to the features: an honest model is right by chance, one that saw them far more.
    features = np.random.default_rng(0).normal(size=(400, 200)).astype(np.float32)
    labels = np.random.default_rng(1).integers(0, 2, 400)

    probabilities = out_of_fold_probabilities(features, labels, names(400), 2)
    right = (probabilities.argmax(axis=1) == labels).mean()

    assert abs(right - 0.5) < 5 * 0.5 / 400**0.5
    assert probabilities.sum(axis=1) == pytest.approx(1, abs=1e-6)


def test_probabilities_do_not_depend_on_the_order_and_empty_classes_have_none():
    digits = open_source("digits", limit=300)
    features = thumbnail_features(digits)
    labels = np.where(digits.noisy_labels == 4, -1, digits.noisy_labels)
    order = np.random.default_rng(2).permutation(300)

    forward = out_of_fold_probabilities(features, labels, digits.ids, 10)
    shuffled = out_of_fold_probabilities(features[order], labels[order], [digits.ids[row] for row in order], 10)

    assert np.abs(shuffled - forward[order]).max() < 1e-6
    assert not forward[:, 4].any()
    known = labels >= 0
    assert (forward.argmax(axis=1) == labels)[known].mean() > 0.8


def test_one_class_alone_is_certain_and_no_label_is_too_few():
    features = np.zeros((20, 3), np.float32)

    assert (out_of_fold_probabilities(features, np.zeros(20, int), names(20), 3)[:, 0] == 1).all()
    with pytest.raises(InputError, match="too few"):
        out_of_fold_probabilities(features, np.full(20, -1), names(20), 3)


def test_the_confusable_class_is_the_largest_beside_the_diagonal():
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 3, -1])
    predicted = np.array([0, 2, 2, 1, 1, 0, 1, 3, 2])
    probabilities = np.eye(4, dtype=np.float32)[predicted] * 0.9 + 0.025
    probabilities[7] = [0.1, 0.3, 0.0, 0.6]

    assert confusable_map(labels, probabilities) == {0: 2, 1: 0, 3: 1}
