"""What labels mean: one class an image, or any number of classes that may each be unknown.

Everything that differs between the two stands here, so that methods, trainer and evaluation need not ask. Labels of one
class are indices (N,), -1 where there is none; labels of several are (N, K): 1 present, 0 absent, -1 unknown. A *cell*
is one label of the first kind, and one class of one image of the second.
"""

from __future__ import annotations

from typing import ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor


@runtime_checkable
class Task(Protocol):
    """How labels are read and predictions are made."""

    name: ClassVar[str]

    def probabilities(self, logits: Float[Tensor, "batch classes"]) -> Float[Tensor, "batch classes"]:
        """Class probabilities; rows sum to one only where an image has one class."""
        ...

    def cross_entropy(
        self, logits: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch *classes"]
    ) -> Float[Tensor, ""]:
        """The plain loss on given labels, in nats."""
        ...

    def given(
        self, probs: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch *classes"]
    ) -> Float[Tensor, "batch *classes"]:
        """Probability of each cell's given label; what stands at unknown cells means nothing."""
        ...

    def agreement(self, logits: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch *classes"]) -> Tensor:
        """(cells decided as given, known cells), int64 (2,)."""
        ...

    def decided(self, probs: np.ndarray) -> np.ndarray:
        """The most probable labels, in the form of given ones, from probabilities (N, K)."""
        ...

    def certainty(self, probs: np.ndarray) -> np.ndarray:
        """Probability of what was `decided`, in its shape."""
        ...


class SingleLabel:
    """One class an image: softmax."""

    name: ClassVar[str] = "single-label"

    def probabilities(self, logits: Tensor) -> Tensor:
        """Softmax."""
        return logits.softmax(dim=1)

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Mean over the batch."""
        return F.cross_entropy(logits, labels)

    def given(self, probs: Tensor, labels: Tensor) -> Tensor:
        """Probability of the given class, (B,)."""
        return probs.gather(1, labels.clamp_min(0)[:, None])[:, 0]

    def agreement(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Images whose most probable class is the given one, and all images."""
        return torch.stack([(logits.argmax(dim=1) == labels).sum(), torch.tensor(len(labels), device=logits.device)])

    def decided(self, probs: np.ndarray) -> np.ndarray:
        """Most probable class, int64 (N,)."""
        return probs.argmax(axis=1)

    def certainty(self, probs: np.ndarray) -> np.ndarray:
        """Its probability, (N,)."""
        return probs.max(axis=1)


class MultiLabel:
    """Any number of classes an image: a sigmoid each, unknown cells without influence."""

    name: ClassVar[str] = "multi-label"

    def probabilities(self, logits: Tensor) -> Tensor:
        """Sigmoid."""
        return logits.sigmoid()

    def cross_entropy(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Binary cross-entropy over the known cells."""
        return over_known_cells(F.softplus(logits) - labels.clamp_min(0) * logits, labels)

    def given(self, probs: Tensor, labels: Tensor) -> Tensor:
        """p where a class is given as present, 1 - p elsewhere, (B, K)."""
        return torch.where(labels == 1, probs, 1 - probs)

    def agreement(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Known cells that are decided as given, and all known cells."""
        return torch.stack([((logits > 0) == labels)[labels >= 0].sum(), (labels >= 0).sum()])

    def decided(self, probs: np.ndarray) -> np.ndarray:
        """1 where a class is more probable than not, else 0, int8 (N, K)."""
        return (probs > 0.5).astype(np.int8)

    def certainty(self, probs: np.ndarray) -> np.ndarray:
        """max(p, 1 - p), (N, K)."""
        return np.maximum(probs, 1 - probs)


def task_of(labels: np.ndarray | Tensor) -> Task:
    """The task that labels of this shape belong to."""
    return MultiLabel() if labels.ndim == 2 else SingleLabel()


def over_known_cells(losses: Float[Tensor, "batch classes"], labels: Int[Tensor, "batch classes"]) -> Float[Tensor, ""]:
    """Mean loss of the known cells (labels of 0 or 1), times the number of classes.

    If all are known this is the sum over an image's classes, averaged over the images: the scale of a softmax
    cross-entropy, which a mean over cells would divide by the number of classes. A batch without a known cell gives 0.
    """
    known = labels >= 0
    return (losses * known).sum() / known.sum().clamp_min(1) * losses.shape[1]


def mean_average_precision(probs: np.ndarray, labels: np.ndarray) -> float:
    """Mean over classes of the average precision among the images whose cell is known, in [0, 1].

    Classes without a known present or without a known absent image are left out; NaN if none is left.

    Args:
        probs: (N, K).
        labels: 1, 0 or -1, (N, K).
    """
    from sklearn.metrics import average_precision_score

    found = []
    for k in range(labels.shape[1]):
        known = labels[:, k] >= 0
        present = labels[known, k] == 1
        if present.any() and not present.all():
            found.append(float(average_precision_score(present, probs[known, k])))
    return float(np.mean(found)) if found else float("nan")
