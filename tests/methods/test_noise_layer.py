"""The noise layer: the paper's sums, its limits, the projection's resting point, and what the method does with them."""

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.plain import close, one_hot, softmax
from winnow.functional.correction import forward_losses, label_posterior
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.noise_layer import (
    NoiseLayer,
    nearest_stochastic,
    reversed_channel,
    sample_weights,
    top_down_losses,
)
from winnow.models import ModelSpec
from winnow.survey import Survey

TIGHT = {"rtol": 0.0, "atol": 1e-12}
MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def logits(rows=7, classes=5, seed=0):
    return 2 * torch.randn(rows, classes, dtype=torch.float64, generator=generator(seed))


def labels(rows=7, classes=5, seed=1):
    return torch.randint(0, classes, (rows,), generator=generator(seed))


def channel(classes=5, seed=2):
    """A Q with a dominant diagonal, columns that sum to one, and nothing symmetric."""
    Q = torch.rand(classes, classes, dtype=torch.float64, generator=generator(seed))
    Q = Q / Q.sum(dim=0)
    return 0.6 * torch.eye(classes, dtype=torch.float64) + 0.4 * Q


def bottom_up(z, y, Q):
    return forward_losses(z.log_softmax(dim=1), y, Q.T)


@torch.no_grad()
def slope(value, at, step=1e-6):
    """Central differences."""
    found = torch.zeros_like(at)
    for place in range(at.numel()):
        move = torch.zeros_like(at)
        move.view(-1)[place] = step
        found.view(-1)[place] = (value(at + move) - value(at - move)) / (2 * step)
    return found


def problem(noisy_labels=None, verified=(), classes=5, size=2, held_out=0):
    noisy = np.arange(40) % classes if noisy_labels is None else noisy_labels
    rows = np.arange(len(noisy))
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("mlp", size, 1, classes)
    memory = Memory(len(noisy))
    checked = np.array(verified, dtype=np.int64)
    return Problem(names, noisy.astype(np.int64), rows[held_out:], rows[:held_out], spec, 0, memory, checked)


def batch(y, first=0, size=2):
    images = torch.randn(len(y), 1, size, size, generator=generator(0))
    return Batch(torch.arange(first, first + len(y)), torch.as_tensor(y), (images,))


def put(method, Q):
    with torch.no_grad():
        method.layer_weights.copy_(Q if method.parametrisation == "projected" else Q.log())


# The formulas


def test_bottom_up_is_the_sum_over_the_columns_of_q():
    z, y, Q = logits(), labels(), channel()
    p = softmax(z)
    by_hand = [-log(sum(float(Q[y[b], i] * p[b, i]) for i in range(5))) for b in range(7)]

    close(bottom_up(z, y, Q), torch.tensor(by_hand, dtype=torch.float64), **TIGHT)


def test_identities_leave_cross_entropy_and_its_gradient():
    z, y, eye = logits().requires_grad_(), labels(), torch.eye(5, dtype=torch.float64)
    p = softmax(z.detach())
    for losses in (bottom_up(z, y, eye), top_down_losses(z.log_softmax(dim=1), y, eye)):
        close(losses, -p[range(7), y].log(), **TIGHT)
        (found,) = torch.autograd.grad(losses.sum(), z)
        close(found, p - one_hot(y), **TIGHT)


def test_the_gradients_are_prediction_minus_posterior_and_the_paths_of_each_label():
    z, y, Q = logits().requires_grad_(), labels(), channel().requires_grad_()
    of_z, of_Q = torch.autograd.grad(bottom_up(z, y, Q).mean(), (z, Q))
    p = softmax(z.detach())
    joint = Q.detach()[y] * p

    close(of_z, (p - joint / joint.sum(dim=1, keepdim=True)) / 7, **TIGHT)
    by_hand = torch.zeros(5, 5, dtype=torch.float64)
    for b in range(7):
        by_hand[y[b]] -= p[b] / joint[b].sum() / 7
    close(of_Q, by_hand, **TIGHT)
    close(of_z, slope(lambda z: bottom_up(z, y, Q).mean(), z), rtol=0, atol=1e-8)
    close(of_Q, slope(lambda Q: bottom_up(z, y, Q).mean(), Q), rtol=0, atol=1e-8)


