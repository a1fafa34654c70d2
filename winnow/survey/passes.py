"""The pass itself: evaluation mode, plain views, no randomness, no buffer changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager

import numpy as np
import torch
from torch import Tensor, nn

from winnow.data.views import Views
from winnow.survey import Survey

BATCH = 250
"""Images of up to 64 px at a time, fewer larger ones."""


@torch.no_grad()
def survey(
    observe: Callable[[Tensor], Mapping[str, Tensor]],
    module: nn.Module,
    views: Views,
    num_samples: int,
    autocast: Callable[[], AbstractContextManager],
) -> Survey:
    """Observes every image once, in order.

    Args:
        observe: from images (B, C, H, W) to named rows (B, width).
        module: put into evaluation mode meanwhile; its mode afterwards is as before.
        views: of the collection.
        num_samples: N.
        autocast: the precision to run in.

    Returns:
        The named rows of all images, float32.
    """
    training = {m: m.training for m in module.modules()}
    module.eval()
    found: dict[str, np.ndarray] = {}
    try:
        batch = max(1, min(BATCH, BATCH * 64**2 // views.preprocessing.size**2))
        for start in range(0, num_samples, batch):
            rows = np.arange(start, min(start + batch, num_samples))
            with autocast():
                values = observe(views.view("plain", rows, 0, "survey"))
            for name, value in values.items():
                if name not in found:
                    found[name] = np.empty((num_samples, *value.shape[1:]), dtype=np.float32)
                found[name][rows] = value.float().cpu().numpy()
    finally:
        for m, mode in training.items():
            m.training = mode
    return Survey(found)
