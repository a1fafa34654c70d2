"""Bootstrapping: what the methods do with the paper's sums, see `test_bootstrap_losses.py`."""

from math import exp, log

import numpy as np
import pytest
import torch

from tests.plain import close, one_hot, softmax
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.bootstrap import BootstrapHard, BootstrapReconstruction, BootstrapSharp, BootstrapSoft
from winnow.models import ModelSpec
from winnow.survey import Survey

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)


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
