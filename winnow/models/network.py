"""What every network here can do."""

from __future__ import annotations

from typing import ClassVar

from jaxtyping import Float
from torch import Tensor, nn


class Network(nn.Module):
    """Images to features to logits.

    Subclasses are built from (size, channels, num_classes), define `features` and set `head`.
    """

    learning_rate: ClassVar[float] = 0.1
    """Of SGD with Nesterov momentum 0.9 at batch 64."""
    smallest: ClassVar[int] = 1
    """Smallest image side in pixels."""
    num_features: int
    """Width of `features`."""
    head: nn.Module

    def features(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch features"]:
        """The last embedding."""
        raise NotImplementedError

    def forward(self, images: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch classes"]:
        """Logits in float32, whatever the precision of the layers."""
        return self.head(self.features(images)).float()

    def adapt(self, images: Float[Tensor, "n channels height width"]) -> None:
        """Sets layers that are computed from the data instead of learnt; by default there are none."""
