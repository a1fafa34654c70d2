"""Cross-entropy and the three things that make it the fair control: views, mixing and averaging."""

from math import inf, nan

import numpy as np
import pytest
import torch

from tests.plain import close
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.cross_entropy import CrossEntropy, mixed
from winnow.models import ModelSpec

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)


def problem(model="mlp", size=2, classes=3):
    noisy = np.arange(12) % classes
    names = tuple(f"class {k}" for k in range(classes))
    empty = np.arange(0)
    return Problem(names, noisy, np.arange(12), empty, ModelSpec(model, size, 1, classes), 0, Memory(12))


def batch(y, size=2):
    images = torch.randn(len(y), 1, size, size, generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(len(y)), torch.tensor(y), (images,))


def cross_entropies(method, images, targets):
    """One a row, in float64, from the network's logits; targets are distributions."""
    z = method.classifier(images).double()
    log_p = z - z.exp().sum(dim=1, keepdim=True).log()
    return -(torch.tensor(targets, dtype=torch.float64) * log_p).sum(dim=1)


def fixed_draws(monkeypatch, share, partners):
    asked = []

    def sample(self, *shape):
        asked.append((self.concentration0.item(), self.concentration1.item()))
        return torch.tensor(share)

    monkeypatch.setattr(torch.distributions.Beta, "sample", sample)
    monkeypatch.setattr(torch, "randperm", lambda count: torch.tensor(partners))
    return asked


def test_images_are_blended_by_their_shares():
    images = torch.tensor([0.0, 4.0, 8.0]).reshape(3, 1, 1, 1).expand(3, 2, 2, 2)

    found = mixed(images, torch.tensor([1, 2, 0]), torch.tensor([1.0, 0.75, 0.5]))

    # 0; 0.75 * 4 + 0.25 * 8; 0.5 * 8 + 0.5 * 0
    assert found[:, 0, 0, 0].tolist() == [0.0, 5.0, 4.0]
    assert (found == found[:, :1, :1, :1]).all()


def test_share_one_gives_the_images_themselves():
    images = torch.randn(4, 3, 2, 2)

    assert torch.equal(mixed(images, torch.tensor([3, 2, 1, 0]), torch.ones(4)), images)


def test_without_options_it_is_cross_entropy_and_draws_nothing():
    method, seen = CrossEntropy(problem()), batch([0, 2, 1])
    before = torch.get_rng_state()

    losses = method.loss(seen, MOMENT)

    assert list(losses) == ["cross_entropy"]
    expected = cross_entropies(method, seen.images, np.eye(3)[[0, 2, 1]]).mean().item()
    assert losses["cross_entropy"].item() == pytest.approx(expected, rel=1e-5)
    assert torch.equal(torch.get_rng_state(), before)


def test_mixup_is_cross_entropy_of_the_blend_against_the_blended_labels(monkeypatch):
    asked = fixed_draws(monkeypatch, 0.7, [2, 0, 1])
    method, seen = CrossEntropy(problem(), mixup=0.4), batch([0, 2, 1])
    x = seen.images
    blend = torch.stack([0.7 * x[0] + 0.3 * x[2], 0.7 * x[1] + 0.3 * x[0], 0.7 * x[2] + 0.3 * x[1]])
    targets = [[0.7, 0.3, 0.0], [0.3, 0.0, 0.7], [0.0, 0.7, 0.3]]

    loss = method.loss(seen, MOMENT)["cross_entropy"]

    assert asked == [(pytest.approx(0.4), pytest.approx(0.4))]
    assert loss.item() == pytest.approx(cross_entropies(method, blend, targets).mean().item(), rel=1e-5)


def test_mixup_at_share_one_is_plain(monkeypatch):
    fixed_draws(monkeypatch, 1.0, [2, 0, 1])
    seen = batch([0, 2, 1])

    mixing = CrossEntropy(problem(), mixup=1.0).loss(seen, MOMENT)["cross_entropy"]

    assert mixing.item() == CrossEntropy(problem()).loss(seen, MOMENT)["cross_entropy"].item()


