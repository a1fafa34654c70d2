"""Optimisers by name, made when a turn first names them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter
from torch.optim.sgd import sgd

from winnow.methods.base import Method


@dataclass
class SGD:
    """Stochastic gradient descent with Nesterov momentum: torch's own arithmetic over state kept here.

    torch's `Optimizer` class would import the compiler with its first instance: 3 seconds and 150 MB for every run.

    Attributes:
        groups: each with `params` and perhaps `lr_scale` and `weight_decay`.
        momentum: of Nesterov's kind.
        weight_decay: of groups that name none.
        rate: of the last step, before a group's `lr_scale`.
        buffers: momentum of each parameter that was ever moved, by its identity.
    """

    groups: list[dict[str, Any]]
    momentum: float
    weight_decay: float
    rate: float = 0.0
    buffers: dict[int, Tensor] = field(default_factory=dict)

    def forget_gradients(self) -> None:
        """Drops the gradients of all its parameters."""
        for parameter in self.parameters():
            parameter.grad = None

    def parameters(self) -> Iterable[Parameter]:
        """Everything that it moves."""
        return (parameter for group in self.groups for parameter in group["params"])

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """Moves every parameter that has a gradient."""
        self.rate = rate
        for group in self.groups:
            moved = [p for p in group["params"] if p.grad is not None]
            if not moved:
                continue
            # A parameter that moves for the first time starts from zero momentum, which is what torch's first step
            # does.
            for parameter in moved:
                if id(parameter) not in self.buffers:
                    self.buffers[id(parameter)] = torch.zeros_like(parameter, requires_grad=False)
            buffers: list[Tensor | None] = [self.buffers[id(p)] for p in moved]
            sgd(
                moved,
                [p.grad for p in moved if p.grad is not None],
                buffers,
                fused=True,
                weight_decay=group.get("weight_decay", self.weight_decay),
                momentum=self.momentum,
                lr=rate * group.get("lr_scale", 1.0),
                dampening=0.0,
                nesterov=self.momentum > 0,
                maximize=False,
            )


class Optimizers:
    """One optimiser a name, each with its own state.

    Args:
        method: whose `parameter_groups` decides rates and decay.
        momentum: of Nesterov's kind.
        weight_decay: on every parameter of a group that names none.
    """

    def __init__(self, method: Method, momentum: float = 0.9, weight_decay: float = 5e-4):
        self._method = method
        self._momentum = momentum
        self._weight_decay = weight_decay
        self._made: dict[str, SGD] = {}

    def get(self, name: str, parameters: Iterable[Parameter] | None) -> SGD:
        """The optimiser called `name`, over `parameters` or everything that wants a gradient."""
        if name not in self._made:
            every = self._method.parameters() if parameters is None else parameters
            chosen = [p for p in every if p.requires_grad]
            groups = self._method.parameter_groups(chosen)
            self._made[name] = SGD(groups, self._momentum, self._weight_decay)
        return self._made[name]

    def state(self) -> dict[str, Any]:
        """Momentum of each parameter, by optimiser and the parameter's name in the method."""
        names = {id(p): name for name, p in self._method.named_parameters()}
        return {
            key: {names[identity]: buffer for identity, buffer in optimizer.buffers.items()}
            for key, optimizer in self._made.items()
        }

    def load(self, state: dict[str, dict[str, Tensor]], parameters: dict[str, Iterable[Parameter] | None]) -> None:
        """Puts momenta back.

        Args:
            state: from `state`.
            parameters: what each named optimiser is over.
        """
        self._made.clear()
        named = dict(self._method.named_parameters())
        for key, momenta in state.items():
            optimizer = self.get(key, parameters[key])
            for name, value in momenta.items():
                # The strides of a running optimiser: the fused step walks over memory, not over indices.
                buffer = torch.empty_like(named[name], dtype=value.dtype, requires_grad=False)
                optimizer.buffers[id(named[name])] = buffer.copy_(value)
