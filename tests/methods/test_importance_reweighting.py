"""Importance reweighting: weights by hand, what they estimate, the paper's two classes, the two modes."""

from __future__ import annotations

from itertools import permutations, product
from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.contract.harness import build, digits
from tests.plain import close, one_hot, softmax
from winnow.functional.calibration import fitted_temperature, log_probs_of, tempered
from winnow.methods.base import Batch, Moment
from winnow.methods.importance_reweighting import (
    ImportanceReweighting,
    clipped_weights,
    effective_sample_size,
    flip_rate_matrix,
    inverse_weights,
    nearest_clean_posterior,
    ratio_weights,
    separation,
)
from winnow.survey import Survey

MOMENT = Moment(step=5, epoch=3, phase_epoch=1, fraction=0.5, steps_per_epoch=4)
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


# The method


def prepared(folder, classes=2, **options):
    images, labels = digits(160, num_classes=classes)
    labels[::10] = -1
    trainer = build(
        ImportanceReweighting, folder, images=images, labels=labels, num_classes=classes, epochs=8, options=options
    )
    return trainer, trainer.method


def some_posterior(problem, low=0.2, high=0.95):
    """Noisy posteriors of two classes: P(noisy = 1) goes from `low` to `high`, mostly as the labels say."""
    rows = np.argsort(problem.noisy_labels + np.arange(problem.num_samples) * 7 % 20 / 10, kind="stable")
    of_one = np.empty(problem.num_samples, dtype=np.float32)
    of_one[rows] = np.linspace(low, high, problem.num_samples)
    return np.stack([1 - of_one, of_one], axis=1)


def batch_of(trainer, num=6):
    rows = trainer.problem.train_rows[:num]
    labels = torch.from_numpy(trainer.problem.noisy_labels[rows])
    return Batch(torch.from_numpy(rows), labels, (trainer.views.view("plain", rows, 0, "test"),))


def test_static_weights_come_from_the_calibrated_posterior_and_average_to_one(tmp_path):
    trainer, method = prepared(tmp_path)
    problem, probs = trainer.problem, some_posterior(trainer.problem)
    honest = np.union1d(method.reserved_rows, problem.held_out_rows)
    labels = problem.noisy_labels
    temperature = fitted_temperature(log_probs_of(torch.from_numpy(probs[honest])), torch.from_numpy(labels[honest]))
    posterior = tempered(torch.from_numpy(probs), temperature).double().numpy()
    into_zero, into_one = (np.quantile(posterior[honest, k], 0.01) for k in range(2))
    expected = {}
    for row in problem.train_rows:
        q, rho = posterior[row, labels[row]], (into_zero, into_one)[labels[row]]
        expected[row] = min(max(0.0, q - rho) / ((1 - into_zero - into_one) * max(q, 1e-3)), 5.0)
    mean = sum(expected.values()) / len(expected)

    method.weigh(Survey({"probs": probs}))

    assert method.reweighting
    assert method.temperature.item() == pytest.approx(temperature)
    found = method.weights.values
    assert found[problem.train_rows].tolist() == pytest.approx([v / mean for v in expected.values()], rel=1e-4)
    assert found[problem.train_rows].mean() == pytest.approx(1, abs=1e-5)
    logged = method.log_values()
    assert logged["separation"] == pytest.approx(1 - into_zero - into_one, abs=1e-6)
    assert 0 < logged["effective_sample_size"] < len(problem.train_rows)


def test_static_mode_starts_a_fresh_network_and_dynamic_mode_goes_on(tmp_path):
    for mode, is_fresh in (("static", True), ("dynamic", False)):
        trainer, method = prepared(tmp_path / mode, mode=mode)
        before = {name: value.clone() for name, value in method.classifier.state_dict().items()}
        method.weigh(Survey({"probs": some_posterior(trainer.problem)}))
        after = method.classifier.state_dict()
        fresh = trainer.problem.network("reweighted").state_dict()
        assert all(torch.equal(after[name], (fresh if is_fresh else before)[name]) for name in after)
        assert any(not torch.equal(fresh[name], before[name]) for name in after)


def test_the_static_loss_is_the_weighted_mean_and_its_gradient_the_weighted_one(tmp_path):
    trainer, method = prepared(tmp_path)
    method.weigh(Survey({"probs": some_posterior(trainer.problem)}))
    batch = batch_of(trainer)
    weights = method.weights.values[batch.indices.numpy()].tolist()
    rows = softmax(method.classifier(batch.images)).tolist()
    expected = sum(-w * log(p[k]) for w, p, k in zip(weights, rows, batch.noisy_labels, strict=True)) / 6

    [loss] = method.loss(batch, MOMENT).values()
    loss.backward()

    assert loss.item() == pytest.approx(expected, rel=1e-5)
    logits_gradient = torch.tensor(weights)[:, None] * (torch.tensor(rows) - one_hot(batch.noisy_labels, 2).float()) / 6
    close(method.classifier.head.bias.grad, logits_gradient.sum(dim=0), rtol=1e-4)