def test_the_top_down_gradient_is_prediction_minus_target():
    z, y, R = logits().requires_grad_(), labels(), channel()
    (found,) = torch.autograd.grad(top_down_losses(z.log_softmax(dim=1), y, R).sum(), z)

    close(found, softmax(z.detach()) - R.T[y], **TIGHT)


def test_a_uniform_layer_teaches_the_network_nothing():
    z = logits().requires_grad_()
    (found,) = torch.autograd.grad(bottom_up(z, labels(), torch.full((5, 5), 0.2, dtype=torch.float64)).sum(), z)

    assert found.abs().max() < 1e-12


def test_renaming_the_classes_changes_no_loss():
    z, y, Q = logits(), labels(), channel()
    order = torch.tensor([3, 0, 4, 1, 2])  # class order[k] is called k now
    P = one_hot(order)  # P e_order[k] = e_k

    renamed = bottom_up(z[:, order], order.argsort()[y], P @ Q @ P.T)

    close(renamed, bottom_up(z, y, Q), **TIGHT)
    assert (bottom_up(z[:, order], order.argsort()[y], P.T @ Q @ P) - renamed).abs().max() > 0.01


def test_with_the_true_layer_the_minimiser_is_the_clean_posterior():
    """Four inputs with free logits and the exact frequencies of their noisy labels."""
    Q, clean = channel(3), softmax(logits(4, 3, seed=5) / 4)
    frequencies = clean @ Q.T
    z = torch.zeros(4, 3, dtype=torch.float64, requires_grad=True)
    every = torch.arange(3).repeat(4)
    for _ in range(200):
        loss = (frequencies.flatten() * bottom_up(z.repeat_interleave(3, dim=0), every, Q)).sum()
        (uphill,) = torch.autograd.grad(loss, z)
        with torch.no_grad():
            z -= 5 * uphill

    close(z.softmax(dim=1), clean, rtol=0, atol=1e-6)


def test_top_down_is_cross_entropy_against_the_column_of_the_label():
    z, y = logits(), labels()
    R = reversed_channel(channel(), torch.tensor([0.1, 0.3, 0.2, 0.15, 0.25], dtype=torch.float64))
    log_p = softmax(z).log()
    by_hand = [-sum(float(R[i, y[b]] * log_p[b, i]) for i in range(5)) for b in range(7)]

    close(top_down_losses(z.log_softmax(dim=1), y, R), torch.tensor(by_hand, dtype=torch.float64), **TIGHT)


def test_the_reversed_channel_is_bayes():
    Q, prior = channel(), torch.tensor([0.1, 0.3, 0.2, 0.0, 0.4], dtype=torch.float64)
    R = reversed_channel(Q, prior)

    for i in range(5):
        for j in range(5):
            by_hand = Q[j, i] * prior[i] / sum(Q[j, k] * prior[k] for k in range(5))
            assert R[i, j].item() == pytest.approx(by_hand.item(), abs=1e-12)
    close(R.sum(dim=0), torch.ones(5, dtype=torch.float64), **TIGHT)
    # A label that no class is given keeps its meaning.
    without = Q * torch.tensor([1.0, 1.0, 0.0, 1.0, 1.0])[:, None]
    assert reversed_channel(without, prior)[:, 2].tolist() == [0, 0, 1, 0, 0]


# The projection


def test_the_projection_is_the_nearest_of_many_stochastic_columns():
    matrix = logits(6, 6, seed=3)
    found = nearest_stochastic(matrix, 0.01)

    assert (found >= 0.01).all()
    close(found.sum(dim=0), torch.ones(6, dtype=torch.float64), **TIGHT)
    # Optimal if every feasible direction leads uphill: towards each corner of the simplex.
    corners = 0.01 + (1 - 6 * 0.01) * torch.eye(6, dtype=torch.float64)
    for column in range(6):
        outward = matrix[:, column] - found[:, column]
        assert (outward @ (corners.T - found[:, column]).T <= 1e-12).all()
    close(nearest_stochastic(found, 0.01), found, **TIGHT)


def test_a_huge_step_is_projected_too():
    found = nearest_stochastic(torch.tensor([[3e9, 0.5, 0.1], [-1e9, 0.3, 0.1], [2.0, 0.2, 0.8]]), 0.01)
    close(found, torch.tensor([[0.98, 0.5, 0.1], [0.01, 0.3, 0.1], [0.01, 0.2, 0.8]]))


