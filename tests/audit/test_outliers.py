"""Outliers: foreign pictures come first, a clean collection has none."""

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_sample_images

from winnow.audit.outliers import _beyond_the_body, find_outliers
from winnow.data.pixels import ArrayPixels
from winnow.functional.neighbours import neighbours


def digits():
    levels = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    return np.repeat(np.repeat(np.repeat(levels, 2, axis=1), 2, axis=2)[..., None], 3, axis=3)


def found_in(images, k=15):
    features = images.reshape(len(images), -1).astype(np.float32) / 255
    return find_outliers(neighbours(features, k), ArrayPixels(images))


def test_foreign_pictures_are_found_also_when_they_lie_together():
    photograph = load_sample_images().images[0]
    apart = np.stack([photograph[40 * place : 40 * place + 16, 50 * place : 50 * place + 16] for place in range(5)])
    together = np.stack([photograph[200 + place : 216 + place, 300:316] for place in range(10)])
    images = digits()
    outliers = found_in(np.concatenate([images, apart, together]))

    assert np.argsort(-outliers.score)[:15].min() >= len(images)
    assert set(range(len(images), len(images) + 15)) <= set(outliers.found.rows.tolist())
    assert len(outliers.found) < 15 + 0.01 * len(images)


def test_a_clean_collection_has_hardly_any():
    outliers = found_in(digits())

    assert len(outliers.found) <= 0.01 * len(outliers.score)


def test_scores_go_with_what_is_reported():
    images = np.concatenate([digits()[:300], load_sample_images().images[1][None, :16, :16]])
    outliers = found_in(images)
    reported = np.isin(np.arange(301), outliers.found.rows)

    assert reported[300]
    assert outliers.score[300] == outliers.score.max()
    assert outliers.score.min() == 0
    assert outliers.score.max() <= 1
    assert outliers.score[reported].min() > 0.5 >= outliers.score[~reported].max()
    assert (np.diff(outliers.score[outliers.found.rows]) <= 0).all()
    assert (np.diff(outliers.found.probability) <= 0).all()
    assert outliers.found.probability.min() >= 0.8
    assert len(outliers.found.reasons) == len(outliers.found)
    assert "times as far away as usual" in outliers.found.reasons[0]


def test_a_tight_class_beside_a_wide_one_has_its_own_outlier():
    """Near a tight class, a picture as far away as the wide class's pictures are is out of place."""
    random = np.random.default_rng(0)
    features = np.concatenate([random.normal(0, 0.1, (300, 8)), random.normal(9, 1, (300, 8)), [[1.5] * 8]])
    images = ArrayPixels(random.integers(0, 256, (601, 8, 8, 1), dtype=np.uint8))
    outliers = find_outliers(neighbours(features.astype(np.float32), 10), images)

    assert outliers.score.argmax() == 600


def test_the_body_explains_an_exponential_tail_and_not_what_is_beyond():
    body = -np.log(1 - (np.arange(1000) + 0.5) / 1000)  # the quantiles of an exponential of mean 1
    assert len(_beyond_the_body(body)[0]) == 0
    rows, probability, bound = _beyond_the_body(np.append(body, 20.0))

    assert rows.tolist() == [1000]
    # Expected above 20: 1001 exp(-20).
    assert 1 - probability[0] == pytest.approx(1001 * np.exp(-20), rel=0.1)
    assert 1001 * np.exp(-bound) == pytest.approx(0.2, rel=0.1)


@pytest.mark.parametrize("count", [1, 2, 19])
def test_a_few_images_have_none(count):
    outliers = found_in(digits()[:count])

    assert len(outliers.found) == 0
    assert outliers.score.tolist() == [0] * count


def test_equal_images_have_none():
    assert len(found_in(np.zeros((50, 8, 8, 3), np.uint8)).found) == 0
