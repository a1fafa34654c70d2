"""The noise layer: what the method does with its formulas, see `test_noise_layer_formulas.py`."""

import numpy as np
import pytest
import torch

from tests.methods.noise_layer_setting import MOMENT, batch, channel, logits, problem, put, total
from tests.plain import close, softmax
from winnow.functional.correction import label_posterior
from winnow.methods.noise_layer import (
    NoiseLayer,
    reversed_channel,
)
from winnow.survey import Survey

# The method


def test_the_two_names_are_one_matrix_and_both_parametrisations_agree():
    Q, seen = channel().float(), batch([0, 4, 2, 2])
    found = []
    for parametrisation in ("projected", "softmax"):
        method = NoiseLayer(problem(), parametrisation=parametrisation)
        put(method, Q)
        close(method.Q, Q, rtol=0, atol=1e-6)
        close(method.T, Q.T, rtol=0, atol=1e-6)
        close(method.T.sum(dim=1), torch.ones(5))
        p = method.predict(seen.images)
        close((p @ method.Q.T).sum(dim=1), torch.ones(4))
        found.append(total(method.loss(seen, MOMENT)).item())
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.parametrize(("parametrisation", "rate"), [("projected", 1.0), ("softmax", 50.0)])
def test_columns_sum_to_one_after_each_step(parametrisation, rate):
    method, seen = NoiseLayer(problem(), parametrisation=parametrisation), batch(np.arange(40) % 5)
    start = method.Q.detach().clone()
    for _ in range(3):
        method.zero_grad()
        total(method.loss(seen, MOMENT)).backward()
        with torch.no_grad():
            method.layer_weights -= rate * method.layer_weights.grad
        method.after_step(MOMENT)
        close(method.Q.sum(dim=0), torch.ones(5), rtol=0, atol=1e-6)
        assert (method.Q > 0).all()
    assert (method.Q - start).abs().max() > 0.01


@pytest.mark.parametrize(
    ("penalty", "size"), [("weight-decay", lambda Q: Q.square().sum()), ("trace", lambda Q: Q.diagonal().sum())]
)
def test_the_penalty_is_alpha_times_the_mean_over_columns_in_the_noisy_labels_share(penalty, size):
    method = NoiseLayer(problem(), penalty=penalty, alpha=0.3)
    put(method, channel().float())
    losses = method.loss(batch([1, 2]), MOMENT)

    assert losses["penalty"].item() == pytest.approx(0.3 * size(channel()).item() / 5, rel=1e-6)
    with_checked = NoiseLayer(problem(verified=range(10)), penalty=penalty, alpha=0.3, gamma=0.2)
    put(with_checked, channel().float())
    found = with_checked.loss(batch([1, 2]), MOMENT)["penalty"].item()
    assert found == pytest.approx(0.2 * 30 / (10 + 0.2 * 30) * losses["penalty"].item(), rel=1e-6)
    assert "penalty" not in NoiseLayer(problem(), penalty=penalty, alpha=0.0).loss(batch([1, 2]), MOMENT)
    assert "penalty" not in NoiseLayer(problem(), penalty=penalty, layer="estimated").loss(batch([1, 2]), MOMENT)


def test_the_layer_is_frozen_while_the_network_warms_up():
    # Without the penalty, whose gradient would hide that the loss gives none.
    method, seen = NoiseLayer(problem(), warmup_share=0.3, alpha=0.0), batch([0, 1, 2])
    warm, learn = method.plan(10)

    assert [(phase.name, phase.epochs) for phase in (warm, learn)] == [("warm up", 3), ("learn", 7)]
    total(warm.turns(seen, MOMENT)).backward()
    assert method.layer_weights.grad is None
    assert method.classifier.head.weight.grad.abs().max() > 0
    total(learn.turns(seen, MOMENT)).backward()
    assert method.layer_weights.grad.abs().max() > 0


def test_the_layer_has_its_own_rate_and_no_ordinary_weight_decay():
    method = NoiseLayer(problem(), layer_rate=0.3)
    network, layer = method.parameter_groups([p for p in method.parameters() if p.requires_grad])

    assert layer == {"params": [method.layer_weights], "lr_scale": 0.3, "weight_decay": 0.0}
    assert {id(p) for p in network["params"]} == {id(p) for p in method.classifier.parameters()}
    assert set(network) == {"params"}


