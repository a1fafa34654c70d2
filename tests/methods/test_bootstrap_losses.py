"""Bootstrapping: the paper's sums and its gradients on paper."""

from math import exp, log

import pytest
import torch

from tests.plain import close, one_hot, softmax
from winnow.methods.bootstrap import (
    hard_bootstrap_loss,
    multibox_bootstrap_loss,
    reconstruction_loss,
    sharp_bootstrap_loss,
    soft_bootstrap_loss,
)

TIGHT = {"rtol": 0.0, "atol": 1e-10}
BETA = 0.7
SHARPNESS = 5.0


def sharp(z, t, beta):
    return sharp_bootstrap_loss(z, t, beta, SHARPNESS)


def sharp_undetached(z, t, beta):
    return sharp_bootstrap_loss(z, t, beta, SHARPNESS, detach=False)


SOFTMAX_LOSSES = {
    "soft": soft_bootstrap_loss,
    "hard": hard_bootstrap_loss,
    "sharp": sharp,
    "sharp-undetached": sharp_undetached,
}
every_loss = pytest.mark.parametrize("loss", SOFTMAX_LOSSES.values(), ids=SOFTMAX_LOSSES)
hard_or_soft = pytest.mark.parametrize("hard", [True, False], ids=["hard", "soft"])


def logits(rows=7, classes=5, seed=0):
    return 2 * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(rows=7, classes=5, seed=1):
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def gradient(loss, z, *args):
    z = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(z, *args), z)
    return found


def slope(value, z, step=1e-6):
    """Central differences."""
    found = torch.zeros_like(z)
    for place in range(z.numel()):
        move = torch.zeros_like(z)
        move.view(-1)[place] = step
        found.view(-1)[place] = (value(z + move) - value(z - move)) / (2 * step)
    return found


# The papers' sums


def test_soft_loss_is_the_papers_sum():
    z, label, beta = [2.0, 0.0, -1.0], 1, 0.8
    q = [exp(v) / sum(map(exp, z)) for v in z]
    t = [0.0, 1.0, 0.0]
    expected = -sum((beta * t[k] + (1 - beta) * q[k]) * log(q[k]) for k in range(3))

    loss = soft_bootstrap_loss(torch.tensor([z], dtype=torch.float64), torch.tensor([label]), beta)

    assert loss.item() == pytest.approx(expected, abs=1e-12)


def test_hard_loss_is_the_papers_sum_and_a_tie_goes_to_the_lowest_class():
    z, label, beta = [1.0, 3.0, 3.0, 0.0], 3, 0.8
    q = [exp(v) / sum(map(exp, z)) for v in z]
    expected = -(beta * log(q[3]) + (1 - beta) * log(q[1]))

    found = torch.tensor([z], dtype=torch.float64, requires_grad=True)
    loss = hard_bootstrap_loss(found, torch.tensor([label]), beta)
    loss.backward()

    assert loss.item() == pytest.approx(expected, abs=1e-12)
    by_hand = [q[0], q[1] - (1 - beta), q[2], q[3] - beta]
    assert found.grad[0].tolist() == pytest.approx(by_hand, abs=1e-12)


@pytest.mark.parametrize("detach", [True, False])
def test_sharp_loss_is_the_papers_sum(detach):
    z, label, beta, sharpness = [0.5, -0.2, 0.1], 2, 0.6, 3.0
    q = [exp(v) / sum(map(exp, z)) for v in z]
    s = [exp(sharpness * v) / sum(exp(sharpness * w) for w in z) for v in z]
    expected = -sum((beta * (k == label) + (1 - beta) * s[k]) * log(q[k]) for k in range(3))

    given = torch.tensor([z], dtype=torch.float64), torch.tensor([label])
    loss = sharp_bootstrap_loss(*given, beta, sharpness, detach=detach)

    assert loss.item() == pytest.approx(expected, abs=1e-12)


@every_loss
def test_the_loss_is_the_mean_over_the_batch(loss):
    z, y = logits(), labels()
    rows = [loss(z[n : n + 1], y[n : n + 1], BETA) for n in range(len(z))]

    close(loss(z, y, BETA), sum(rows) / len(rows), **TIGHT)


# Section 7, test by test


@every_loss
def test_at_beta_one_every_loss_is_cross_entropy(loss):
    z, y = logits(), labels()
    p = softmax(z)

    close(loss(z, y, 1.0), -p[range(len(y)), y].log().mean(), **TIGHT)
    close(gradient(loss, z, y, 1.0), (p - one_hot(y)) / len(y), **TIGHT)


@hard_or_soft
def test_at_beta_one_multibox_is_binary_cross_entropy(hard):
    z, t = logits(), one_hot(labels())
    c = 1 / (1 + (-z).exp())
    expected = -(t * c.log() + (1 - t) * (1 - c).log()).mean()

    def loss(z):
        return multibox_bootstrap_loss(z, t, 1.0, hard=hard)

    close(loss(z), expected, **TIGHT)
    close(gradient(loss, z), (c - t) / t.numel(), **TIGHT)


