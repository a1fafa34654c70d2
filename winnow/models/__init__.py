"""Networks that give logits and features, and the choice among them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import TypeVar

import torch
from torch import Tensor, nn

from winnow.data.randomness import stream_key
from winnow.errors import UsageError
from winnow.models.convnet import ConvNet
from winnow.models.mlp import MLP, ShallowMLP
from winnow.models.network import Network
from winnow.models.preact import PreActResNet18
from winnow.models.speednet import SpeedNet
from winnow.models.weights import Weights

__all__ = [
    "MLP",
    "MODELS",
    "ConvNet",
    "ModelSpec",
    "Network",
    "PreActResNet18",
    "ShallowMLP",
    "SpeedNet",
    "default_model",
    "network_class",
    "seeded",
]

MODELS: Mapping[str, type[Network]] = {
    "mlp": MLP,
    "shallow-mlp": ShallowMLP,
    "convnet": ConvNet,
    "speednet": SpeedNet,
    "preact-resnet18": PreActResNet18,
}
"""Our own networks."""
SHORT_NAMES: Mapping[str, str] = {"resnet50": "timm:resnet50", "vit-small": "timm:vit_small_patch16_224"}
"""For some of timm's. A stored model may carry such a name, so its meaning never changes."""

Built = TypeVar("Built", bound=nn.Module)

_SMALLEST_FOR_CONVOLUTIONS = 16


def default_model(size: int, device: str) -> str:
    """The network for images of `size` pixels on a device type: told to the person, never hidden."""
    if size < _SMALLEST_FOR_CONVOLUTIONS:
        return "mlp"
    return "convnet" if device == "cpu" else "speednet"


def network_class(name: str) -> type[Network]:
    """What `--model` names: an entry of `MODELS`, a short name, or `timm:` with any name of timm's.

    Raises:
        UsageError: there is no such network, or timm is not installed.
    """
    if name in MODELS:
        return MODELS[name]
    full = SHORT_NAMES.get(name, name)
    if full.startswith("timm:"):
        from winnow.models.timm_network import timm_network

        return timm_network(full.removeprefix("timm:"))
    known = [*MODELS, *SHORT_NAMES]
    near = get_close_matches(name, known, n=1)
    raise UsageError(
        f"--model {name}: no such network"
        + (f"; did you mean {near[0]}?" if near else f" ({', '.join(known)}, or timm:NAME)")
    )


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
        name: see `network_class`.
        size: height and width of the images.
        channels: 1 or 3.
        num_classes: K.
        patches: images (n, channels, size, size) from which a whitening first layer is computed; None where weights are
            loaded afterwards anyway.
        weights: what every network of it starts from.

    Raises:
        UsageError: no network is called `name`, or it cannot take images of that size.
    """

    name: str
    size: int
    channels: int
    num_classes: int
    patches: Tensor | None = None
    weights: Weights | None = None

    def __post_init__(self) -> None:
        smallest = network_class(self.name).smallest
        if self.size < smallest:
            raise UsageError(
                f"--model {self.name} needs images of {smallest} px or more, these have {self.size}; try --model mlp"
            )

    @property
    def learning_rate(self) -> float:
        """Rate of SGD with Nesterov momentum 0.9 at batch 64."""
        kind = network_class(self.name)
        return kind.learning_rate * (kind.fine_tuning if self.weights else 1.0)

    def build(self, seed: int, purpose: str) -> Network:
        """A network whose fresh weights are a function of (seed, purpose); the global generator is left as it was."""
        kind = network_class(self.name)
        network = seeded(seed, purpose, lambda: kind(self.size, self.channels, self.num_classes))
        if self.patches is not None:
            network.adapt(self.patches)
        if self.weights is not None:
            self.weights.put_into(network)
        return network

    def complete_state(self, network: Network) -> dict[str, Tensor]:
        """All tensors of a network that was built here, as a network of this architecture stores them."""
        return network.state_dict()
