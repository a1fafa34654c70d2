"""Our optimiser against torch's own, over state that is ours."""

from copy import deepcopy

import numpy as np
import pytest
import torch
from torch import nn

from winnow.labels.memory import Memory
from winnow.methods.base import Method, Problem
from winnow.models import ModelSpec
from winnow.train.optimizers import SGD, Optimizers

RATES = [0.05, 0.1, 0.1, 0.02, 0.07, 0.0, 0.03]


class Parts(Method):
    """A network, and beside it a vector of ten times the rate and no decay."""

    name = "parts"
    title = "Two groups"

    def __init__(self, problem, groups=True):
        super().__init__(problem)
        self.groups = groups
        self.offset = nn.Parameter(torch.tensor([0.5, -0.25, 1.0]))
        self.late = nn.Parameter(torch.tensor([2.0, 3.0]))
        self.fixed = nn.Parameter(torch.ones(2), requires_grad=False)

    def parameter_groups(self, parameters):
        if not self.groups:
            return super().parameter_groups(parameters)
        own = [p for p in parameters if p is self.offset or p is self.late]
        rest = [p for p in parameters if p is not self.offset and p is not self.late]
        return [{"params": rest}, {"params": own, "lr_scale": 10.0, "weight_decay": 0.0}]


def method(groups=True):
    noisy = np.arange(6) % 3
    names = ("a", "b", "c")
    spec = ModelSpec("mlp", 2, 1, 3)
    problem = Problem(names, noisy, np.arange(6), np.arange(0), spec, 0, Memory(6))
    return Parts(problem, groups).double()


def set_gradients(module, step, late_from=0):
    """Gradients that depend on step and place alone; `late` has none before step `late_from`, `fixed` never."""
    for place, (name, parameter) in enumerate(module.named_parameters()):
        random = torch.Generator().manual_seed(1000 * step + place)
        if name == "fixed" or (name == "late" and step < late_from):
            parameter.grad = None
        else:
            parameter.grad = torch.randn(parameter.shape, dtype=parameter.dtype, generator=random)


def weights(module):
    return {name: value.detach().clone() for name, value in module.named_parameters()}


def assert_same(found, expected, atol=1e-12):
    for name, value in expected.items():
        np.testing.assert_allclose(found[name].numpy(), value.numpy(), rtol=0, atol=atol, err_msg=name)


@pytest.mark.parametrize("late_from", [0, 3, 99])
def test_it_moves_as_torchs_own_does(late_from):
    ours, theirs = method(groups=False), method(groups=False)
    optimizers = Optimizers(ours)
    moved = [p for p in theirs.parameters() if p.requires_grad]
    reference = torch.optim.SGD(moved, lr=1.0, momentum=0.9, weight_decay=5e-4, nesterov=True)
    for step, rate in enumerate(RATES):
        set_gradients(ours, step, late_from)
        optimizers.get("main", None).step(rate)
        set_gradients(theirs, step, late_from)
        reference.param_groups[0]["lr"] = rate
        reference.step()
        assert_same(weights(ours), weights(theirs))
        assert optimizers.get("main", None).rate == rate

    start = weights(method())
    assert torch.equal(ours.fixed, start["fixed"])
    assert torch.equal(ours.late, start["late"]) == (late_from == 99)


def test_groups_have_their_own_rate_and_decay():
    ours, theirs = method(), method()
    optimizer = Optimizers(ours, weight_decay=0.01).get("main", None)
    own = [theirs.offset, theirs.late]
    rest = list(theirs.classifier.parameters())
    reference = torch.optim.SGD(
        [{"params": rest, "weight_decay": 0.01}, {"params": own, "weight_decay": 0.0}],
        lr=1.0,
        momentum=0.9,
        nesterov=True,
    )
    for step, rate in enumerate(RATES):
        set_gradients(ours, step)
        optimizer.step(rate)
        set_gradients(theirs, step)
        reference.param_groups[0]["lr"], reference.param_groups[1]["lr"] = rate, 10 * rate
        reference.step()

    assert_same(weights(ours), weights(theirs))


