"""MLNT's parts: synthetic labels, the virtual step and its gradient, the ramp."""

from __future__ import annotations

from math import exp

import pytest
import torch
from torch import nn

from tests.plain import close, one_hot, softmax
from winnow.methods.mlnt import moved_logits, ramp, synthetic_labels

CLASSES = 3


class Tanh(nn.Module):
    """A tiny smooth network in float64."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(4, 5), nn.Linear(5, CLASSES)
        self.double()

    def forward(self, inputs):
        return self.second(self.first(inputs).tanh())


@pytest.fixture
def tiny():
    """(network, inputs, labels of the step, the teacher's probabilities)."""
    torch.manual_seed(0)
    network = Tanh()
    inputs = torch.randn(6, 4, dtype=torch.float64)
    return network, inputs, torch.tensor([0, 1, 2, 2, 0, 1]), softmax(2 * torch.randn(6, CLASSES, dtype=torch.float64))


def divergence(z, q):
    """KL(q || softmax z), a mean over images."""
    return (q * (q.log() - softmax(z).log())).sum(dim=1).mean()


def vector(tensors):
    return torch.cat([t.reshape(-1) for t in tensors])


def meta_gradient(network, inputs, labels, teacher, rate, second_order):
    moved = moved_logits(network, inputs, network(inputs), labels, rate, second_order=second_order)
    return vector(torch.autograd.grad(divergence(moved, teacher), list(network.parameters())))


def set_to(network, values):
    with torch.no_grad():
        nn.utils.vector_to_parameters(values, network.parameters())


def stepped(network, inputs, labels, rate):
    """Weights after a step of gradient descent, as a vector."""
    weights = list(network.parameters())
    loss = -(one_hot(labels, CLASSES) * softmax(network(inputs)).log()).sum(dim=1).mean()
    return vector(weights).detach() - rate * vector(torch.autograd.grad(loss, weights))


# Synthetic labels


def test_exactly_the_share_of_images_gets_the_label_of_a_neighbour():
    torch.manual_seed(0)
    own, near = torch.full((10,), 7), torch.arange(10)[:, None] + torch.tensor([[100, 200, 300]])

    sets = synthetic_labels(own, near, sets=400, share=0.35)

    assert sets.shape == (400, 10)
    resampled = sets != 7
    assert (resampled.sum(dim=1) == 3).all()  # floor of 3.5
    # Each image draws among its own neighbours, each of which is as likely, and each image is as likely drawn.
    images = torch.arange(10).expand(400, 10)[resampled]
    assert (sets[resampled] % 100 == images).all()
    assert torch.bincount(sets[resampled] // 100, minlength=4)[1:].min() > 330
    assert torch.bincount(images, minlength=10).min() > 80


@pytest.mark.parametrize(("share", "count"), [(0.0, 0), (0.29, 29), (0.295, 29), (1.0, 100)])
def test_the_number_of_resampled_labels_is_rounded_down(share, count):
    sets = synthetic_labels(torch.zeros(100, dtype=torch.int64), torch.ones(100, 2, dtype=torch.int64), 5, share)
    assert (sets.sum(dim=1) == count).all()


def test_where_there_is_one_class_the_labels_stay():
    sets = synthetic_labels(torch.full((8,), 2), torch.full((8, 3), 2), 4, 0.5)
    assert (sets == 2).all()


def test_each_set_is_another_draw_and_torchs_generator_decides_it():
    near = torch.randint(5, (30, 10), generator=torch.Generator().manual_seed(1))
    drawn = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        drawn.append(synthetic_labels(torch.zeros(30, dtype=torch.int64), near, 2, 0.5))
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    assert not torch.equal(drawn[0][0], drawn[0][1])


# The virtual step


@pytest.mark.parametrize("second_order", [False, True])
def test_the_moved_network_is_one_step_of_gradient_descent_away(tiny, second_order):
    network, inputs, labels, _ = tiny
    before = vector(network.parameters()).detach().clone()

    found = moved_logits(network, inputs, network(inputs), labels, 0.7, second_order=second_order)

    assert torch.equal(vector(network.parameters()), before)
    set_to(network, stepped(network, inputs, labels, 0.7))
    close(found, network(inputs), rtol=0, atol=1e-12)


def test_second_order_is_the_derivative_of_the_whole(tiny):
    network, inputs, labels, teacher = tiny
    found = meta_gradient(network, inputs, labels, teacher, 0.5, second_order=True)
    theta = vector(network.parameters()).detach().clone()

    def loss_at(weights):
        set_to(network, weights)
        set_to(network, stepped(network, inputs, labels, 0.5))
        return divergence(network(inputs), teacher).item()

    step = 1e-5
    differences = []
    for place in range(len(theta)):
        shift = torch.zeros_like(theta)
        shift[place] = step
        differences.append((loss_at(theta + shift) - loss_at(theta - shift)) / (2 * step))
    expected = torch.tensor(differences, dtype=torch.float64)

    assert (found - expected).norm() / expected.norm() < 1e-6


def test_first_order_is_the_gradient_at_the_moved_weights_and_second_order_adds_the_hessian(tiny):
    network, inputs, labels, teacher = tiny
    rate = 0.5
    first = meta_gradient(network, inputs, labels, teacher, rate, second_order=False)
    second = meta_gradient(network, inputs, labels, teacher, rate, second_order=True)
    theta, weights = vector(network.parameters()).detach().clone(), list(network.parameters())

    set_to(network, stepped(network, inputs, labels, rate))
    g1 = vector(torch.autograd.grad(divergence(network(inputs), teacher), weights))
    set_to(network, theta)
    loss = -(one_hot(labels, CLASSES) * softmax(network(inputs)).log()).sum(dim=1).mean()
    gradient = vector(torch.autograd.grad(loss, weights, create_graph=True))
    hessian_product = vector(torch.autograd.grad(gradient @ g1, weights))

    close(first, g1, rtol=0, atol=1e-12)
    close(second, g1 - rate * hessian_product, rtol=0, atol=1e-8)
    assert (first - second).norm() > 0.01 * second.norm()  # the two are told apart here


@pytest.mark.parametrize("second_order", [False, True])
def test_a_step_of_no_length_leaves_the_plain_gradient(tiny, second_order):
    network, inputs, labels, teacher = tiny
    plain = vector(torch.autograd.grad(divergence(network(inputs), teacher), list(network.parameters())))

    close(meta_gradient(network, inputs, labels, teacher, 0.0, second_order), plain, rtol=0, atol=1e-15)
    own = softmax(network(inputs)).detach()
    assert divergence(moved_logits(network, inputs, network(inputs), labels, 0.0), own).item() == pytest.approx(0)
    assert meta_gradient(network, inputs, labels, own, 0.0, second_order).abs().max() < 1e-15


def test_many_sets_of_labels_share_one_forward_pass(tiny):
    network, inputs, labels, _ = tiny
    logits = network(inputs)
    for other in (labels, labels.flip(0)):
        close(
            moved_logits(network, inputs, logits, other, 0.5),
            moved_logits(network, inputs, network(inputs), other, 0.5),
            rtol=0,
            atol=1e-15,
        )


# The ramp


def test_the_ramp_starts_at_exp_minus_five_and_rises_to_one():
    assert ramp(0.0, 0.1, 0.3) == ramp(0.1, 0.1, 0.3) == 0
    assert ramp(0.1 + 1e-12, 0.1, 0.3) == pytest.approx(exp(-5))
    assert ramp(0.2, 0.1, 0.3) == pytest.approx(exp(-5 / 4))
    assert ramp(0.3, 0.1, 0.3) == ramp(0.9, 0.1, 0.3) == 1
    values = [ramp(t / 100, 0.1, 0.3) for t in range(101)]
    assert values == sorted(values)
    assert ramp(0.2, 0.2, 0.2) == 0  # no ramp at all
    assert ramp(0.21, 0.2, 0.2) == 1
