"""The memory of a training orders the labels on each side of the doubt, and moves none across."""

from __future__ import annotations

import numpy as np
import pytest

from winnow.audit.embedded import ByHeart
from winnow.audit.latent_labels import Candidates, Posterior
from winnow.audit.memory import up_to_by_heart, with_memory
from winnow.audit.wrong_labels import judge


def believed(quality: np.ndarray) -> tuple[Posterior, Candidates]:
    """Two classes, every label 0, right with a probability."""
    n = len(quality)
    labels = np.zeros(n, dtype=np.int64)
    classes = np.stack([quality, 1 - quality], axis=1)
    candidates = Candidates(
        np.tile(np.arange(2), (n, 1)),
        classes.astype(np.float32),
        labels,
        labels,
        np.ones(n, dtype=bool),
        np.zeros(n, dtype=bool),
    )
    return Posterior(classes, float((1 - quality).mean()), 0.0), candidates


def test_the_order_follows_the_memory_and_the_probabilities_stay_the_same_set():
    quality = np.array([0.1, 0.2, 0.3, 0.6, 0.7, 0.9])
    beliefs, candidates = believed(quality)

    found = with_memory(beliefs, candidates, np.array([0.9, 0.5, 0.1, 0.2, 0.4, 0.3]))

    assert found.classes[:, 0].tolist() == pytest.approx([0.3, 0.2, 0.1, 0.6, 0.9, 0.7])
    assert found.classes.sum(axis=1) == pytest.approx(np.ones(6))


def test_no_label_changes_sides():
    random = np.random.default_rng(0)
    quality = random.random(200)
    beliefs, candidates = believed(quality)

    found = with_memory(beliefs, candidates, random.random(200))

    assert ((found.classes[:, 0] < 0.5) == (quality < 0.5)).all()
    assert np.sort(found.classes[:, 0]) == pytest.approx(np.sort(quality))


def test_a_memory_in_the_same_order_changes_nothing_and_missing_ones_are_left_alone():
    quality = np.linspace(0.05, 0.95, 19)
    beliefs, candidates = believed(quality)

    assert with_memory(beliefs, candidates, quality**2).classes[:, 0] == pytest.approx(quality)
    memory = np.where(np.arange(19) % 2 == 0, np.nan, 1 - quality)
    found = with_memory(beliefs, candidates, memory).classes[:, 0]
    assert found[::2] == pytest.approx(quality[::2])
    assert not np.allclose(found[1::2], quality[1::2])


def test_labels_known_by_heart_may_be_wrong_so_the_interval_reaches_up_and_nothing_else_changes():
    random = np.random.default_rng(0)
    features = random.normal(size=(60, 2)) + 6 * np.eye(2)[np.arange(60) % 2]
    before = judge(features, np.arange(60) % 2, 2)
    low, high = before.noise_rate_interval
    known = ByHeart((950, 1000), (700, 1000))

    after = up_to_by_heart(before, known)

    assert after.noise_rate_interval == pytest.approx((low, high + 0.25 + 1.959964 * known.deviation))
    assert after.noise_rate == before.noise_rate
    assert after.label_quality is before.label_quality
    assert up_to_by_heart(before, ByHeart((1, 1), (0, 1))).noise_rate_interval[1] == 1
    assert up_to_by_heart(before, None) is before
