"""Features of a fixed body take the place of the images: computed once, in one pass, then trained on."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from winnow.data.views import Views
from winnow.errors import InputError
from winnow.models import Network
from winnow.survey.passes import survey
from winnow.train.device import Device
from winnow.train.progress import Progress


@dataclass
class FeatureViews(Views):
    """Every view of an image is the features of its plain view: one pixel of D channels."""

    pixels: Float[Tensor, "n 1 1 features"]

    def view(self, kind: str, indices: np.ndarray, epoch: int, purpose: str) -> Float[Tensor, "batch features 1 1"]:
        """Features of some rows, whatever the kind."""
        return self.pixels[torch.from_numpy(indices).to(self.pixels.device)].permute(0, 3, 1, 2)


def feature_views(body: Network, views: Views, device: Device, progress: Progress, stage: str) -> FeatureViews:
    """One pass of a body over all images.

    Args:
        body: on the device, fixed.
        views: of the images.
        device: whose precision the pass runs in.
        progress: hears of the pass.
        stage: what the pass is called.
    """
    total = len(views.pixels)
    done = 0

    def observe(images: Tensor) -> dict[str, Tensor]:
        nonlocal done
        found = body.features(images)
        done += len(images)
        progress.stage(stage, done, total)
        return {"features": found}

    features = torch.from_numpy(survey(observe, body, views, total, device.autocast).features)
    return FeatureViews(features[:, None, None, :].to(device.torch_device), views.preprocessing, views.seed)


def head_learning_rate(views: FeatureViews, logit_scale: float) -> float:
    """Rate for a linear head on features x: 2 / mean |scale x|^2, to three digits.

    The curvature of the cross-entropy in the head's weights is at most half of that mean, whatever the classes, and
    gradient descent with Nesterov momentum 0.9 is stable up to 1.36 / curvature. So one number serves networks whose
    features differ in size by orders of magnitude.

    Raises:
        InputError: the features are not finite, too large to be squared, or next to zero.
    """
    mean_square = float(views.pixels.square().sum(dim=(1, 2, 3)).mean()) * logit_scale**2
    if not 1e-6 <= mean_square < math.inf:
        raise InputError(
            f"the frozen network's features have a mean square of {mean_square:.3g}, from which no learning rate "
            "follows; give other --weights, or a --learning-rate"
        )
    return float(f"{2 / mean_square:.3g}")