def test_mixing_weights_follow_the_beta_distribution():
    method, seen = CrossEntropy(problem(), mixup=0.2), batch([0, 2, 1])
    shares = []

    def watch(concentration):
        original = torch.distributions.Beta.sample

        def sample(self, *shape):
            shares.append(original(self, *shape))
            return shares[-1]

        concentration.setattr(torch.distributions.Beta, "sample", sample)

    torch.manual_seed(0)
    with pytest.MonkeyPatch.context() as patch:
        watch(patch)
        for _ in range(600):
            method.loss(seen, MOMENT)
    drawn = torch.stack(shares)

    # Beta(a, a): mean 1/2, variance 1 / (4 (2a + 1)).
    assert drawn.mean().item() == pytest.approx(0.5, abs=0.07)
    assert drawn.var().item() == pytest.approx(1 / (4 * 1.4), abs=0.03)


@pytest.mark.parametrize("views", ["plain", "weak", "strong"])
def test_one_phase_on_the_chosen_views(views):
    method = CrossEntropy(problem(), views=views)
    (phase,) = method.plan(7)

    assert (phase.epochs, phase.turns) == (7, method.loss)
    assert [draw.views for draw in phase.draws.values()] == [(views,)]


def test_without_averaging_the_classifier_is_deployed():
    method = CrossEntropy(problem())

    method.after_step(MOMENT)

    assert method.deployed() == [method.classifier]


@pytest.mark.parametrize("model", ["mlp", "convnet"])
@pytest.mark.parametrize(("window", "steps_per_epoch"), [(2.0, 3), (0.5, 3), (0.1, 3)])
def test_averaging_is_the_moving_average_of_the_weights(model, window, steps_per_epoch):
    size = 2 if model == "mlp" else 16
    method = CrossEntropy(problem(model, size), averaging=True, window=window)
    random = torch.Generator().manual_seed(0)
    student = method.classifier
    moving = {name: value for name, value in student.state_dict().items() if value.is_floating_point()}
    expected = {name: value.double().clone() for name, value in moving.items()}
    for step in range(15):
        for value in moving.values():
            value.add_(torch.randn(value.shape, generator=random))
        method.after_step(Moment(step, step // steps_per_epoch, 0, step / 15, steps_per_epoch))
        # A window shorter than a step keeps nothing.
        decay = max(0.0, min(1 - 1 / (window * steps_per_epoch), 1 - 1 / (step + 1)))
        for name, value in moving.items():
            expected[name] = decay * expected[name] + (1 - decay) * value.double()

    (average,) = method.deployed()
    assert average is not student
    found = average.state_dict()
    for name, value in expected.items():
        close(found[name].double(), value, rtol=1e-5, atol=1e-5)


def test_the_average_starts_as_a_plain_mean():
    method = CrossEntropy(problem(), averaging=True, window=100.0)
    seen = []
    for step in range(6):
        with torch.no_grad():
            method.classifier.head.bias.fill_(float(step**2))
        seen.append(float(step**2))
        method.after_step(Moment(step, 0, 0, 0.0, 6))
        assert method.average.network.head.bias[0].item() == pytest.approx(sum(seen) / len(seen), rel=1e-6)


def test_the_average_counts_normalised_batches_and_learns_nothing_itself():
    method = CrossEntropy(problem("convnet", 16), averaging=True)
    method.loss(batch([0, 1, 2], 16), MOMENT)["cross_entropy"].backward()
    method.after_step(MOMENT)
    counters = [name for name in method.classifier.state_dict() if name.endswith("num_batches_tracked")]

    assert len(counters) == 4
    assert all(method.average.network.state_dict()[name] == 1 for name in counters)
    assert not any(parameter.requires_grad for parameter in method.average.parameters())
    assert all(parameter.grad is None for parameter in method.average.parameters())


def test_predictions_come_from_the_average():
    method, seen = CrossEntropy(problem(), averaging=True), batch([0, 1])
    before = method.predict(seen.images)
    with torch.no_grad():
        method.classifier.head.bias.add_(torch.tensor([5.0, 0.0, 0.0]))

    assert torch.equal(method.predict(seen.images), before)
    assert (method.classifier(seen.images).softmax(dim=1) - before).abs().max() > 0.1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "bare"}, "views must be plain, weak or strong, got 'bare'"),
        ({"mixup": -0.1}, "mixup must be at least 0"),
        ({"mixup": nan}, "mixup must be at least 0"),
        ({"mixup": inf}, "mixup must be at least 0"),
        ({"window": 0.0}, "window must be above 0"),
        ({"window": -1.0}, "window must be above 0"),
        ({"window": nan}, "window must be above 0"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(ValueError, match=message):
        CrossEntropy(problem(), **options)
