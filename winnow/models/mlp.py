"""A multilayer perceptron for small grey images."""

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
