"""Importance reweighting: what the method does with its weights, see `test_importance_weights.py`."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from tests.contract.harness import build, digits
from tests.methods.test_importance_weights import CHANNEL, CLEAN, by_hand
from tests.plain import close, one_hot, softmax
from winnow.functional.calibration import fitted_temperature, log_probs_of, tempered
from winnow.methods.base import Batch, Moment
from winnow.methods.importance_reweighting import (
    ImportanceReweighting,
    clipped_weights,
    flip_rate_matrix,
    inverse_weights,
    nearest_clean_posterior,
)
from winnow.survey import Survey

MOMENT = Moment(step=5, epoch=3, phase_epoch=1, fraction=0.5, steps_per_epoch=4)


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
