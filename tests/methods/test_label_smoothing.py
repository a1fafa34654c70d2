"""Label smoothing: both conventions, its optimum, and the negative rate that undoes symmetric noise."""

from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tests.plain import close
from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.methods.label_smoothing import LabelSmoothing, label_smoothing_loss
from winnow.models import ModelSpec

TIGHT = {"rtol": 0.0, "atol": 1e-10}
K = 5
RATES = [-0.4, 0.0, 0.1, 0.6, 1.0]
every_rate = pytest.mark.parametrize("rate", RATES)


def logits(rows=7, classes=K, seed=0):
    return 2 * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(rows=7, classes=K, seed=1):
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def log_softmax(z):
    return z - z.exp().sum(dim=1, keepdim=True).log()


def one_hot(y, classes=K):
    return torch.eye(classes, dtype=torch.float64)[y]


def prior():
    return torch.tensor([0.5, 0.2, 0.15, 0.1, 0.05], dtype=torch.float64)


def gradient(z, *args, **options):
    z = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(label_smoothing_loss(z, *args, **options), z)
    return found


def target(label, classes, rate, **options):
    """What the loss aims at: at equal logits the gradient is 1/K - target."""
    z = torch.zeros(1, classes, dtype=torch.float64)
    return 1 / classes - gradient(z, torch.tensor([label]), rate, **options)[0]


def test_rate_zero_is_cross_entropy():
    z, y = logits(), labels()
    expected = -log_softmax(z)[range(len(y)), y].mean()

    close(label_smoothing_loss(z, y, 0.0), expected, **TIGHT)
    close(label_smoothing_loss(z, y, 0.0, exclude_true=True), expected, **TIGHT)
    close(label_smoothing_loss(z, y, 0.0, prior=prior()), expected, **TIGHT)


def test_the_lectures_table_is_reproduced():
    # K = 10, rate 0.1: one becomes 0.91, zero becomes 0.01.
    by_hand = torch.full((10,), 0.01, dtype=torch.float64)
    by_hand[3] = 0.91

    close(target(3, 10, 0.1), by_hand, rtol=0, atol=1e-15)


def test_the_other_convention_spreads_the_rate_over_the_other_classes():
    by_hand = torch.full((10,), 0.1 / 9, dtype=torch.float64)
    by_hand[3] = 0.9

    close(target(3, 10, 0.1, exclude_true=True), by_hand, rtol=0, atol=1e-15)


@pytest.mark.parametrize("rate", [-0.4, 0.1, 0.6])
def test_the_conventions_agree_at_the_converted_rate(rate):
    z, y = logits(), labels()
    others = rate * (K - 1) / K

    ours = label_smoothing_loss(z, y, rate)

    close(label_smoothing_loss(z, y, others, exclude_true=True), ours, **TIGHT)
    wrong = others / (K - 1) * (1 - one_hot(y)) + (1 - others) * one_hot(y)
    close(-(wrong * log_softmax(z)).sum(dim=1).mean(), ours, **TIGHT)


def test_at_rate_one_the_uniform_prediction_is_best_and_costs_log_k():
    y = labels()
    flat = torch.zeros(len(y), K, dtype=torch.float64)

    assert label_smoothing_loss(flat, y, 1.0).item() == pytest.approx(log(K), abs=1e-12)
    assert gradient(flat, y, 1.0).abs().max() < 1e-15
    for seed in range(5):
        assert label_smoothing_loss(0.1 * logits(seed=seed), y, 1.0) > log(K)


def test_at_rate_one_the_best_prediction_is_the_prior():
    y = labels()
    best = prior().log().expand(len(y), K)
    entropy = -(prior() * prior().log()).sum()

    close(label_smoothing_loss(best, y, 1.0, prior=prior()), entropy, **TIGHT)
    assert gradient(best, y, 1.0, prior=prior()).abs().max() < 1e-15


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.6, 1.0])
def test_it_equals_torchs_own(rate):
    z, y = logits(), labels()

    expected = F.cross_entropy(z, y, label_smoothing=rate)

    close(label_smoothing_loss(z, y, rate), expected, **TIGHT)


