"""What every network here can do."""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from jaxtyping import Float
from torch import Tensor, nn


class Normalisation(NamedTuple):
    """Mean and spread by which pixels in [0, 1] are normalised, a number a channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def resized(self, channels: int) -> Normalisation:
        """For another number of channels: the mean over all of them in each."""
        return Normalisation(*((sum(values) / len(values),) * channels for values in self))


class Network(nn.Module):
    """Images to features to logits.

    Subclasses are built from (size, channels, num_classes), define `features` and set `head`.
    """

    learning_rate: ClassVar[float] = 0.1
    """Of SGD with Nesterov momentum 0.9 at batch 64, from fresh weights."""
    fine_tuning: ClassVar[float] = 0.1
    """Factor on that rate where weights are given."""
    smallest: ClassVar[int] = 1
    """Smallest image side in pixels."""
    own_size: ClassVar[int | None] = None
    """Image side in pixels that is taken where nobody asks for another; None leaves it to the collection."""
    trained_size: ClassVar[int | None] = None
    """Image side in pixels that its published weights were trained at."""
    normalisation: ClassVar[Normalisation | None] = None
    """What its published weights want."""
    logit_scale: ClassVar[float] = 1.0
    """Factor by which the head multiplies its linear map."""
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

    def own_name(self, name: str) -> str:
        """What this network calls the tensor that published weights call `name`."""
        return name