def descended(project, steps=200, rate=0.04):
    """Where gradient steps on Q come to rest for a perfect network and labels with the shares of the channel."""
    target = 0.8 * torch.eye(4, dtype=torch.float64) + 0.05
    z = 40 * torch.eye(4, dtype=torch.float64).repeat_interleave(4, dim=0)
    every = torch.arange(4).repeat(4)
    Q = (0.95 * torch.eye(4, dtype=torch.float64) + 0.0125).requires_grad_()
    for _ in range(steps):
        loss = (target.T.flatten() * bottom_up(z, every, Q)).sum()
        (uphill,) = torch.autograd.grad(loss, Q)
        with torch.no_grad():
            Q.copy_(project(Q - rate * uphill))
    return target, Q.detach()


def test_projected_steps_rest_at_the_true_layer_and_divided_ones_at_the_shares_square_roots():
    target, found = descended(lambda Q: nearest_stochastic(Q, 1e-6))
    close(found, target, rtol=0, atol=1e-6)

    roots = target.sqrt()
    _, divided = descended(lambda Q: Q.clamp_min(1e-6) / Q.clamp_min(1e-6).sum(dim=0))
    close(divided, roots / roots.sum(dim=0), rtol=0, atol=1e-6)


# Clean and noisy labels together


def test_weights_are_one_and_gamma_and_average_to_one():
    checked = torch.tensor([True] * 3 + [False] * 9)
    found = sample_weights(checked, 0.1, 3, 9)

    scale = 12 / (3 + 0.1 * 9)
    assert found.tolist() == pytest.approx([scale] * 3 + [0.1 * scale] * 9)
    assert found.mean().item() == pytest.approx(1.0)
    assert sample_weights(~checked[:3], 0.1, 0, 12).tolist() == pytest.approx([1.0] * 3)


def total(losses):
    return sum(losses.values())


def test_the_clean_term_bypasses_the_layer_and_the_sum_is_divided_by_all_weights():
    """All 40 images in one batch: the paper's sum over the collection."""
    method, seen = NoiseLayer(problem(verified=range(10)), gamma=0.2, alpha=0.0), batch(np.arange(40) % 5)
    Q = channel().float()
    put(method, Q)
    p = method.predict(seen.images).double()
    y = seen.noisy_labels
    clean = -sum(p[b, y[b]].log() for b in range(10))
    noisy = -sum((Q.double() @ p[b])[y[b]].log() for b in range(10, 40))

    losses = method.loss(seen, MOMENT)

    assert losses["clean"].item() == pytest.approx(clean.item() / (10 + 0.2 * 30), rel=1e-5)
    assert losses["noisy"].item() == pytest.approx(0.2 * noisy.item() / (10 + 0.2 * 30), rel=1e-5)


def test_gamma_zero_is_cross_entropy_on_the_checked_labels_alone():
    method, seen = NoiseLayer(problem(verified=range(10)), gamma=0.0, layer="none"), batch(np.arange(40) % 5)
    expected = F.cross_entropy(method.classifier(seen.images)[:10], seen.noisy_labels[:10])

    total(method.plain_loss(seen, MOMENT)).backward()
    found = method.classifier.head.weight.grad.clone()
    method.zero_grad()
    expected.backward()

    close(found, method.classifier.head.weight.grad)


@pytest.mark.parametrize("verified", [(), range(10)])
def test_gamma_one_without_a_layer_is_cross_entropy_on_all(verified):
    method, seen = NoiseLayer(problem(verified=verified), gamma=1.0, layer="none"), batch(np.arange(40) % 5)
    expected = F.cross_entropy(method.classifier(seen.images), seen.noisy_labels)

    assert total(method.plain_loss(seen, MOMENT)).item() == pytest.approx(expected.item(), rel=1e-6)
    assert method.plan(7)[0].turns == method.plain_loss


def test_without_checked_labels_gamma_plays_no_part():
    seen = batch([0, 3, 2])
    losses = [NoiseLayer(problem(), gamma=gamma).loss(seen, MOMENT)["noisy"].item() for gamma in (0.1, 1.0)]

    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


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