def test_dynamic_weights_follow_the_network_and_are_remembered(tmp_path):
    trainer, method = prepared(tmp_path, mode="dynamic")
    method.weigh(Survey({"probs": some_posterior(trainer.problem)}))
    assert (method.weights.values == 1).all()
    channel = method.transition_matrix.tolist()
    batch = batch_of(trainer)
    rows = softmax(method.classifier(batch.images)).tolist()
    labels = batch.noisy_labels.tolist()
    weights = [p[k] / sum(p[i] * channel[i][k] for i in range(2)) for p, k in zip(rows, labels, strict=True)]

    [loss] = method.loss(batch, MOMENT).values()

    expected = sum(-w * log(p[k]) for w, p, k in zip(weights, rows, labels, strict=True)) / 6
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert method.weights.values[batch.indices.numpy()].tolist() == pytest.approx(weights, rel=1e-5)
    column = method.columns(Survey({"probs": np.zeros((0, 2))}))["weight"]
    assert column[batch.indices.numpy()].tolist() == pytest.approx(weights, rel=1e-5)
    others = np.setdiff1d(np.arange(trainer.problem.num_samples), trainer.problem.train_rows)
    assert np.isnan(column[others]).all()


@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_labels_that_tell_nothing_are_not_weighted(mode, tmp_path):
    trainer, method = prepared(tmp_path, mode=mode)
    # P(noisy = 1) never leaves [0.49, 0.51]: rates of 0.49 and 0.49 leave 0.02.
    method.estimated_matrix = lambda probs, labels: np.array([[0.51, 0.49], [0.49, 0.51]])
    method.weigh(Survey({"probs": some_posterior(trainer.problem, 0.49, 0.51)}))
    batch = batch_of(trainer)

    [loss] = method.loss(batch, MOMENT).values()

    assert not method.reweighting
    assert method.log_values()["reweighting"] == 0
    assert loss.item() == pytest.approx(F.cross_entropy(method.classifier(batch.images), batch.noisy_labels).item())


def test_more_classes_are_weighted_by_the_nearest_clean_posterior(tmp_path):
    trainer, method = prepared(tmp_path, classes=3, reserved_share=0.0)
    problem, labels = trainer.problem, trainer.problem.noisy_labels
    clean = CLEAN[torch.arange(problem.num_samples) % 4]
    # No calibration, and a known matrix: what remains is clean over noisy.
    method.estimated_matrix = lambda probs, labels: CHANNEL.numpy()
    posterior = clean @ CHANNEL
    held_out = problem.held_out_rows
    temperature = fitted_temperature(log_probs_of(posterior[held_out].float()), torch.from_numpy(labels[held_out]))
    probs = tempered(posterior, 1 / temperature).float()
    again = fitted_temperature(log_probs_of(probs[held_out]), torch.from_numpy(labels[held_out]))
    clean = nearest_clean_posterior(tempered(probs, again).double(), CHANNEL)
    rows = problem.train_rows
    expected = np.array([min(by_hand(clean[row].tolist(), labels[row]), 5.0) for row in rows])

    method.weigh(Survey({"probs": probs.numpy()}))

    np.testing.assert_allclose(method.weights.values[rows], expected / expected.mean(), rtol=1e-4)


def test_the_matrix_is_estimated_on_images_that_were_not_trained_on(tmp_path):
    trainer, method = prepared(tmp_path, classes=4)
    problem = trainer.problem
    honest = np.union1d(method.reserved_rows, problem.held_out_rows)
    assert len(np.intersect1d(honest, method.estimation_rows())) == 0
    assert len(method.reserved_rows) == int(0.2 * len(problem.train_rows))
    assert sorted([*method.reserved_rows, *method.estimation_rows()]) == problem.train_rows.tolist()
    labels = torch.from_numpy(problem.noisy_labels).clamp_min(0)
    probs = (0.1 + 0.6 * F.one_hot(labels, 4)).float().numpy()
    method.weigh(Survey({"probs": probs}))
    found = method.transition_matrix.clone()
    assert method.reweighting

    probs[method.estimation_rows()] = 0.25
    method.weigh(Survey({"probs": probs}))
    assert torch.equal(method.transition_matrix, found)
    probs[honest] = [0.4, 0.3, 0.2, 0.1]
    method.weigh(Survey({"probs": probs}))
    assert not torch.equal(method.transition_matrix, found)


