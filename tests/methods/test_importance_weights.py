"""Importance weights: the equations by hand, what they promise, guards and flip rates."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.plain import close, one_hot, softmax
from winnow.methods.importance_reweighting import (
    clipped_weights,
    effective_sample_size,
    flip_rate_matrix,
    inverse_weights,
    nearest_clean_posterior,
    ratio_weights,
    separation,
)

CHANNEL = torch.tensor([[0.7, 0.2, 0.1], [0.05, 0.9, 0.05], [0.3, 0.1, 0.6]], dtype=torch.float64)
CLEAN = torch.tensor([[0.5, 0.3, 0.2], [0.9, 0.05, 0.05], [0.1, 0.1, 0.8], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
EVERY_LABEL = list(product(range(4), range(3)))


def by_hand(p, label):
    """P(clean = label | x) / P(noisy = label | x) under `CHANNEL`."""
    return p[label] / sum(p[i] * CHANNEL[i, label].item() for i in range(3))


def table(weights_of):
    """Weights (4, 3) of every label of every row of `CLEAN`."""
    rows, labels = torch.tensor(EVERY_LABEL).T
    return weights_of(rows, labels).reshape(4, 3)


def ratio_table(channel=CHANNEL):
    return table(lambda rows, labels: ratio_weights(CLEAN.log()[rows], labels, channel))


def inverse_table(channel=CHANNEL):
    return table(lambda rows, labels: inverse_weights((CLEAN @ channel)[rows], labels, channel))


# The weights


def test_the_weights_are_clean_over_noisy_by_hand():
    expected = torch.tensor([[by_hand(row, k) for k in range(3)] for row in CLEAN.tolist()], dtype=torch.float64)

    close(ratio_table(), expected, rtol=1e-12)
    close(inverse_table(), expected, rtol=1e-12)


def test_without_noise_every_weight_is_one():
    identity = torch.eye(3, dtype=torch.float64)

    close(ratio_table(identity), torch.ones(4, 3, dtype=torch.float64), rtol=1e-12)
    close(inverse_table(identity), torch.ones(4, 3, dtype=torch.float64), rtol=1e-12)


@pytest.mark.parametrize("label", [0, 1])
def test_two_classes_give_the_papers_formula(label):
    into_zero, into_one, q_of_one = 0.1, 0.4, 0.55  # P(noisy = j | the other class), and the noisy posterior
    q = q_of_one if label == 1 else 1 - q_of_one
    rho = into_one if label == 1 else into_zero
    expected = (q - rho) / ((1 - into_zero - into_one) * q)
    channel = torch.tensor([[1 - into_one, into_one], [into_zero, 1 - into_zero]], dtype=torch.float64)
    posterior = torch.tensor([[1 - q_of_one, q_of_one]], dtype=torch.float64)

    found = inverse_weights(posterior, torch.tensor([label]), channel)

    assert found.item() == pytest.approx(expected, rel=1e-12)


def test_symmetric_noise_gives_the_closed_form():
    n, classes = 0.4, 3  # rate of wrong labels, shared by the others
    off = n / (classes - 1)
    channel = torch.full((3, 3), off, dtype=torch.float64).fill_diagonal_(1 - n)
    q = CLEAN @ channel

    close(inverse_table(channel), (q - off) / ((1 - n * classes / (classes - 1)) * q), rtol=1e-12)


@pytest.mark.parametrize("weights", [ratio_table, inverse_table])
def test_over_the_noisy_labels_of_an_image_the_weights_average_to_one(weights):
    q = CLEAN @ CHANNEL

    close((q * weights()).sum(dim=1), torch.ones(4, dtype=torch.float64), rtol=1e-12)


@pytest.mark.parametrize("weights", [ratio_table, inverse_table])
def test_the_weighted_noisy_mean_of_any_loss_is_its_clean_mean(weights):
    losses = torch.randn(4, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    noisy = sum((CLEAN[x] @ CHANNEL)[k] * weights()[x, k] * losses[x, k] for x, k in EVERY_LABEL)
    clean = sum(CLEAN[x, k] * losses[x, k] for x, k in EVERY_LABEL)

    assert noisy.item() == pytest.approx(clean.item(), abs=1e-12)


@pytest.mark.parametrize("order", list(permutations(range(3))))
def test_classes_may_be_renamed(order):
    order = torch.tensor(order)
    renamed = torch.argsort(order)
    rows, labels = torch.tensor(EVERY_LABEL).T
    channel, clean = CHANNEL[order][:, order], CLEAN[:, order]

    close(ratio_weights(clean.log()[rows], renamed[labels], channel).reshape(4, 3), ratio_table(), rtol=1e-12)
    found = inverse_weights((clean @ channel)[rows], renamed[labels], channel)
    close(found.reshape(4, 3), inverse_table(), rtol=1e-12)


def test_no_weight_exceeds_the_inverse_of_its_labels_chance_to_be_kept():
    certain = torch.eye(3, dtype=torch.float64).clamp_min(1e-300).log()

    found = ratio_weights(certain, torch.arange(3), CHANNEL)

    close(found, 1 / CHANNEL.diagonal(), rtol=1e-12)
    assert (ratio_table() <= 1 / CHANNEL.diagonal() + 1e-12).all()


def test_the_minimiser_of_the_weighted_loss_is_the_clean_posterior():
    # A finite world: four kinds of images, their noisy labels in exact shares, one free distribution for each kind.
    q, weights = CLEAN @ CHANNEL, inverse_table()
    logits = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    for _ in range(400):
        loss = -(q * weights * F.log_softmax(logits, dim=1)).sum()
        (gradient,) = torch.autograd.grad(loss, logits)
        with torch.no_grad():
            logits -= 2 * gradient

    close(softmax(logits), CLEAN, rtol=0, atol=1e-6)


def test_an_attainable_posterior_leads_back_to_the_clean_one():
    close(nearest_clean_posterior(CLEAN @ CHANNEL, CHANNEL), CLEAN, rtol=0, atol=1e-3)


def test_no_clean_posterior_explains_an_unattainable_one_better_than_the_nearest():
    q = torch.tensor([[0.01, 0.98, 0.01], [0.5, 0.02, 0.48]], dtype=torch.float64)
    assert (q @ torch.linalg.inv(CHANNEL)).min() < 0
    steps = torch.arange(0, 1.001, 0.02, dtype=torch.float64)
    grid = torch.stack([torch.stack([a, b, 1 - a - b]) for a in steps for b in steps if a + b <= 1 + 1e-9]).clamp_min(0)

    found = nearest_clean_posterior(q, CHANNEL)

    close(found.sum(dim=1), torch.ones(2, dtype=torch.float64), rtol=1e-12)
    explained = (q * (found @ CHANNEL).log()).sum(dim=1)
    assert (explained >= (q @ (grid @ CHANNEL).log().T).max(dim=1).values - 1e-3).all()


# Guards


def test_impossible_posteriors_give_finite_weights_of_at_least_zero():
    posterior = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.02, 0.97, 0.01]], dtype=torch.float64)
    for label in range(3):
        labels = torch.full((3,), label)
        found = clipped_weights(inverse_weights(posterior, labels, CHANNEL), CHANNEL, 5.0)
        assert found.isfinite().all()
        assert found.min() >= 0
        assert found.max() <= 5
    # q(1) = 0 lies below what class 0 alone sends there: no clean posterior has that, and the label counts for nothing.
    assert inverse_weights(posterior[1:2], torch.tensor([1]), CHANNEL).item() == 0


def test_scores_that_overflow_as_probabilities_give_finite_weights():
    log_probs = F.log_softmax(torch.tensor([[1e4, 0.0, -1e4]]), dim=1)

    found = torch.stack([ratio_weights(log_probs, torch.tensor([k]), CHANNEL.float())[0] for k in range(3)])

    assert found.isfinite().all()
    assert found.tolist() == pytest.approx([1 / 0.7, 0, 0], rel=1e-3)


@pytest.mark.parametrize(("largest", "expected"), [(5.0, 5.0), (2.0, 2.0), (1.0, 1 / 0.6)])
def test_weights_are_cut_but_never_where_a_right_one_may_be(largest, expected):
    weights = torch.tensor([0.0, 1.5, 9.0], dtype=torch.float64)

    assert clipped_weights(weights, CHANNEL, largest).tolist() == pytest.approx([0.0, 1.5, expected])


@pytest.mark.parametrize(
    ("weights", "expected"), [([1, 1, 1, 1], 4), ([2, 2, 0, 0], 2), ([5, 0, 0, 0], 1), ([1, 2], 9 / 5), ([0, 0], 0)]
)
def test_the_effective_sample_size_counts_equal_weights(weights, expected):
    assert effective_sample_size(np.array(weights, dtype=np.float32)) == pytest.approx(expected, rel=1e-12)


def test_dynamic_weights_carry_no_gradient_and_the_loss_is_weighted_cross_entropy():
    logits = torch.tensor([[1.0, -0.5, 0.3], [0.2, 0.1, -2.0]], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([2, 0])
    weights = torch.tensor([by_hand(row, k) for row, k in zip(softmax(logits).tolist(), labels, strict=True)])

    log_probs = F.log_softmax(logits, dim=1)
    found = ratio_weights(log_probs, labels, CHANNEL)
    (found * F.nll_loss(log_probs, labels, reduction="none")).mean().backward()

    assert not found.requires_grad
    close(logits.grad, weights[:, None] * (softmax(logits.detach()) - one_hot(labels, 3)) / 2, rtol=1e-6)


# Flip rates


def test_rates_are_exact_where_the_posterior_reaches_its_ends():
    # Class 1 is labelled 0 in 10 % of the images, class 0 is labelled 1 in 40 %.
    p = np.linspace(0, 1, 101)
    noisy_one = p * 0.9 + (1 - p) * 0.4

    found = flip_rate_matrix(np.stack([1 - noisy_one, noisy_one], axis=1), 0.0)

    np.testing.assert_allclose(found, [[0.6, 0.4], [0.1, 0.9]], rtol=1e-12)
    assert separation(found) == pytest.approx(1 - 0.1 - 0.4)


def test_a_quantile_is_not_moved_by_an_outlier():
    noisy_one = np.append(np.full(500, 0.4), np.full(500, 0.9))
    noisy_one[[0, 999]] = 0.0, 1.0
    posterior = np.stack([1 - noisy_one, noisy_one], axis=1)

    np.testing.assert_allclose(flip_rate_matrix(posterior, 0.01), [[0.6, 0.4], [0.1, 0.9]], rtol=1e-12)
    np.testing.assert_allclose(flip_rate_matrix(posterior, 0.0), [[1, 0], [0, 1]])


def test_separation_is_one_without_noise_and_zero_for_labels_drawn_blindly():
    assert separation(np.eye(4)) == 1
    assert separation(np.full((4, 4), 0.25)) == pytest.approx(0)
    assert separation(np.tile([0.7, 0.2, 0.1], (3, 1))) == pytest.approx(0)
    assert separation(np.ones((1, 1))) == 1
