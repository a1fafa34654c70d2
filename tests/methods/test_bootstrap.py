"""Bootstrapping: the paper's sums, its gradients on paper, and what the methods do with them."""

from math import exp, log

import numpy as np
import pytest
import torch

from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.bootstrap import (
    BootstrapHard,
    BootstrapReconstruction,
    BootstrapSharp,
    BootstrapSoft,
    hard_bootstrap_loss,
    multibox_bootstrap_loss,
    reconstruction_loss,
    sharp_bootstrap_loss,
    soft_bootstrap_loss,
)
from winnow.models import ModelSpec
from winnow.survey import Survey

TIGHT = {"rtol": 0.0, "atol": 1e-10}
BETA = 0.7
SHARPNESS = 5.0
MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)


def close(found, expected, rtol=1e-5, atol=1e-6):
    found, expected = found.detach().numpy(), expected.detach().numpy()
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=atol)


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


def softmax(z):
    e = (z - z.max(dim=1, keepdim=True).values).exp()
    return e / e.sum(dim=1, keepdim=True)


def one_hot(y, classes=5):
    return torch.eye(classes, dtype=torch.float64)[y]


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


# The methods


def problem(classes=5, noisy_labels=None, held_out=0, size=2):
    noisy = np.arange(40) % classes if noisy_labels is None else noisy_labels
    rows = np.arange(len(noisy))
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("mlp", size, 1, classes)
    return Problem(names, noisy.astype(np.int64), rows[held_out:], rows[:held_out], spec, 0, Memory(len(noisy)))


def batch(y, size=2, seed=0):
    images = torch.randn(len(y), 1, size, size, generator=torch.Generator().manual_seed(seed))
    return Batch(torch.arange(len(y)), torch.tensor(y), (images,))


def layers(method, images):
    """Logits and features in float64, from the weights."""
    first, _, second, _ = method.classifier.body
    head = method.classifier.head
    x = images.flatten(1).double()
    x = (x @ first.weight.double().T + first.bias.double()).clamp_min(0)
    x = (x @ second.weight.double().T + second.bias.double()).clamp_min(0)
    return x @ head.weight.double().T + head.bias.double(), x


@pytest.mark.parametrize(
    ("kind", "options", "target"),
    [
        (BootstrapSoft, {"beta": 0.6}, lambda z: softmax(z)),
        (BootstrapHard, {"beta": 0.6}, lambda z: one_hot(z.argmax(dim=1))),
        (BootstrapSharp, {"beta": 0.6, "sharpness": 4.0}, lambda z: softmax(4 * z)),
        (BootstrapSharp, {"beta": 0.6, "sharpness": 4.0, "detach": False}, lambda z: softmax(4 * z)),
    ],
)
def test_the_methods_minimise_their_blend(kind, options, target):
    method, seen = kind(problem(), **options), batch([0, 4, 2])
    z, _ = layers(method, seen.images)
    blend = 0.6 * one_hot(seen.noisy_labels) + 0.4 * target(z)
    expected = -(blend * softmax(z).log()).sum(dim=1).mean()

    losses = method.loss(seen, MOMENT)

    assert list(losses) == ["bootstrap"]
    assert losses["bootstrap"].item() == pytest.approx(expected.item(), rel=1e-5)


def test_detaching_changes_the_gradient_of_the_sharp_method_only_in_its_target():
    seen = batch([0, 4, 2])
    found = []
    for detach in (True, False):
        method = BootstrapSharp(problem(), beta=0.6, sharpness=4.0, detach=detach)
        method.loss(seen, MOMENT)["bootstrap"].backward()
        z, _ = layers(method, seen.images)
        p, s = softmax(z), softmax(4 * z)
        expected = 0.6 * (p - one_hot(seen.noisy_labels)) + 0.4 * (p - s)
        if not detach:
            expected = expected - 0.4 * 4 * s * (p.log() - (s * p.log()).sum(dim=1, keepdim=True))
        found.append(method.classifier.head.bias.grad)
        close(found[-1].double(), expected.mean(dim=0), rtol=1e-4, atol=1e-6)
    assert (found[0] - found[1]).abs().max() > 1e-3


def test_defaults_are_the_papers():
    assert BootstrapSoft(problem()).beta == 0.95
    assert BootstrapHard(problem()).beta == 0.8


