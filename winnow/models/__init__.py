"""Networks that give logits and features, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import nn

from winnow.data.randomness import stream_key
from winnow.errors import UsageError
from winnow.models.convnet import ConvNet
from winnow.models.mlp import MLP, ShallowMLP
from winnow.models.network import Network
from winnow.models.speednet import SpeedNet

__all__ = ["MLP", "MODELS", "ConvNet", "ModelSpec", "Network", "ShallowMLP", "SpeedNet", "default_model"]

MODELS: Mapping[str, type[Network]] = {"mlp": MLP, "convnet": ConvNet, "speednet": SpeedNet, "shallow-mlp": ShallowMLP}

Built = TypeVar("Built", bound=nn.Module)

_SMALLEST_FOR_CONVOLUTIONS = 16


def default_model(size: int, device: str) -> str:
    """The network for images of `size` pixels on a device type: told to the person, never hidden."""
    if size < _SMALLEST_FOR_CONVOLUTIONS:
        return "mlp"
    return "convnet" if device == "cpu" else "speednet"


def seeded(seed: int, purpose: str, make: Callable[[], Built]) -> Built:
    """What `make` gives when torch's generator is a function of (seed, purpose); the generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        # Not torch.manual_seed, which would set the accelerators' generators as well, and nobody would set them back.
        torch.default_generator.manual_seed(stream_key(seed, f"weights/{purpose}") >> 1)
        return make()


@dataclass(frozen=True)
class ModelSpec:
    """An architecture, complete enough to build it anywhere.

    Attributes:
        name: an entry of `MODELS`.
        size: height and width of the images.
        channels: 1 or 3.
        num_classes: K.
        patches: images (n, channels, size, size) from which a whitening first layer is computed; None where weights are
            loaded afterwards anyway.

    Raises:
        UsageError: no network is called `name`, or it cannot take images of that size.
    """

    name: str
    size: int
    channels: int
    num_classes: int
    patches: torch.Tensor | None = None

    def __post_init__(self) -> None:
        if self.name not in MODELS:
            raise UsageError(f"--model {self.name}: no such network ({', '.join(MODELS)})")
        smallest = MODELS[self.name].smallest
        if self.size < smallest:
            raise UsageError(
                f"--model {self.name} needs images of {smallest} px or more, these have {self.size}; try --model mlp"
            )

    @property
    def learning_rate(self) -> float:
        """Rate of SGD with Nesterov momentum 0.9 at batch 64."""
        return MODELS[self.name].learning_rate

    def build(self, seed: int, purpose: str) -> Network:
        """A network whose weights are a function of (seed, purpose); the global generator is left as it was."""
        network = seeded(seed, purpose, lambda: MODELS[self.name](self.size, self.channels, self.num_classes))
        if self.patches is not None:
            network.adapt(self.patches)
        return network
