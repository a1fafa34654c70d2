"""The posterior by Bayes' rule, summed by hand; what fitting finds in labels drawn from each account."""

from __future__ import annotations

from math import exp

import numpy as np
import pytest

from winnow.audit import latent_labels
from winnow.audit.latent_labels import Account, Candidates, Destinations, ModelError, Pairs, posterior


def candidates(scores: np.ndarray, labels: np.ndarray, verified: np.ndarray | None = None) -> Candidates:
    verified = np.zeros(len(labels), dtype=bool) if verified is None else verified
    classes = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return Candidates(classes, scores, labels, labels, (labels >= 0) & ~verified, verified)


def test_belief_in_a_label_is_bayes_rule_of_both_ways_to_be_wrong():
    scores, a, rate, by_class = [0.6, 0.3, 0.1], 4.0, 0.2, 0.7
    given = 1
    p = [exp(a * s) / sum(exp(a * t) for t in scores) for s in scores]
    goes = {0: 0.9, 2: 0.25}  # shares of the wrong labels of a class that are class 1
    joint = {j: p[j] * rate * (by_class * goes[j] + (1 - by_class) * p[given] / (1 - p[j])) for j in (0, 2)} | {
        given: p[given] * (1 - rate)
    }
    expected = [joint[j] / sum(joint.values()) for j in range(3)]

    account = Account(a, np.empty(0), np.array([rate]), np.ones(3), Destinations.unknown(3), by_class, 0.1)
    shares = np.array([[0.9, 0.0, 0.25]])
    found, _, _, likelihood = latent_labels._beliefs(candidates(np.array([scores]), np.array([given])), account, shares)
    assert found[0] == pytest.approx(expected)
    assert likelihood[0] == pytest.approx(sum(joint.values()))


def test_destinations_are_counts_and_two_labels_spread_evenly():
    found = Destinations(np.array([1, 5]), np.array([6.0, 3.0]), np.array([6.0, 3.0, 0.0]))
    shares = found.of(np.array([[1, 2], [5, 7]]))
    assert shares == pytest.approx(np.array([[7 / 8, 1 / 8], [4 / 5, 1 / 2]]))


def drawn(by_picture: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(scores, true classes, labels) of 3,000 pictures with 15 % wrong labels."""
    random = np.random.default_rng(0)
    clean = random.integers(0, 5, 3000)
    scores = 0.8 * np.eye(5)[clean] * random.beta(3, 1, 3000)[:, None] + random.uniform(0, 0.35, (3000, 5))
    labels = clean.copy()
    if by_picture:
        others = np.where(np.eye(5, dtype=bool)[clean], -1, scores)
        lead = scores[np.arange(3000), clean] - others.max(axis=1)
        rows = np.argsort(lead + random.normal(scale=0.1, size=3000))[300:750]
        labels[rows] = others[rows].argmax(axis=1)
    else:
        rows = random.choice(3000, 450, replace=False)
        labels[rows] = (clean[rows] + 1) % 5
    return scores, clean, labels


@pytest.mark.parametrize("by_picture", [False, True])
def test_rate_of_wrong_labels_is_found_under_both_accounts(by_picture):
    scores, clean, labels = drawn(by_picture)
    wrong = scores.argmax(axis=1) != clean
    found = posterior(candidates(scores, labels), 5, ModelError(int(wrong.sum()), 3000))
    assert found.noise_rate == pytest.approx(0.15, abs=0.04)
    doubt = 1 - found.classes[np.arange(3000), labels]
    assert doubt[labels != clean].mean() > doubt[labels == clean].mean() + 0.5


def test_verified_labels_are_certain_and_unlabelled_pictures_follow_the_scores():
    scores, _, labels = drawn(False)
    labels[:10] = -1
    verified = np.zeros(3000, dtype=bool)
    verified[10:60] = True
    found = posterior(candidates(scores, labels, verified), 5, ModelError(30, 3000))
    assert (found.classes[np.arange(10, 60), labels[10:60]] == 1).all()
    assert (found.classes[:10].argmax(axis=1) == scores[:10].argmax(axis=1)).all()
    assert found.classes.sum(axis=1) == pytest.approx(np.ones(3000))


def test_verified_images_outweigh_the_disagreement_of_models():
    assert ModelError(8, 98).expected == pytest.approx(0.09)
    assert ModelError(8, 98, 50, 180).expected == pytest.approx((20 * 0.09 + 50) / 200)
    assert ModelError(8, 98).doubt == 1
    assert ModelError(8, 98, 0, 25).doubt == pytest.approx((20 / 45) ** 0.5)
    assert ModelError(8, 98, 0, 10**6).doubt == 0.5


@pytest.mark.parametrize("classes", [2, 7, 40])
def test_pairs_counted_in_a_table_are_those_found_by_sorting(monkeypatch, classes):
    random = np.random.default_rng(classes)
    columns = min(classes, 3)
    rows = np.stack([random.permutation(classes)[:columns] for _ in range(50)])
    labels = np.where(random.random(50) < 0.2, -1, rows[:, 0])
    some = Candidates(
        rows, np.zeros(rows.shape), np.where(labels >= 0, 0, -1), labels, labels >= 0, np.zeros(50, dtype=bool)
    )
    counted = Pairs.of(some, classes)
    monkeypatch.setattr("winnow.audit.latent_labels._TABLE", 0)
    found = Pairs.of(some, classes)
    np.testing.assert_array_equal(counted.values, found.values)
    np.testing.assert_array_equal(counted.member, found.member)
    np.testing.assert_array_equal(counted.values[counted.member], rows * classes + np.maximum(labels, 0)[:, None])
