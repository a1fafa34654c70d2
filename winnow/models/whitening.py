"""A frozen first convolution that whitens image patches (after K. Jordan's airbench networks)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class Whitening(nn.Conv2d):
    """Convolution onto the leading principal axes of small patches, each scaled to unit variance, and onto their
    negatives.

    Its weights are computed from images by `fit` and never trained.

    Args:
        channels: of the images.
        patch: side of a patch in pixels.
        stride: between patches.
        padding: around the image.
        axes: at most so many are kept.
    """

    def __init__(self, channels: int, patch: int, stride: int = 1, padding: int = 0, axes: int = 24):
        self.axes = min(axes, channels * patch**2)
        self._border = padding
        super().__init__(channels, 2 * self.axes, patch, stride, padding, bias=False)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: Float[Tensor, "n channels height width"], epsilon: float = 1e-2) -> None:
        """Computes the filters from the patches of some images.

        Args:
            images: normalised, as the network will see them; their mean is taken to be zero.
            epsilon: added to the variance of each axis, so that an axis without any is not blown up.
        """
        patch = self.kernel_size[0]
        second_moment = torch.zeros(self.in_channels * patch**2, self.in_channels * patch**2, dtype=torch.float64)
        count = 0
        for block in images.split(25):  # small blocks: their patches in double precision are many times the images
            patches = F.unfold(block, patch, padding=self._border, stride=self.stride)
            rows = patches.transpose(1, 2).flatten(0, 1).double()
            second_moment += rows.T @ rows
            count += len(rows)
        variances, axes = torch.linalg.eigh(second_moment / max(1, count))
        filters = (axes / (variances.clamp_min(0) + epsilon).sqrt()).T.flip(0)[: self.axes]
        # An eigenvector's sign is the solver's accident; the largest entry is made positive.
        largest = filters.gather(1, filters.abs().argmax(dim=1, keepdim=True))
        filters = (filters * largest.sign()).reshape(self.axes, self.in_channels, patch, patch).to(self.weight)
        self.weight.copy_(torch.cat([filters, -filters]))
