"""A running average of a network's weights."""

from __future__ import annotations

from copy import deepcopy

import torch
from torch import Tensor, nn

from winnow.models.network import Network


class WeightAverage(nn.Module):
    """A copy of a network that follows it at a distance: theta_bar <- d theta_bar + (1 - d) theta.

    The decay is d = min(1 - 1 / (window * steps per epoch), 1 - 1 / (step + 1)): a plain mean at first, then a window
    of that many epochs. Running statistics of normalisation layers are averaged with the same decay.

    Args:
        network: the one that is trained.
        window: epochs over which the average reaches back.
    """

    def __init__(self, network: Network, window: float = 2.0):
        super().__init__()
        self.network = deepcopy(network).requires_grad_(False)
        self.window = window

    @torch.no_grad()
    def update(self, student: Network, step: int, steps_per_epoch: int) -> None:
        """Moves towards the student, after its step number `step` (from 0)."""
        weight = 1 / min(max(1.0, self.window * steps_per_epoch), step + 1)
        mine, theirs = _tensors(self.network), _tensors(student)
        torch._foreach_lerp_(mine[0], theirs[0], weight)
        for old, new in zip(mine[1], theirs[1], strict=True):
            old.copy_(new)

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the averaged network."""
        return self.network(images)


def _tensors(network: nn.Module) -> tuple[list[Tensor], list[Tensor]]:
    """(what is averaged, what is copied: counters)."""
    every = [*network.parameters(), *network.buffers()]
    return [t for t in every if t.is_floating_point()], [t for t in every if not t.is_floating_point()]
