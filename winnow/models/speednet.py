"""A wide, short network for accelerators, after the public CIFAR-10 speed records (K. Jordan, airbench)."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor, nn

from winnow.models.network import Network
from winnow.models.whitening import Whitening


class SpeedNet(Network):
    """Whitened 2x2 patches, then three groups of two 3x3 convolutions, 64-256-256 wide, 2 million weights.

    The pool follows the first convolution of each group; normalisation has no trained scale; GELU. The logits are
    divided by 9, which keeps the softmax soft at the start.
    """

    smallest: ClassVar[int] = 16
    fine_tuning: ClassVar[float] = 1.0  # as for the convnet: its features are divided by 9

    def __init__(self, size: int, channels: int, num_classes: int, widths: tuple[int, ...] = (64, 256, 256)):
        super().__init__()
        self.whitening = Whitening(channels, patch=2)
        before = self.whitening.out_channels
        layers: list[nn.Module] = [nn.GELU()]
        for width in widths:
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.MaxPool2d(2),
                _shift_norm(width),
                nn.GELU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                _shift_norm(width),
                nn.GELU(),
            ]
            before = width
        self.body = nn.Sequential(*layers)
        self.num_features = before
        self.head = nn.Linear(before, num_classes, bias=False)

    def features(self, images: Tensor) -> Tensor:
        """Maximum of each channel over the image divided by 9, (B, 256)."""
        return self.body(self.whitening(images)).amax(dim=(2, 3)) / 9

    def adapt(self, images: Tensor) -> None:
        """Computes the whitening filters from the data."""
        self.whitening.fit(images, epsilon=5e-4)


def _shift_norm(width: int) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(width)
    with torch.no_grad():
        norm.weight.fill_(1.0)
    norm.weight.requires_grad_(False)
    return norm
