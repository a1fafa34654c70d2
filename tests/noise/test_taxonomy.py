"""That every kind of noise is of the kind its tag says: measured on pictures."""

from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import cross_val_predict

from winnow.data.open import open_source
from winnow.data.source import Source
from winnow.noise.kinds import make_noise
from winnow.noise.taxonomy import KINDS

OPTIONS = {
    "ambiguity": {"class_map": "3:8,1:7"},
    "superclass": {"class_map": "3|8|5,1|7,0|2|4|6|9"},
    "open-set": {"donor": "uniform"},
    "web": {"class_map": "3|8|5,1|7,0|2|4|6|9", "donor": "uniform", "foreign_rate": 0.3},
}
BY_CLASS = [name for name, kind in KINDS.items() if kind.taxonomy in ("NCAR", "NAR")]
BY_IMAGE = [name for name, kind in KINDS.items() if kind.taxonomy == "NNAR"]


@pytest.fixture(scope="module")
def digits() -> Source:
    return open_source("digits")


def pixels_within_class(source):
    """Pictures as rows, less the mean of their class: what is left says nothing of the class by itself."""
    rows = source.pictures.array.reshape(len(source), -1) / 255.0
    for label in range(10):
        rows[source.noisy_labels == label] -= rows[source.noisy_labels == label].mean(axis=0)
    return rows


def cross_validated_auc(features, truth):
    model = LogisticRegression(C=0.1, max_iter=200)
    scores = cross_val_predict(model, features, truth, cv=5, method="decision_function")
    return roc_auc_score(truth, scores)


def standard_error(truth):
    """Of an area under the curve by chance."""
    return ((len(truth) + 1) / (12 * truth.sum() * (~truth).sum())) ** 0.5


@pytest.mark.parametrize("kind", BY_CLASS)
def test_given_the_class_nothing_in_the_picture_says_that_a_label_is_wrong(digits, kind):
    noise = make_noise(digits, kind, 0.4, seed=3, **OPTIONS.get(kind, {}))
    share = np.array([noise.flipped[digits.noisy_labels == label].mean() for label in range(10)])
    # Only classes that have both: rates of their own would show where a class differs in spread.
    mixed = ((share > 0.05) & (share < 0.95))[digits.noisy_labels]

    area = cross_validated_auc(pixels_within_class(digits)[mixed], noise.flipped[mixed])

    assert abs(area - 0.5) < 5 * standard_error(noise.flipped[mixed])


def target_areas(source, noise):
    """How well the picture tells the two most frequent wrong labels of each class apart."""
    features = pixels_within_class(source)
    areas, errors = [], []
    for label in range(10):
        mine = (source.noisy_labels == label) & noise.flipped
        found, sizes = np.unique(noise.noisy_labels[mine], return_counts=True)
        if len(found) < 2 or np.sort(sizes)[-2] < 8:
            continue
        first, second = found[np.argsort(-sizes)[:2]]
        rows = mine & np.isin(noise.noisy_labels, [first, second])
        truth = noise.noisy_labels[rows] == first
        areas.append(cross_validated_auc(features[rows], truth))
        errors.append(standard_error(truth))
    return np.mean(areas), np.sqrt(np.sum(np.square(errors))) / len(errors)


@pytest.mark.parametrize("kind", BY_IMAGE)
def test_the_picture_says_which_wrong_label_it_has(digits, kind):
    area, error = target_areas(digits, make_noise(digits, kind, 0.8, seed=3))

    assert area > 0.5 + 5 * error


def test_of_symmetric_noise_the_picture_says_no_target(digits):
    area, error = target_areas(digits, make_noise(digits, "symmetric", 0.9, seed=3))

    assert abs(area - 0.5) < 5 * error


@pytest.mark.parametrize("kind", KINDS)
def test_of_every_kind_nothing_comes_of_a_rate_of_zero(digits, kind):
    options = OPTIONS.get(kind, {}) | ({"foreign_rate": 0.0} if kind == "web" else {})
    noise = make_noise(digits, kind, 0.0, **options)

    assert (noise.noisy_labels == digits.noisy_labels).all()
    assert noise.realised_rate == 0
    assert noise.pictures is None
    assert noise.taxonomy == KINDS[kind].taxonomy
    assert noise.convention.startswith(kind)


def test_the_page_on_noise_lists_every_kind_with_its_tag():
    page = (Path(__file__).parents[2] / "docs" / "noise.md").read_text(encoding="utf-8")

    for name, kind in KINDS.items():
        assert any(line.startswith(f"| `{name}` | {kind.taxonomy} |") for line in page.splitlines()), name