def test_an_estimated_layer_is_not_moved_by_gradients():
    method = NoiseLayer(problem(verified=range(10)), layer="estimated")
    total(method.loss(batch([0, 1, 2]), MOMENT)).backward()

    assert method.layer_weights.grad is None


def planted(count=200_000, checked=20_000, classes=5, seed=0):
    """Labels under a known channel and the predictions of a network that is right in about four of five."""
    random = np.random.default_rng(seed)
    Q = channel(classes).numpy()
    truth = random.choice(classes, count, p=[0.1, 0.3, 0.2, 0.15, 0.25])
    noisy = (random.random(count)[:, None] > Q.T.cumsum(axis=1)[truth]).sum(axis=1)
    noisy[:checked] = truth[:checked]
    predicted = np.where(random.random(count) < 0.25, random.integers(0, classes, count), truth)
    return Q, noisy, np.eye(classes, dtype=np.float32)[predicted]


@pytest.mark.parametrize("checked", [20_000, 0])
def test_a_class_of_which_no_image_is_checked_keeps_its_labels_and_its_share(checked):
    _, noisy, probs = planted()
    if checked:
        verified = np.flatnonzero(noisy[:checked] != 2)
    else:  # or that the network never names
        verified, probs = [], np.eye(5, dtype=np.float32)[np.where(probs.argmax(axis=1) == 2, 0, probs.argmax(axis=1))]
    method = NoiseLayer(problem(noisy, verified=verified), layer="estimated", direction="top-down")

    method.estimate_layer(Survey({"probs": probs}))

    others = np.setdiff1d(np.arange(len(noisy)), verified)
    R = reversed_channel(method.Q, method.prior)
    assert method.prior.sum().item() == pytest.approx(1)
    assert method.prior[2].item() == pytest.approx(np.mean(noisy[others] == 2), abs=1e-3)
    assert R[2, 2] > 0.95


@pytest.mark.parametrize("parametrisation", ["projected", "softmax"])
def test_the_estimated_layer_is_the_planted_one(parametrisation):
    Q, noisy, probs = planted()
    given = problem(noisy, verified=range(20_000))
    method = NoiseLayer(given, layer="estimated", direction="top-down", parametrisation=parametrisation)

    method.estimate_layer(Survey({"probs": probs}))

    assert (method.Q - torch.from_numpy(Q)).abs().max() < 0.02
    assert method.prior.tolist() == pytest.approx([0.1, 0.3, 0.2, 0.15, 0.25], abs=0.02)
    assert method.log_values()["labels_believed_right"] == pytest.approx(np.trace(Q) / 5, abs=0.02)


def test_without_checked_labels_the_predictions_stand_for_the_truth():
    _, noisy, probs = planted(checked=0)
    method = NoiseLayer(problem(noisy), layer="estimated")
    method.estimate_layer(Survey({"probs": probs}))

    predicted = probs.argmax(axis=1)
    by_hand = [[np.mean(noisy[predicted == k] == j) for k in range(5)] for j in range(5)]
    close(method.Q, torch.tensor(by_hand).float(), rtol=0, atol=1e-3)


def test_the_network_that_the_layer_is_estimated_from_has_not_seen_the_checked_labels():
    warm, learn = NoiseLayer(problem(verified=[3, 7, 30]), layer="estimated").plan(8)

    assert warm.draws["train"].samples().tolist() == [row for row in range(40) if row not in (3, 7, 30)]
    assert learn.draws["train"].samples is None
    assert learn.revise is not None
    assert learn.revise_every == 0


def test_where_every_label_is_checked_there_is_nothing_to_estimate():
    warm, learn = NoiseLayer(problem(verified=range(40)), layer="estimated").plan(8)

    assert warm.draws["train"].samples is None
    assert learn.revise is None