@every_rate
@pytest.mark.parametrize("u", [None, prior()], ids=["uniform", "marginals"])
def test_it_is_cross_entropy_plus_the_priors_cross_entropy(rate, u):
    z, y = logits(), labels()
    log_p = log_softmax(z)
    weights = torch.full((K,), 1 / K, dtype=torch.float64) if u is None else u
    cross_entropy = -log_p[range(len(y)), y].mean()
    towards_prior = -(weights * log_p).sum(dim=1).mean()

    expected = (1 - rate) * cross_entropy + rate * towards_prior

    close(label_smoothing_loss(z, y, rate, prior=u), expected, **TIGHT)


@pytest.mark.parametrize("noise", [0.1, 0.4, 0.8])
def test_a_negative_rate_is_backward_correction_of_symmetric_noise(noise):
    z, y = logits(), labels()
    ones = torch.ones(K, K, dtype=torch.float64)
    eye = torch.eye(K, dtype=torch.float64)
    matrix = (1 - noise) * eye + noise / K * ones
    inverse = (eye - noise / K * ones) / (1 - noise)
    close(inverse @ matrix, eye, **TIGHT)
    costs = -log_softmax(z)  # of every label that might be the right one
    corrected = sum((inverse[y[n]] * costs[n]).sum() for n in range(len(y))) / len(y)

    close(label_smoothing_loss(z, y, -noise / (1 - noise)), corrected, **TIGHT)


@pytest.mark.parametrize("noise", [0.1, 0.4])
def test_a_positive_rate_is_the_expected_loss_under_symmetric_noise(noise):
    z, y = logits(), labels()
    costs = -log_softmax(z)
    expected = sum(
        ((1 - noise) * float(j == y[n]) + noise / K) * costs[n, j] for n in range(len(y)) for j in range(K)
    ) / len(y)

    close(label_smoothing_loss(z, y, noise), expected, **TIGHT)


@pytest.mark.parametrize(("classes", "rate", "gap"), [(10, 0.1, log(91)), (4, 0.3, log(1 + 4 * 0.7 / 0.3))])
def test_the_best_logit_gap_is_the_papers(classes, rate, gap):
    z = torch.zeros(1, classes, dtype=torch.float64)
    z[0, 2] = gap
    label = torch.tensor([2])

    assert gradient(z, label, rate).abs().max() < 1e-15
    for other in (0.9 * gap, 1.1 * gap):
        moved = z.clone()
        moved[0, 2] = other
        assert label_smoothing_loss(moved, label, rate) > label_smoothing_loss(z, label, rate)
    assert log(91) == pytest.approx(4.51, abs=0.005)


@every_rate
@pytest.mark.parametrize("u", [None, prior()], ids=["uniform", "marginals"])
def test_the_gradient_is_prediction_minus_target(rate, u):
    z, y = logits(), labels()
    weights = torch.full((K,), 1 / K, dtype=torch.float64) if u is None else u
    expected = (log_softmax(z).exp() - (1 - rate) * one_hot(y) - rate * weights) / len(y)

    found = gradient(z, y, rate, prior=u)

    close(found, expected, **TIGHT)
    assert found.sum(dim=1).abs().max() < 1e-12


@every_rate
@pytest.mark.parametrize("exclude_true", [False, True])
def test_the_gradient_agrees_with_finite_differences(rate, exclude_true):
    z, y = logits(3, 4), labels(3, 4)
    numeric = torch.zeros_like(z)
    for place in range(z.numel()):
        move = torch.zeros_like(z)
        move.view(-1)[place] = 1e-6
        above = label_smoothing_loss(z + move, y, rate, exclude_true=exclude_true)
        below = label_smoothing_loss(z - move, y, rate, exclude_true=exclude_true)
        numeric.view(-1)[place] = (above - below) / 2e-6

    close(gradient(z, y, rate, exclude_true=exclude_true), numeric, rtol=1e-7, atol=1e-8)


@every_rate
def test_renaming_the_classes_changes_nothing(rate):
    z, y = logits(), labels()
    order = torch.tensor([3, 0, 4, 1, 2])
    renamed = torch.argsort(order)[y]

    plain, moved = label_smoothing_loss(z, y, rate), label_smoothing_loss(z[:, order], renamed, rate)
    close(moved, plain, **TIGHT)
    with_prior = label_smoothing_loss(z, y, rate, prior=prior())
    both = label_smoothing_loss(z[:, order], renamed, rate, prior=prior()[order])
    close(both, with_prior, **TIGHT)
    if rate:
        apart = label_smoothing_loss(z[:, order], renamed, rate, prior=prior())
        assert abs(apart - with_prior) > 1e-4


