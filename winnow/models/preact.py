"""PreAct-ResNet-18 in the form for small images. He et al. 2016, arXiv:1603.05027."""

from __future__ import annotations

from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from winnow.models.network import Network


class PreActBlock(nn.Module):
    """x + residual(x) with normalisation and rectification before each convolution.

    Where the shape changes, x becomes a 1x1 convolution of the activated input; elsewhere nothing stands on its path,
    so that a block whose residual is zero is the identity.

    Args:
        before: channels of the input.
        width: channels of the output.
        stride: of the first convolution.
    """

    def __init__(self, before: int, width: int, stride: int):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(before)
        self.conv1 = nn.Conv2d(before, width, 3, stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, bias=False)
        changes = stride != 1 or before != width
        self.shortcut = nn.Conv2d(before, width, 1, stride, bias=False) if changes else None

    def forward(self, maps: Tensor) -> Tensor:
        """Feature maps, (B, width, H / stride, W / stride)."""
        active = F.relu(self.norm1(maps), inplace=True)
        residual = self.conv2(F.relu(self.norm2(self.conv1(active)), inplace=True))
        return residual + (maps if self.shortcut is None else self.shortcut(active))


class PreActResNet18(Network):
    """A 3x3 convolution, four groups of two blocks, 64-128-256-512 wide, no pool before the mean: 11.17 million
    weights.

    The usual network of the literature on noisy labels. Convolutions start from He's normal distribution.
    """

    smallest: ClassVar[int] = 16

    def __init__(self, size: int, channels: int, num_classes: int, widths: tuple[int, ...] = (64, 128, 256, 512)):
        super().__init__()
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1, bias=False)
        before = widths[0]
        blocks: list[nn.Module] = []
        for number, width in enumerate(widths):
            blocks += [PreActBlock(before, width, 2 if number else 1), PreActBlock(width, width, 1)]
            before = width
        self.body = nn.Sequential(*blocks)
        self.norm = nn.BatchNorm2d(before)
        self.num_features = before
        self.head = nn.Linear(before, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def features(self, images: Tensor) -> Tensor:
        """Mean of each channel over the image, (B, 512)."""
        maps = F.relu(self.norm(self.body(self.stem(images))), inplace=True)
        return maps.mean(dim=(2, 3))