@pytest.mark.parametrize("kind", [BootstrapSoft, BootstrapHard, BootstrapSharp])
def test_warm_up_comes_first_and_is_cross_entropy(kind):
    method, seen = kind(problem(), warmup_epochs=3), batch([1, 3])
    warm, main = method.plan(10)

    assert (warm.name, warm.epochs) == ("warm up", 3)
    assert (main.name, main.epochs) == ("bootstrap", 7)
    assert main.turns == method.loss
    z, _ = layers(method, seen.images)
    expected = -softmax(z)[[0, 1], [1, 3]].log().mean().item()
    assert warm.turns(seen, MOMENT)["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("kind", [BootstrapSoft, BootstrapHard, BootstrapSharp])
def test_a_run_shorter_than_the_warm_up_is_all_warm_up(kind):
    phases = kind(problem(), warmup_epochs=9).plan(4)

    assert [phase.epochs for phase in phases] == [4, 0]
    assert [phase.epochs for phase in kind(problem(), warmup_epochs=0).plan(4)] == [4]


def test_only_a_chosen_sharpness_surveys_the_collection():
    assert [phase.revise for phase in BootstrapSharp(problem(), sharpness=5.0).plan(4)] == [None, None]
    chooser = BootstrapSharp(problem(), sharpness=0.0)
    warm, main = chooser.plan(4)
    assert warm.revise is None
    assert main.revise == chooser.choose_sharpness
    assert main.revise_every == 1
    assert (warm.epochs, main.epochs) == (1, 3)


def planted(sharpness, count=20_000, classes=5, noise=0.3, seed=0):
    """Beliefs flattened by 1/sharpness, and labels drawn from the true ones, a share replaced by any class."""
    random = np.random.default_rng(seed)
    z = random.normal(0, 5, (count, classes))
    truth = (z + random.gumbel(size=z.shape)).argmax(axis=1)  # a draw from softmax(z)
    noisy = np.where(random.random(count) < noise, random.integers(0, classes, count), truth)
    flat = np.exp(z / sharpness - (z / sharpness).max(axis=1, keepdims=True))
    return (flat / flat.sum(axis=1, keepdims=True)).astype(np.float32), noisy


@pytest.mark.parametrize("sharpness", [1.0, 2.0, 5.0, 10.0])
def test_the_planted_sharpness_is_found_in_spite_of_label_noise(sharpness):
    probs, noisy = planted(sharpness)
    method = BootstrapSharp(problem(noisy_labels=noisy), sharpness=0.0)

    method.choose_sharpness(Survey({"probs": probs}))

    assert method.chosen_sharpness.item() == sharpness
    assert method.log_values() == {"sharpness": sharpness}
    assert method.state_dict()["chosen_sharpness"].item() == sharpness


def test_sharpness_is_chosen_on_held_out_labels_where_there_are_some():
    held_out, held_out_labels = planted(5.0, count=5_000)
    train, train_labels = planted(1.0, count=20_000, seed=1)
    noisy = np.concatenate([held_out_labels, train_labels])
    method = BootstrapSharp(problem(noisy_labels=noisy, held_out=5_000), sharpness=0.0)

    method.choose_sharpness(Survey({"probs": np.concatenate([held_out, train])}))

    assert method.chosen_sharpness.item() == 5.0


def test_the_loss_uses_the_chosen_sharpness():
    method, seen = BootstrapSharp(problem(), beta=0.5, sharpness=0.0), batch([0, 1])
    method.chosen_sharpness.fill_(10.0)
    z, _ = layers(method, seen.images)
    blend = 0.5 * one_hot(seen.noisy_labels) + 0.5 * softmax(10 * z)
    expected = -(blend * softmax(z).log()).sum(dim=1).mean().item()

    assert method.loss(seen, MOMENT)["bootstrap"].item() == pytest.approx(expected, rel=1e-5)


# Reconstruction


def test_the_noise_head_starts_out_with_the_assumed_noise():
    method = BootstrapReconstruction(problem(), assumed_noise=0.2)
    c = log(4 * 0.8 / 0.2)

    close(method.noise_head.weight, c * torch.eye(5))
    assert (method.noise_head.bias == 0).all()
    # A certain clean class gives its own label with probability 1 - assumed.
    assert exp(c) / (exp(c) + 4) == pytest.approx(0.8)
    noisy = softmax(method.noise_head(torch.eye(5)).double())
    close(noisy.diagonal(), torch.full((5,), 0.8, dtype=torch.float64), rtol=1e-6, atol=0)


def test_reconstruction_is_the_papers_sum():
    method, seen = BootstrapReconstruction(problem(3), reconstruction_weight=0.02), batch([0, 2, 1, 1])
    random = torch.Generator().manual_seed(3)
    with torch.no_grad():
        method.noise_head.weight.copy_(2 * torch.randn(3, 3, generator=random))
        method.noise_head.bias.copy_(torch.randn(3, generator=random))
    z, f = layers(method, seen.images)
    q = softmax(z)
    w2, b2 = method.noise_head.weight.double(), method.noise_head.bias.double()
    w3 = method.reconstruction.weight.double()
    noisy = distance = 0.0
    for n, given in enumerate([0, 2, 1, 1]):
        # Entry (r, c) of W2 leads from the true class c to the noisy class r.
        scores = [sum(w2[r, c] * q[n, c] for c in range(3)) + b2[r] for r in range(3)]
        noisy -= (scores[given].exp() / sum(s.exp() for s in scores)).log() / 4
        guess = sum(q[n, c] * w3[:, c] for c in range(3))
        distance += ((f[n] - guess) ** 2).sum() / 4

    losses = method.loss(seen, MOMENT)

    assert losses["noisy_labels"].item() == pytest.approx(noisy.item(), rel=1e-5)
    assert losses["reconstruction"].item() == pytest.approx(0.02 * distance.item(), rel=1e-5)


def test_reconstruction_trains_network_noise_head_and_decoder_together():
    method = BootstrapReconstruction(problem())
    sum(method.loss(batch([0, 1, 2]), MOMENT).values()).backward()

    for parameter in (method.noise_head.weight, method.reconstruction.weight, *method.classifier.parameters()):
        assert parameter.grad is not None
        assert parameter.grad.abs().sum() > 0


def test_confident_and_without_reconstruction_it_is_cross_entropy():
    method, seen = BootstrapReconstruction(problem(), reconstruction_weight=0.0), batch([3, 3, 3])
    with torch.no_grad():
        method.classifier.head.weight.zero_()
        method.classifier.head.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 20.0, 0.0]))
        method.noise_head.weight.copy_(30 * torch.eye(5))
    losses = method.loss(seen, MOMENT)
    cross_entropy = log(1 + 4 * exp(-20))

    assert abs(sum(losses.values()).item() - cross_entropy) < 1e-4
    assert losses["reconstruction"] == 0


