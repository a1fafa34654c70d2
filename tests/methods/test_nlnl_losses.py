"""The negative loss and complementary labels: equations by hand, limits, gradients."""

from functools import partial
from math import exp, log

import pytest
import torch
import torch.nn.functional as F

from tests.plain import close, one_hot, softmax
from winnow.methods.nlnl import drawn_complements, log_complements, mean_of_selected, negative_losses

TIGHT = {"rtol": 0.0, "atol": 1e-12}
K = 5


def logits(rows=7, classes=K, seed=0):
    return 2 * torch.randn(rows, classes, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def labels(rows=7, classes=K, seed=1):
    return torch.randint(0, classes, (rows,), generator=torch.Generator().manual_seed(seed))


def gradient(loss, z):
    z = z.clone().requires_grad_()
    (found,) = torch.autograd.grad(loss(z).sum(), z)
    return found


# The loss


def test_the_loss_is_the_papers_sum():
    z, y, drawn = [2.0, 0.0, -1.0, 0.5], 1, [0, 3, 0]
    p = [exp(v) / sum(map(exp, z)) for v in z]
    given = torch.tensor([z], dtype=torch.float64), torch.tensor([y])

    sampled = negative_losses(*given, torch.tensor([drawn]))
    every = negative_losses(*given)

    assert sampled.item() == pytest.approx(-sum(log(1 - p[k]) for k in drawn), abs=1e-12)
    assert every.item() == pytest.approx(-sum(log(1 - p[k]) for k in (0, 2, 3)), abs=1e-12)


@pytest.mark.parametrize("classes", [2, 5])
def test_the_gradient_of_one_complementary_label_is_the_papers(classes):
    z, k = logits(50, classes), labels(50, classes, seed=3)
    y = (k + 1) % classes
    p, rows = softmax(z), torch.arange(50)
    own = p[rows, k][:, None]
    expected = torch.where(one_hot(k, classes) == 1, own, -p * own / (1 - own))

    found = gradient(lambda z: negative_losses(z, y, k[:, None]), z)

    close(found, expected, **TIGHT)
    assert found.sum(dim=1).abs().max() < 1e-12
    assert (found[rows, k] > 0).all()
    assert (found[one_hot(k, classes) == 0] < 0).all()
    assert found.abs().max() <= 1


def test_gradients_agree_with_finite_differences():
    z, y, drawn = logits(3, 4), torch.tensor([0, 3, 1]), torch.tensor([[1, 2], [0, 0], [3, 2]])
    for loss in (lambda z: negative_losses(z, y), lambda z: negative_losses(z, y, drawn)):
        numeric = torch.zeros_like(z)
        for place in range(z.numel()):
            move = torch.zeros_like(z)
            move.view(-1)[place] = 1e-6
            numeric.view(-1)[place] = (loss(z + move).sum() - loss(z - move).sum()) / 2e-6
        close(gradient(loss, z), numeric, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("classes", [2, 10, 100])
def test_at_a_uniform_prediction_the_pull_on_the_given_class_is_much_weaker_than_cross_entropys(classes):
    z, y = torch.zeros(1, classes, dtype=torch.float64), torch.tensor([1])
    positive = gradient(lambda z: F.cross_entropy(z, y), z)

    one = gradient(lambda z: negative_losses(z, y, torch.tensor([[0]])), z)
    every = gradient(lambda z: negative_losses(z, y), z)

    assert (positive[0, 1] / one[0, 1]).item() == pytest.approx((classes - 1) ** 2, rel=1e-12)
    # All at once: cross-entropy's own gradient, divided by K - 1.
    close(every * (classes - 1), positive, **TIGHT)


def test_of_two_classes_negative_learning_is_cross_entropy():
    z, y = logits(20, 2), labels(20, 2)
    positive = partial(F.cross_entropy, target=y, reduction="none")

    for drawn in (None, 1 - y[:, None], drawn_complements(y, 2, 1)):
        close(negative_losses(z, y, drawn), positive(z), **TIGHT)
        close(gradient(lambda z: negative_losses(z, y, drawn), z), gradient(positive, z), **TIGHT)  # noqa: B023


def test_the_closed_form_is_the_sum_over_every_other_class_and_the_mean_of_the_draws():
    z, y = logits(1), labels(1)
    others = [k for k in range(K) if k != y]
    each = [negative_losses(z, y, torch.tensor([[k]])) for k in others]

    close(negative_losses(z, y), sum(each), **TIGHT)
    draws = 20_000
    torch.manual_seed(0)
    sampled = negative_losses(z, y, drawn_complements(y, K, draws)).item() / draws
    spread = torch.cat(each).std(correction=0).item() / draws**0.5
    assert spread > 0
    assert abs(sampled - negative_losses(z, y).item() / (K - 1)) < 4 * spread


def test_no_draw_is_the_given_label_and_each_other_class_is_as_frequent():
    y = torch.arange(4).repeat(25_000)
    torch.manual_seed(1)

    drawn = drawn_complements(y, 4, 10)

    assert drawn.shape == (100_000, 10)
    assert not (drawn == y[:, None]).any()
    for label in range(4):
        counts = torch.bincount(drawn[y == label].flatten(), minlength=4)
        assert counts.sum() == 250_000
        expected, sigma = 250_000 / 3, (250_000 * (1 / 3) * (2 / 3)) ** 0.5
        assert all(abs(counts[k] - expected) < 4 * sigma for k in range(4) if k != label)


def test_log_complements_are_exact_where_the_probability_is_next_to_one():
    z = torch.tensor([[20.0, 0.0, 0.0, 0.0]], requires_grad=True)
    y = torch.tensor([1])

    loss = negative_losses(z, y, torch.tensor([[0]]))
    loss.sum().backward()

    assert loss.item() == pytest.approx(log(exp(20) + 3) - log(3), rel=1e-6)
    assert z.grad[0].tolist() == pytest.approx([1, -1 / 3, -1 / 3, -1 / 3], abs=1e-6)
    tie = log_complements(torch.zeros(1, 2, dtype=torch.float64))
    assert tie[0].tolist() == pytest.approx([log(0.5)] * 2, abs=1e-15)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [2, 3])
def test_huge_logits_give_finite_loss_and_gradient(dtype, classes):
    signs = torch.tensor([[1, -1, -1], [-1, 1, 1], [1, 1, 1], [-1, -1, -1], [-1, 0, 1]])[:, :classes]
    for drawn in (None, torch.tensor([[0], [0], [1], [0], [1]])):
        z = (1e4 * signs).to(dtype).requires_grad_()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
            losses = negative_losses(z, torch.tensor([1, 1, 0, 1, 0]), drawn)
        losses.sum().backward()
        assert losses.isfinite().all()
        assert losses.max() > 9000
        assert z.grad.isfinite().all()


@pytest.mark.parametrize("left_out", [float("inf"), float("nan")])
def test_a_loss_that_was_left_out_may_be_anything(left_out):
    losses = torch.tensor([1.0, left_out, 3.0], requires_grad=True)

    mean = mean_of_selected(losses, torch.tensor([True, False, True]))
    mean.backward()

    assert mean.item() == 2.0
    assert losses.grad.tolist() == [0.5, 0.0, 0.5]


def test_an_empty_selection_has_no_loss_and_no_gradient():
    z, y = logits(), labels()

    def loss(z):
        return mean_of_selected(negative_losses(z, y), torch.zeros(7, dtype=torch.bool))

    assert loss(z).item() == 0
    assert (gradient(loss, z) == 0).all()
    selected = torch.tensor([True, False, True, False, False, False, True])
    by_hand = negative_losses(z, y)[[0, 2, 6]].sum() / 3
    close(mean_of_selected(negative_losses(z, y), selected), by_hand, **TIGHT)
