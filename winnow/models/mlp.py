"""Multilayer perceptrons for small grey images."""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from winnow.models.network import Network


class MLP(Network):
    """Two hidden layers of 256 rectified units, no normalisation."""

    learning_rate: ClassVar[float] = 0.05

    def __init__(self, size: int, channels: int, num_classes: int, hidden: int = 256):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(size * size * channels, hidden),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, hidden),
            nn.ReLU(inplace=True),
        )
        self.num_features = hidden
        self.head = nn.Linear(hidden, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The second hidden layer, (B, 256)."""
        return self.body(images.flatten(1))


class ShallowMLP(Network):
    """One hidden layer of rectified units, twice as many as pixels and at most 256: 784-256-10 for MNIST."""

    def __init__(self, size: int, channels: int, num_classes: int, widest: int = 256):
        super().__init__()
        inputs = size * size * channels
        self.num_features = min(widest, 2 * inputs)
        self.body = nn.Sequential(nn.Linear(inputs, self.num_features), nn.ReLU(inplace=True))
        self.head = nn.Linear(self.num_features, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """The hidden layer, (B, num_features)."""
        return self.body(images.flatten(1))