@every_rate
def test_soft_targets_are_accepted(rate):
    z, y, other = logits(), labels(), labels(seed=5)
    soft = 0.25 * one_hot(y) + 0.75 * one_hot(other)
    expected = 0.25 * label_smoothing_loss(z, y, rate) + 0.75 * label_smoothing_loss(z, other, rate)

    close(label_smoothing_loss(z, soft, rate), expected, **TIGHT)
    close(label_smoothing_loss(z, one_hot(y), rate), label_smoothing_loss(z, y, rate), **TIGHT)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_huge_logits_give_finite_loss_and_gradient(dtype):
    z = torch.tensor([[1e4, -1e4, 0.0], [-1e4, -1e4, 1e4]]).to(dtype).requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        value = label_smoothing_loss(z, torch.tensor([1, 2]), -0.2)
    value.backward()

    assert value.isfinite()
    assert z.grad.isfinite().all()


# The method


def problem(noisy_labels=(0, 0, 0, 1, 1, 2, 2, 2, 2, 2), classes=4, held_out=0):
    noisy = np.array(noisy_labels, dtype=np.int64)
    rows = np.flatnonzero(noisy >= 0)
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("mlp", 2, 1, classes)
    return Problem(names, noisy, rows[held_out:], rows[:held_out], spec, 0, Memory(len(noisy)))


def batch(y):
    images = torch.randn(len(y), 1, 2, 2, generator=torch.Generator().manual_seed(0))
    return Batch(torch.arange(len(y)), torch.tensor(y), (images,))


def moment(epoch):
    return Moment(step=0, epoch=epoch, phase_epoch=epoch, fraction=0.0, steps_per_epoch=1)


def smoothed(method, seen, rate, weights):
    """The loss from the network's logits, summed by hand."""
    log_p = log_softmax(method.classifier(seen.images).double())
    y = seen.noisy_labels.tolist()
    rows = [
        -sum(((1 - rate) * (k == y[n]) + rate * weights[k]) * log_p[n, k].item() for k in range(4))
        for n in range(len(y))
    ]
    return sum(rows) / len(rows)


def test_the_method_smooths_towards_the_uniform_distribution():
    method, seen = LabelSmoothing(problem()), batch([0, 3, 1])

    losses = method.loss(seen, moment(0))

    assert method.rate == 0.1
    assert list(losses) == ["label_smoothing"]
    assert losses["label_smoothing"].item() == pytest.approx(smoothed(method, seen, 0.1, [0.25] * 4), rel=1e-5)


def test_the_method_smooths_towards_the_marginals_of_the_training_labels():
    # The first two rows are held out, one is unlabelled: 1 + 2 + 5 labels are left, none of class 3.
    labels = (0, 0, 0, 1, 1, -1, 2, 2, 2, 2, 2)
    method, seen = LabelSmoothing(problem(labels, held_out=2), rate=0.3, prior="marginals"), batch([0, 3, 1])
    marginals = [1 / 8, 2 / 8, 5 / 8, 0]

    assert method.prior.tolist() == marginals
    assert method.state_dict()["prior"].tolist() == marginals
    found = method.loss(seen, moment(0))["label_smoothing"].item()
    assert found == pytest.approx(smoothed(method, seen, 0.3, marginals), rel=1e-5)


@pytest.mark.parametrize("rate", [-0.2, 0.4])
def test_the_warm_up_is_cross_entropy(rate):
    method, seen = LabelSmoothing(problem(), rate=rate, warmup_epochs=2), batch([0, 3, 1])

    for epoch, expected in [(0, 0.0), (1, 0.0), (2, rate), (7, rate)]:
        found = method.loss(seen, moment(epoch))["label_smoothing"].item()
        assert found == pytest.approx(smoothed(method, seen, expected, [0.25] * 4), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rate": 1.0}, "rate must be below 1, got 1.0"),
        ({"rate": float("nan")}, "rate must be below 1, got nan"),
        ({"prior": "flat"}, "prior must be uniform or marginals, got 'flat'"),
        ({"rate": -0.1}, "a negative rate needs warmup_epochs of at least 1"),
        ({"warmup_epochs": -1}, "warmup_epochs must be at least 0, got -1"),
    ],
)
def test_options_out_of_range_are_told(options, message):
    with pytest.raises(ValueError) as error:  # noqa: PT011
        LabelSmoothing(problem(), **options)
    assert message in str(error.value)