@pytest.mark.parametrize("detach", [True, False])
def test_growing_sharpness_leads_to_the_hard_loss(detach):
    z, y = logits(100, seed=4), labels(100)
    top = z.topk(2, dim=1).values
    z, y = z[top[:, 0] - top[:, 1] > 0.1], y[top[:, 0] - top[:, 1] > 0.1]
    p = softmax(z)
    hard = -(BETA * one_hot(y) + (1 - BETA) * one_hot(z.argmax(dim=1))).mul(p.log()).sum(dim=1).mean()

    assert len(z) > 80
    assert abs(sharp_bootstrap_loss(z, y, BETA, 100.0, detach=detach) - hard) < 1e-5
    assert abs(sharp_bootstrap_loss(z, y, BETA, 1e3, detach=detach) - hard) < 1e-14


def test_sharpness_one_is_the_soft_loss_and_detached_a_scaled_cross_entropy():
    z, y = logits(), labels()
    p, t = softmax(z), one_hot(y)
    soft = -((BETA * t + (1 - BETA) * p) * p.log()).sum(dim=1).mean()

    for detach in (True, False):
        close(sharp_bootstrap_loss(z, y, BETA, 1.0, detach=detach), soft, **TIGHT)
    detached = gradient(lambda z: sharp_bootstrap_loss(z, y, BETA, 1.0, detach=True), z)
    close(detached, BETA * (p - t) / len(y), **TIGHT)


def row_gradients(z, y):
    """The table of section 2."""
    p, t, sharpened = softmax(z), one_hot(y), softmax(SHARPNESS * z)
    log_p = p.log()
    entropy = -(p * log_p).sum(dim=1, keepdim=True)
    decided = one_hot(z.argmax(dim=1))
    detached = BETA * (p - t) + (1 - BETA) * (p - sharpened)
    tilt = log_p - (sharpened * log_p).sum(dim=1, keepdim=True)
    return {
        "soft": BETA * (p - t) - (1 - BETA) * p * (log_p + entropy),
        "hard": p - (BETA * t + (1 - BETA) * decided),
        "sharp": detached,
        "sharp-undetached": detached - (1 - BETA) * SHARPNESS * sharpened * tilt,
    }


@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
def test_gradients_are_those_of_the_table(name):
    z, y = logits(), labels()

    found = gradient(SOFTMAX_LOSSES[name], z, y, BETA)

    close(found, row_gradients(z, y)[name] / len(y), **TIGHT)


def test_soft_loss_is_cross_entropy_plus_entropy():
    z, y = logits(), labels()
    p = softmax(z)
    cross_entropy = -p[range(len(y)), y].log().mean()
    entropy = -(p * p.log()).sum(dim=1).mean()

    expected = BETA * cross_entropy + (1 - BETA) * entropy

    close(soft_bootstrap_loss(z, y, BETA), expected, **TIGHT)


@hard_or_soft
def test_multibox_is_binary_cross_entropy_on_the_blend(hard):
    z, t = logits(), one_hot(labels())
    z[0, 0] = 0.0  # confidence 0.5 is not above 0.5
    c = 1 / (1 + (-z).exp())
    own = (c > 0.5).double() if hard else c
    assert not hard or own[0, 0] == 0
    on, off = BETA * t + (1 - BETA) * own, BETA * (1 - t) + (1 - BETA) * (1 - own)
    expected = -on * c.log() - off * (1 - c).log()

    def loss(z, reduction="sum"):
        return multibox_bootstrap_loss(z, t, BETA, hard=hard, reduction=reduction)

    close(loss(z, "none"), expected, **TIGHT)
    close(loss(z), expected.sum(), **TIGHT)
    close(loss(z, "mean"), expected.mean(), **TIGHT)
    by_hand = c - on if hard else BETA * (c - t) - (1 - BETA) * c * (1 - c) * z
    close(gradient(loss, z), by_hand, **TIGHT)


def test_multibox_weights_multiply_each_entry_before_the_reduction():
    z, t = logits(6, 4).reshape(2, 3, 4), one_hot(labels(6, 4), 4).reshape(2, 3, 4)
    weights = torch.tensor([[1.0, 0.0, 2.0], [0.5, 3.0, 0.0]], dtype=torch.float64)[:, :, None]
    entries = multibox_bootstrap_loss(z, t, BETA, hard=True, reduction="none")

    weighted = multibox_bootstrap_loss(z, t, BETA, hard=True, weights=weights, reduction="sum")

    close(weighted, sum(entries[b, a].sum() * weights[b, a, 0] for b in (0, 1) for a in (0, 1, 2)))
    with pytest.raises(ValueError, match="none, mean or sum, got 'total'"):
        multibox_bootstrap_loss(z, t, BETA, hard=True, reduction="total")


