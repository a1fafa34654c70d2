"""What the training passes themselves say about the labels: no extra pass is needed for it."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from winnow.labels.memory import Rows
from winnow.methods.base import Batch, Problem
from winnow.models import Network


class TrainingPasses(nn.Module):
    """Running mean of p[given label] of each sample, and the agreement with the given labels in the present epoch.

    The first training-mode forward pass of the method's `classifier` in a step is watched through a hook, so that
    methods need not report anything. Under mixup the mixed images are what the network saw, and what is judged.

    Where an image may have several classes there is one mean a cell; those (N, K) numbers live in the run's per-sample
    memory, everything else on the device.

    Args:
        problem: what is trained on.
    """

    quality_sum: Tensor
    visits: Tensor
    epoch_counts: Tensor

    def __init__(self, problem: Problem):
        super().__init__()
        self._task = problem.task
        several = problem.noisy_labels.ndim == 2
        self._cells: Rows | None = problem.rows("given-probability", problem.num_classes) if several else None
        self.register_buffer("quality_sum", torch.zeros(0 if several else problem.num_samples))
        self.register_buffer("visits", torch.zeros(problem.num_samples, dtype=torch.int32))
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
        given = self._task.given(self._task.probabilities(logits), batch.noisy_labels)
        self.visits.index_add_(0, batch.indices, torch.ones_like(batch.indices, dtype=torch.int32))
        if self._cells is None:
            self.quality_sum.index_add_(0, batch.indices, given)
        else:
            mean = self._cells.read(batch.indices).float()
            self._cells.write(batch.indices, mean + (given - mean) / self.visits[batch.indices, None])
        self.epoch_counts += self._task.agreement(logits, batch.noisy_labels)

    def take_agreement(self) -> float:
        """Share of this epoch's labels (cells) that the network agreed with; counting starts anew."""
        agreed, seen = self.epoch_counts.tolist()
        self.epoch_counts.zero_()
        return agreed / seen if seen else float("nan")

    def label_quality(self) -> tuple[np.ndarray, np.ndarray]:
        """(mean p[given label], (N,) or (N, K); whether the image was visited at all, (N,))."""
        visits = self.visits.cpu().numpy()
        if self._cells is not None:
            return self._cells.values.astype(np.float32), visits > 0
        return self.quality_sum.cpu().numpy() / np.maximum(visits, 1), visits > 0