def test_top_down_compares_with_the_reversed_estimate():
    _, noisy, probs = planted(2_000, 500)
    method = NoiseLayer(problem(noisy, verified=range(500)), layer="estimated", direction="top-down", gamma=1.0)
    method.estimate_layer(Survey({"probs": probs}))
    seen = batch(noisy[600:604], first=600)
    R = reversed_channel(method.Q.double(), method.prior.double())
    log_p = method.predict(seen.images).double().log()
    by_hand = -sum(R[i, seen.noisy_labels[b]] * log_p[b, i] for b in range(4) for i in range(5)) / 4

    assert method.loss(seen, MOMENT)["noisy"].item() == pytest.approx(by_hand.item(), rel=1e-5)


def test_predictions_never_pass_the_layer():
    method, seen = NoiseLayer(problem()), batch([0, 1])
    before = method.predict(seen.images)
    put(method, channel().float())

    assert torch.equal(method.predict(seen.images), before)
    close(before, method.classifier(seen.images).softmax(dim=1))


def test_the_beliefs_are_the_posterior_under_the_layer():
    noisy = np.array([0, 1, 2, 3, 4, 0, -1])
    method = NoiseLayer(problem(noisy))
    Q = channel().float()
    put(method, Q)
    probs = softmax(logits()).float()

    found = method.beliefs(Survey({"probs": probs.numpy()}))

    for b in range(6):
        joint = Q[noisy[b]] * probs[b]
        posterior = joint / joint.sum()
        assert found.label_quality[b] == pytest.approx(posterior[noisy[b]].item(), rel=1e-5)
        assert found.suggested_label[b] == posterior.argmax()
        assert found.suggested_probability[b] == pytest.approx(posterior.max().item(), rel=1e-5)
    assert found.suggested_label[6] == probs[6].argmax()
    assert found.suggested_probability[6] == pytest.approx(probs[6].max().item())
    close(
        torch.from_numpy(found.label_quality[:6]),
        label_posterior(probs, torch.tensor(noisy).clamp_min(0), Q.T)[range(6), noisy[:6]],
    )
    assert NoiseLayer(problem(noisy), layer="none").beliefs(Survey({"probs": probs.numpy()})) is None


def test_an_alarm_tells_a_layer_that_left_the_diagonal_or_went_uniform():
    method = NoiseLayer(problem())
    assert method.log_values() == {"labels_believed_right": pytest.approx(0.96), "columns_off_diagonal": 0, "alarm": 0}
    exchanged = torch.eye(5)[[1, 0, 2, 3, 4]]
    put(method, exchanged)
    assert method.log_values() == {"labels_believed_right": pytest.approx(0.6), "columns_off_diagonal": 2, "alarm": 1}
    put(method, 0.05 * torch.eye(5) + 0.19)
    assert method.log_values() == {"labels_believed_right": pytest.approx(0.24), "columns_off_diagonal": 0, "alarm": 1}
    # Of two classes 0.6 on the diagonal is an ordinary layer.
    two = NoiseLayer(problem(np.arange(40) % 2, classes=2))
    put(two, torch.tensor([[0.6, 0.4], [0.4, 0.6]]))
    assert two.log_values()["alarm"] == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layer": "fixed"}, "layer must be learned or estimated or none, got 'fixed'"),
        ({"direction": "sideways"}, "direction must be bottom-up or top-down, got 'sideways'"),
        ({"direction": "top-down"}, "direction top-down needs the layer estimated, got 'learned'"),
        ({"parametrisation": "free"}, "parametrisation must be projected or softmax, got 'free'"),
        ({"penalty": "none"}, "penalty must be weight-decay or trace, got 'none'"),
        ({"gamma": 1.1}, r"gamma must lie in \[0, 1\], above 0 where no label is checked, got 1.1"),
        ({"gamma": 0.0}, r"gamma must lie in \[0, 1\], above 0 where no label is checked, got 0.0"),
        ({"alpha": -1.0}, "alpha must be at least 0 and finite, got -1.0"),
        ({"layer_rate": 0.0}, r"layer_rate must lie in \(0, 1000\], got 0.0"),
        ({"layer_rate": 1e9}, r"layer_rate must lie in \(0, 1000\], got 1000000000.0"),
        ({"warmup_share": 1.0}, r"warmup_share must lie in \(0, 1\), got 1.0"),
    ],
)
def test_options_outside_their_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        NoiseLayer(problem(), **options)