def test_with_nothing_set_aside_the_training_images_are_estimated_on(tmp_path):
    trainer, method = prepared(tmp_path, reserved_share=0.0)
    object.__setattr__(trainer.problem, "held_out_rows", np.empty(0, dtype=np.int64))

    method.weigh(Survey({"probs": some_posterior(trainer.problem)}))

    assert method.reweighting


def test_the_plan_is_a_quarter_for_the_posterior(tmp_path):
    _, method = prepared(tmp_path)

    assert [(phase.name, phase.epochs) for phase in method.plan(8)] == [("noisy posterior", 2), ("reweighted", 6)]
    assert [phase.epochs for phase in method.plan(1)] == [1, 0]


@pytest.mark.parametrize(
    "options",
    [
        {"mode": "sometimes"},
        {"estimation_share": 0.0},
        {"estimation_share": 1.0},
        {"reserved_share": 1.0},
        {"reserved_share": -0.1},
        {"quantile": 0.5},
        {"quantile": -0.01},
        {"largest_weight": 0.5},
        {"largest_weight": float("inf")},
    ],
)
def test_options_outside_their_range_are_refused(options, tmp_path):
    (name,) = options

    with pytest.raises(ValueError, match=f"{name} must .*, got"):
        prepared(tmp_path, **options)


# Two Gaussians, the size of the paper's synthetic check

MEAN = np.array([1.0, 0.3])


def gaussians(rng, num):
    """(Points (num, 2), their class); the classes' means are -MEAN and MEAN."""
    classes = rng.integers(0, 2, num)
    return rng.normal(size=(num, 2)) + MEAN * (2 * classes - 1)[:, None], classes


def fitted(network, x, labels, weights, steps=150):
    optimizer = torch.optim.Adam(network.parameters(), lr=0.02, weight_decay=1e-4)
    for _ in range(steps):
        optimizer.zero_grad()
        (weights * F.cross_entropy(network(x), labels, reduction="none")).mean().backward()
        optimizer.step()
    return network


def two_accuracies(rates, seed):
    """(Accuracy of a linear classifier on noisy labels, weighted, mean error of the two rates)."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    points, classes = gaussians(rng, 2000)
    into_one = rates[1]
    flipped = rng.random(2000) < np.where(classes == 1, rates[0], into_one)
    x = torch.from_numpy(points).float()
    noisy = torch.from_numpy(np.where(flipped, 1 - classes, classes))
    learnt, honest = slice(0, 1500), slice(1500, 2000)
    ones = torch.ones(2000)
    net = fitted(nn.Sequential(nn.Linear(2, 16), nn.Tanh(), nn.Linear(16, 2)), x[learnt], noisy[learnt], ones[learnt])
    with torch.no_grad():
        probs = net(x).softmax(dim=1)
    posterior = tempered(probs, fitted_temperature(log_probs_of(probs[honest]), noisy[honest]))
    matrix = flip_rate_matrix(posterior[honest].numpy())
    channel = torch.from_numpy(matrix).float()
    weights = clipped_weights(inverse_weights(posterior, noisy, channel), channel, 5.0)
    x_test, truth = gaussians(rng, 10000)

    def accuracy(weights):
        linear = fitted(nn.Linear(2, 2), x, noisy, weights, steps=300)
        return (linear(torch.from_numpy(x_test).float()).argmax(dim=1).numpy() == truth).mean()

    error = (abs(matrix[1, 0] - rates[0]) + abs(matrix[0, 1] - rates[1])) / 2
    return accuracy(ones), accuracy(weights / weights.mean()), error


def means(rates, seeds=20):
    return np.mean([two_accuracies(rates, seed) for seed in range(seeds)], axis=0)


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(0.4, 0.1), (0.1, 0.4)])
def test_two_classes_of_unequal_rates_gain_eight_points(rates):
    plain, weighted, error = means(rates)

    assert weighted >= plain + 0.08
    assert error <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("rates", [(0.2, 0.2), (0.3, 0.3)])
def test_two_classes_of_equal_rates_lose_nothing(rates):
    plain, weighted, error = means(rates)

    assert abs(weighted - plain) <= 0.01
    assert error <= 0.08


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["static", "dynamic"])
def test_wrong_labels_weigh_less_than_a_third_of_right_ones(mode, tmp_path):
    images, truth = digits(1797)
    wrong = np.arange(1797) % 10 < 3
    labels = np.where(wrong, (truth + 1) % 10, truth)
    trainer = build(ImportanceReweighting, tmp_path, images=images, labels=labels, epochs=40, options={"mode": mode})
    trainer.run()

    weights = trainer.method.columns(trainer.survey())["weight"]

    assert np.nanmean(weights[~wrong]) > 3 * np.nanmean(weights[wrong])
