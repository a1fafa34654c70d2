"""What the training passes themselves say about the labels: no extra pass is needed for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from winnow.methods.base import Batch
from winnow.models import Network


class TrainingPasses(nn.Module):
    """Running mean of p[given label] of each sample, and the agreement with the given labels in the present epoch.

    The first training-mode forward pass of the method's `classifier` in a step is watched through a hook, so that
    methods need not report anything. Under mixup the mixed images are what the network saw, and what is judged.

    Args:
        num_samples: N.
    """

    quality_sum: Tensor
    visits: Tensor
    epoch_counts: Tensor

    def __init__(self, num_samples: int):
        super().__init__()
        self.register_buffer("quality_sum", torch.zeros(num_samples))
        self.register_buffer("visits", torch.zeros(num_samples, dtype=torch.int32))
        self.register_buffer("epoch_counts", torch.zeros(2, dtype=torch.int64))
        self._logits: Tensor | None = None

    def watch(self, classifier: Network) -> None:
        """Listens to a network's head, so that a loss which takes features and logits apart is heard too."""
        classifier.head.register_forward_hook(self._saw)

    def _saw(self, module: nn.Module, inputs: tuple[Tensor, ...], logits: Tensor) -> None:
        if module.training and self._logits is None and torch.is_grad_enabled():
            self._logits = logits.detach().float()

    def begin_step(self) -> None:
        """Forgets what was seen before."""
        self._logits = None

    @torch.no_grad()
    def record(self, batch: Batch) -> None:
        """Takes in what the network said about a batch."""
        logits = self._logits
        if logits is None or len(logits) != len(batch.indices):
            return
        given = logits.softmax(dim=1).gather(1, batch.noisy_labels.clamp_min(0)[:, None])[:, 0]
        self.quality_sum.index_add_(0, batch.indices, given)
        self.visits.index_add_(0, batch.indices, torch.ones_like(batch.indices, dtype=torch.int32))
        self.epoch_counts[0] += (logits.argmax(dim=1) == batch.noisy_labels).sum()
        self.epoch_counts[1] += len(batch.indices)

    def take_agreement(self) -> float:
        """Share of this epoch's images whose predicted class was the given one; counting starts anew."""
        agreed, seen = self.epoch_counts.tolist()
        self.epoch_counts.zero_()
        return agreed / seen if seen else float("nan")

    def label_quality(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean p[given label], whether it was visited at all), (N,) each."""
        visits = self.visits.cpu().numpy()
        return self.quality_sum.cpu().numpy() / np.maximum(visits, 1), visits > 0