def test_predictions_are_the_clean_posterior_never_the_noise_heads():
    method, seen = BootstrapReconstruction(problem()), batch([0, 1, 2])
    with torch.no_grad():
        method.noise_head.weight.copy_(torch.roll(10 * torch.eye(5), 1, dims=0))
    z, _ = layers(method, seen.images)

    close(method.predict(seen.images).double(), softmax(z), rtol=1e-5, atol=1e-6)


def test_reconstruction_stays_in_float32_under_autocast():
    method, seen = BootstrapReconstruction(problem()), batch([0, 1, 2])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = method.loss(seen, MOMENT)

    assert all(value.dtype == torch.float32 and value.isfinite() for value in losses.values())


def test_reconstruction_follows_cross_entropy_at_a_tenth_of_the_rate():
    warm, joint = BootstrapReconstruction(problem(), warmup_share=0.3).plan(10)

    assert (warm.epochs, joint.epochs) == (3, 7)
    # Both phases peak when a tenth of the phase is done, wherever the run stands.
    assert warm.schedule(0.03, 0.1) == pytest.approx(1.0)
    assert joint.schedule(0.37, 0.1) == pytest.approx(0.1)
    assert joint.schedule(0.6, 0.55) == pytest.approx(0.05)
    assert [p.epochs for p in BootstrapReconstruction(problem(), warmup_share=0.01).plan(5)] == [1, 4]
    assert [p.epochs for p in BootstrapReconstruction(problem()).plan(1)] == [1, 0]


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (BootstrapSoft, {"beta": -0.1}, "beta must lie in [0, 1], got -0.1"),
        (BootstrapSoft, {"beta": 1.1}, "beta must lie in [0, 1], got 1.1"),
        (BootstrapHard, {"beta": float("nan")}, "beta must lie in [0, 1], got nan"),
        (BootstrapHard, {"warmup_epochs": -1}, "warmup_epochs must be at least 0, got -1"),
        (BootstrapSharp, {"sharpness": 0.5}, "sharpness must be at least 1"),
        (BootstrapSharp, {"sharpness": -2.0}, "sharpness must be at least 1"),
        (BootstrapSharp, {"sharpness": float("inf")}, "sharpness must be at least 1"),
        (BootstrapSharp, {"sharpness": float("nan")}, "sharpness must be at least 1"),
        (BootstrapReconstruction, {"reconstruction_weight": -1.0}, "reconstruction_weight must be at least 0"),
        (BootstrapReconstruction, {"reconstruction_weight": float("nan")}, "reconstruction_weight must be at least 0"),
        (BootstrapReconstruction, {"assumed_noise": 0.0}, "assumed_noise must lie in (0, 1), got 0.0"),
        (BootstrapReconstruction, {"assumed_noise": 1.0}, "assumed_noise must lie in (0, 1), got 1.0"),
        (BootstrapReconstruction, {"warmup_share": 0.0}, "warmup_share must lie in (0, 1), got 0.0"),
        (BootstrapReconstruction, {"warmup_share": 1.0}, "warmup_share must lie in (0, 1), got 1.0"),
    ],
)
def test_options_out_of_range_are_told(kind, options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        kind(problem(), **options)
    assert message in str(error.value)
