"""Heads on one fixed body, for training on features that are computed once."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from winnow.models import ModelSpec, Network


class FeatureNetwork(Network):
    """The head of a network alone. Its images are features of the body: one pixel each, of D channels.

    Args:
        head: a linear layer from D features.
        num_features: D.
    """

    def __init__(self, head: nn.Module, num_features: int):
        super().__init__()
        self.head = head
        self.num_features = num_features

    def features(self, images: Tensor) -> Tensor:
        """The pixel, (B, D)."""
        return images.flatten(1)


@dataclass(frozen=True)
class FrozenSpec(ModelSpec):
    """An architecture whose body is fixed: what it builds are heads, what it stores are whole networks.

    Attributes:
        body: the network whose features the heads read, in evaluation mode.
    """

    body: Network = field(kw_only=True)

    @classmethod
    def of(cls, spec: ModelSpec, seed: int) -> FrozenSpec:
        """The body that the classifier of a run with this seed would start with, fixed from then on."""
        body = spec.build(seed, "classifier").eval().requires_grad_(False)
        return cls(spec.name, spec.size, spec.channels, spec.num_classes, spec.patches, spec.weights, body=body)

    def build(self, seed: int, purpose: str) -> Network:
        """A head whose weights are those that a whole network of (seed, purpose) starts with."""
        network = super().build(seed, purpose)
        return FeatureNetwork(network.head, network.num_features)

    def complete_state(self, network: Network) -> dict[str, Tensor]:
        """The body's tensors with the trained head's."""
        return self.body.state_dict() | {f"head.{name}": value for name, value in network.head.state_dict().items()}
