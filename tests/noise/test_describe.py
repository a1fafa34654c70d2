"""The kind of noise is named right where it was planted; each observation by hand."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.data.builtin import digits
from winnow.functional.neighbours import neighbours
from winnow.noise.cluster import cluster
from winnow.noise.describe import FEWEST, LIMITS, _collision, describe, smallest_check
from winnow.noise.features import out_of_fold_probabilities, thumbnail_features
from winnow.noise.inject import asymmetric, pair, symmetric

CLASSES, EACH = 6, 100


def groups(seed, spread=0.25):
    """Images around six centres far apart, in eight dimensions: (features, true classes, ids)."""
    random = np.random.default_rng(seed)
    centres = 2 * np.eye(8)[:CLASSES]
    truth = np.repeat(np.arange(CLASSES), EACH)
    features = (centres[truth] + spread * random.normal(size=(len(truth), 8))).astype(np.float32)
    return features, truth, [f"{i}.png" for i in range(len(truth))]


def named(features, truth, labels, **more):
    """The description when belief is right."""
    nearest = neighbours(features, 10, metric="cosine").indices
    return describe(labels, truth, labels != truth, nearest, CLASSES, **more)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("symmetric", "random"),
        ("pair", "class-conditional"),
        ("asymmetric", "class-conditional"),
        ("cluster", "instance-dependent"),
    ],
)
def test_names_planted_noise(kind, name, seed):
    features, truth, ids = groups(seed)
    made = {
        "symmetric": lambda: symmetric(truth, ids, CLASSES, 0.2, seed=seed),
        "pair": lambda: pair(truth, ids, CLASSES, 0.2, seed=seed),
        "asymmetric": lambda: asymmetric(truth, ids, CLASSES, 0.4, {0: 1, 3: 4}, seed=seed),
        "cluster": lambda: cluster(truth, ids, CLASSES, 0.3, features, seed=seed),
    }[kind]()

    found = named(features, truth, made.noisy_labels)

    assert found.name == name
    for item in found.evidence:
        assert item.low <= item.value <= item.high


@pytest.mark.parametrize("seed", range(4))
def test_a_label_that_the_image_decides_is_instance_dependent(seed):
    features, truth, _ = groups(seed)
    side = features[:, 7] > 0  # says nothing of the class
    wrong = np.random.default_rng(seed).random(len(truth)) < 0.3
    labels = np.where(wrong, (truth + np.where(side, 1, 2)) % CLASSES, truth)
    nearest = neighbours(np.column_stack([features, 3 * features[:, 7]]), 10, metric="cosine").indices

    found = describe(labels, truth, wrong, nearest, CLASSES)

    assert found.name == "instance-dependent"


def test_foreign_images_are_open_set():
    features, truth, ids = groups(0)
    labels = symmetric(truth, ids, CLASSES, 0.2, seed=0).noisy_labels
    score = np.random.default_rng(0).random(len(truth)) + 2 * (labels != truth)

    found = named(features, truth, labels, outlier_score=score)
    foreign = next(item for item in found.evidence if item.name == "foreign")

    assert found.name == "open-set"
    assert foreign.value == pytest.approx(1)
    assert named(features, truth, labels, outlier_score=np.random.default_rng(1).random(len(truth))).name == "random"


def test_too_few_doubted_labels_are_no_kind():
    features, truth, _ = groups(0)
    labels = truth.copy()
    labels[:29] = 5

    assert named(features, truth, labels).name == "none"
    assert named(features[:100], truth[:100], labels[:100]).name == "unclear"


def test_what_a_model_gets_wrong_on_clean_digits_is_no_noise():
    source = digits()
    features, labels = thumbnail_features(source), source.noisy_labels
    believed = out_of_fold_probabilities(features, labels, source.ids, 10).argmax(axis=1)
    nearest = neighbours(features, 10, metric="cosine").indices

    found = describe(labels, believed, believed != labels, nearest, 10)

    assert (believed != labels).sum() >= FEWEST
    assert found.name == "none"


def test_missing_labels_say_nothing():
    features, truth, ids = groups(1)
    labels = symmetric(truth, ids, CLASSES, 0.2, seed=1).noisy_labels
    hidden = np.where(np.arange(len(labels)) % 7 == 0, -1, labels)
    found = describe(hidden, truth, np.ones(len(labels), bool), neighbours(features, 10).indices, CLASSES)

    assert found.name == "random"


def test_the_same_seed_gives_the_same_intervals():
    features, truth, ids = groups(2)
    labels = pair(truth, ids, CLASSES, 0.2, seed=2).noisy_labels

    assert named(features, truth, labels, seed=3) == named(features, truth, labels, seed=3)


def test_agreement_of_wrong_labels_is_that_of_pairs_with_its_jackknife():
    counts = np.array([[0, 3, 1], [0, 0, 0], [2, 0, 0]])
    value, error = _collision(counts)
    left = []
    for i, j in [(0, 1)] * 3 + [(0, 2)] + [(2, 0)] * 2:
        rest = counts.copy()
        rest[i, j] -= 1
        sums = rest.sum(axis=1)
        left.append((rest * (rest - 1)).sum() / (sums * (sums - 1)).sum())

    # Pairs: 3 * 2 + 2 of one label among 4 * 3 + 2.
    assert value == pytest.approx(8 / 14)
    assert error == pytest.approx(np.sqrt(5 / 6 * np.square(np.array(left) - np.mean(left)).sum()))


def test_the_smallest_check_that_bounds_five_percent():
    assert smallest_check() == 59
    assert 0.95**59 < 0.05 < 0.95**58
    assert "60 random images" in LIMITS[0]