def test_one_sigmoid_is_a_softmax_over_two_classes():
    z = logits(9, 1)[:, 0]
    t = torch.tensor([0.0, 1.0, 0.3] * 3, dtype=torch.float64)

    def pair(z):
        both = torch.stack([z, torch.zeros_like(z)], dim=1)
        return soft_bootstrap_loss(both, torch.stack([t, 1 - t], dim=1), BETA)

    def single(z):
        return multibox_bootstrap_loss(z, t, BETA, hard=False)

    close(single(z), pair(z), **TIGHT)
    close(gradient(single, z), gradient(pair, z), **TIGHT)


@pytest.mark.parametrize("name", SOFTMAX_LOSSES)
def test_gradients_agree_with_finite_differences(name):
    z, y = logits(4, 3), labels(4, 3)
    loss = SOFTMAX_LOSSES[name]
    if name == "sharp":
        # The target stays where it was while the logits move.
        frozen = BETA * one_hot(y, 3) + (1 - BETA) * softmax(SHARPNESS * z)
        numeric = slope(lambda moved: -(frozen * softmax(moved).log()).sum(dim=1).mean(), z)
    else:
        numeric = slope(lambda moved: loss(moved, y, BETA), z)

    close(gradient(loss, z, y, BETA), numeric, rtol=1e-7, atol=1e-8)


@hard_or_soft
def test_multibox_gradients_agree_with_finite_differences(hard):
    z, t = logits(4, 3), one_hot(labels(4, 3), 3)

    def loss(z):
        return multibox_bootstrap_loss(z, t, BETA, hard=hard)

    close(gradient(loss, z), slope(loss, z), rtol=1e-7, atol=1e-8)


def test_reconstruction_gradients_agree_with_finite_differences():
    features, guess = logits(4, 3), logits(4, 3, seed=9)

    assert reconstruction_loss(torch.tensor([[1.0, 2.0], [0.0, 0.0]]), torch.tensor([[0.0, 4.0], [3.0, 0.0]])) == 7.0
    found = gradient(reconstruction_loss, features, guess)
    close(found, slope(lambda f: reconstruction_loss(f, guess), features), rtol=1e-7, atol=1e-8)
    close(found, 2 * (features - guess) / 4, **TIGHT)


@every_loss
def test_renaming_the_classes_changes_nothing_but_the_gradients_order(loss):
    z, y = logits(), labels()
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = torch.argsort(order)[y]  # class order[k] is called k now

    close(loss(z[:, order], renamed, BETA), loss(z, y, BETA), **TIGHT)
    expected = gradient(loss, z, y, BETA)[:, order]
    close(gradient(loss, z[:, order], renamed, BETA), expected, **TIGHT)


@every_loss
def test_adding_a_constant_to_a_row_changes_nothing(loss):
    z, y = logits(), labels()
    moved = z + torch.linspace(-20, 20, len(z), dtype=torch.float64)[:, None]

    close(loss(moved, y, BETA), loss(z, y, BETA), **TIGHT)
    close(gradient(loss, moved, y, BETA), gradient(loss, z, y, BETA), **TIGHT)


@every_loss
def test_gradient_rows_sum_to_zero(loss):
    assert gradient(loss, logits(), labels(), BETA).sum(dim=1).abs().max() < 1e-10


@every_loss
def test_a_one_hot_row_is_the_same_target_as_its_class(loss):
    z, y = logits(), labels()

    close(loss(z, one_hot(y), BETA), loss(z, y, BETA), **TIGHT)


@every_loss
def test_the_loss_is_linear_in_a_soft_target(loss):
    z, y, other = logits(), labels(), labels(seed=8)
    soft = 0.3 * one_hot(y) + 0.7 * one_hot(other)

    expected = 0.3 * loss(z, y, BETA) + 0.7 * loss(z, other, BETA)

    close(loss(z, soft, BETA), expected, **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@every_loss
def test_huge_logits_give_finite_loss_and_gradient(loss, dtype):
    signs = torch.tensor([[1, -1, -1], [-1, 1, 1], [1, 1, 1], [-1, -1, -1], [-1, 0, 1]])
    z = (1e4 * signs).to(dtype).requires_grad_()

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = loss(z, torch.tensor([1, 0, 2, 1, 0]), BETA)
    value.backward()

    assert value.isfinite()
    assert z.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@hard_or_soft
def test_huge_confidences_give_finite_loss_and_gradient(hard, dtype):
    z = torch.tensor([1e4, -1e4, 1e4, -1e4, 0.0]).to(dtype).requires_grad_()

    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = multibox_bootstrap_loss(z, torch.tensor([1.0, 1.0, 0.0, 0.0, 1.0]).to(dtype), BETA, hard=hard)
    value.backward()

    assert value.isfinite()
    assert z.grad.isfinite().all()
