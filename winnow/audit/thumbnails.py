"""Features without a network: the picture itself, small."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int

from winnow.data.pixels import Pixels, blocks
from winnow.functional.neighbours import neighbours
from winnow.noise.features import standardised

SIDE = 16
"""Of a thumbnail in pixels, at most."""
_VOTERS = 10


def thumbnails(pixels: Pixels) -> Float[np.ndarray, "n dim"]:
    """Each picture averaged down to 16 x 16 where it is larger, brought to mean 0 and to length 1; float32.

    So neither brightness nor contrast counts, and the cosine of two pictures is the correlation of their pixels. A
    picture of one flat colour is all zero.
    """
    found = []
    for block in blocks(pixels):
        if block.shape[1] > SIDE:
            images = torch.from_numpy(block).permute(0, 3, 1, 2).float()
            block = F.adaptive_avg_pool2d(images, SIDE).permute(0, 2, 3, 1).numpy()
        rows = standardised(block)
        found.append((rows / np.sqrt(rows.shape[1])).astype(np.float32))
    return np.concatenate(found)


def neighbour_agreement(features: Float[np.ndarray, "n dim"], labels: Int[np.ndarray, " n"]) -> float:
    """Share of the labels that are also the most frequent one (ties: the lowest) among the ten nearest others.

    Args:
        features: compared by the cosine.
        labels: class indices, none missing.
    """
    voters = labels[neighbours(features, _VOTERS, metric="cosine").indices]
    votes = np.zeros((len(labels), labels.max(initial=0) + 1), dtype=np.int64)
    np.add.at(votes, (np.arange(len(labels))[:, None], voters), 1)
    return float((votes.argmax(axis=1) == labels).mean())