def test_nesterovs_steps_by_hand():
    """w = 1, gradients 1 and -0.5, decay 0.1, momentum 0.5, rate 0.2."""
    w = nn.Parameter(torch.tensor([1.0], dtype=torch.float64))
    optimizer = SGD([{"params": [w]}], momentum=0.5, weight_decay=0.1)
    w.grad = torch.tensor([1.0], dtype=torch.float64)
    optimizer.step(0.2)
    # g = 1 + 0.1 = 1.1, v = 1.1, step 0.2 (1.1 + 0.55) = 0.33
    assert w.item() == pytest.approx(0.67, abs=1e-14)
    w.grad = torch.tensor([-0.5], dtype=torch.float64)
    optimizer.step(0.2)
    # g = -0.5 + 0.067 = -0.433, v = 0.55 - 0.433 = 0.117, step 0.2 (-0.433 + 0.0585) = -0.0749
    assert w.item() == pytest.approx(0.7449, abs=1e-14)


def test_without_momentum_it_is_plain_descent():
    w = nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float64))
    optimizer = SGD([{"params": [w]}], momentum=0.0, weight_decay=0.0)
    for _ in range(2):
        w.grad = torch.tensor([1.0, -1.0], dtype=torch.float64)
        optimizer.step(0.25)

    assert w.tolist() == [0.5, 2.5]


def test_gradients_are_forgotten():
    ours = method()
    optimizer = Optimizers(ours).get("main", None)
    set_gradients(ours, 0)
    optimizer.forget_gradients()

    assert all(p.grad is None for p in ours.parameters())
    before = weights(ours)
    optimizer.step(1.0)
    assert all(torch.equal(weights(ours)[name], value) for name, value in before.items())


def test_each_name_has_its_own_parameters_and_momentum():
    ours = method()
    optimizers = Optimizers(ours, weight_decay=0.0)
    first = optimizers.get("first", ours.classifier.parameters())
    second = optimizers.get("second", [ours.offset, ours.fixed])

    assert optimizers.get("first", None) is first
    assert list(second.parameters()) == [ours.offset]
    set_gradients(ours, 0)
    gradient, before = ours.offset.grad.clone(), weights(ours)
    second.step(0.01)
    after = weights(ours)
    assert {name for name in before if not torch.equal(before[name], after[name])} == {"offset"}
    # First step: 1.9 times the gradient, at ten times the rate.
    np.testing.assert_allclose(after["offset"], before["offset"] - 0.01 * 10 * 1.9 * gradient, rtol=0, atol=1e-12)
    state = optimizers.state()
    assert {name: set(momenta) for name, momenta in state.items()} == {"first": set(), "second": {"offset"}}
    assert torch.equal(state["second"]["offset"], gradient)


@pytest.mark.parametrize("late_from", [0, 2, 5])
def test_a_stored_state_goes_on_to_the_same_bits(late_from):
    unbroken = method()
    optimizers = Optimizers(unbroken)
    stored = None
    for step, rate in enumerate(RATES):
        if step == 3:
            stored = deepcopy(unbroken.state_dict()), deepcopy(optimizers.state())
        set_gradients(unbroken, step, late_from)
        optimizers.get("main", None).step(rate)

    resumed = method()
    resumed.load_state_dict(stored[0])
    restored = Optimizers(resumed)
    restored.get("stale", None)
    restored.load(stored[1], {"main": None})
    assert set(restored.state()) == {"main"}
    assert ("late" in restored.state()["main"]) == (late_from < 3)
    for step, rate in list(enumerate(RATES))[3:]:
        set_gradients(resumed, step, late_from)
        restored.get("main", None).step(rate)

    for name, value in weights(unbroken).items():
        assert torch.equal(value, weights(resumed)[name]), name


def test_a_stored_state_fits_channels_last_weights():
    """The buffers take the strides of the weights, whatever those of the stored tensors are."""

    def convolution():
        noisy, spec = np.arange(6) % 3, ModelSpec("convnet", 16, 3, 3)
        problem = Problem(("a", "b", "c"), noisy, np.arange(6), np.arange(0), spec, 0, Memory(6))
        return Parts(problem).to(memory_format=torch.channels_last)

    unbroken, resumed = convolution(), convolution()
    optimizers, restored = Optimizers(unbroken), Optimizers(resumed)
    for step in range(2):
        set_gradients(unbroken, step)
        optimizers.get("main", None).step(0.1)
    resumed.load_state_dict(unbroken.state_dict())
    contiguous = {
        key: {name: value.contiguous() for name, value in momenta.items()}
        for key, momenta in optimizers.state().items()
    }
    restored.load(contiguous, {"main": None})
    for module, made in ((unbroken, optimizers), (resumed, restored)):
        set_gradients(module, 2)
        made.get("main", None).step(0.1)

    for name, value in weights(unbroken).items():
        assert torch.equal(value, weights(resumed)[name]), name
