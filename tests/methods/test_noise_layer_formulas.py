"""The noise layer's formulas: both directions, the projection, clean and noisy labels together."""

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.methods.noise_layer_setting import MOMENT, batch, channel, generator, logits, problem, put, total
from tests.plain import close, one_hot, softmax
from winnow.functional.correction import forward_losses
from winnow.methods.noise_layer import (
    NoiseLayer,
    nearest_stochastic,
    reversed_channel,
    sample_weights,
    top_down_losses,
)

TIGHT = {"rtol": 0.0, "atol": 1e-12}


def labels(rows=7, classes=5, seed=1):
    return torch.randint(0, classes, (rows,), generator=generator(seed))


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
