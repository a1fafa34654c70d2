"""Soft labels of a whole collection, the largest probabilities of each.

A thousand classes in float16 are 2 GB for a million images; eight of them, each a class index and a probability of two
bytes, are 32 MB.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.labels.memory import Memory, Rows


class StoredTargets:
    """A distribution over the classes for each sample, in memory that resumes with the checkpoint.

    The `kept` largest probabilities are stored. What they leave is spread evenly over the other classes: left out, it
    would tell a student that all of those are impossible. Where there are no more than `kept` classes, every
    probability is stored. Rows that were never written are uniform.

    Args:
        memory: of the run.
        num_classes: K.
        kept: probabilities stored of each sample, at least 1.
        name: unique within the run.

    Raises:
        ValueError: `kept` is below 1.
    """

    def __init__(self, memory: Memory, num_classes: int, *, kept: int = 8, name: str = "soft-labels"):
        if kept < 1:
            raise ValueError(f"kept must be at least 1, got {kept}")
        self.num_classes = num_classes
        self.kept = min(kept, num_classes)
        self._probs = memory.rows(name, self.kept, fill=1 / num_classes)
        self._classes: Rows | None = None
        if self.kept < num_classes:
            index = "int16" if num_classes <= np.iinfo(np.int16).max else "int32"
            self._classes = memory.rows(f"{name}-classes", self.kept, dtype=index)

    def write(self, indices: Int[Tensor, " batch"], probs: Float[Tensor, "batch classes"]) -> None:
        """Stores distributions over the classes, rounded to float16."""
        if self._classes is None:
            self._probs.write(indices, probs)
            return
        largest, classes = probs.topk(self.kept, dim=1)
        self._probs.write(indices, largest)
        self._classes.write(indices, classes)

    def read(self, indices: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"]:
        """The distributions, float32, on the device of `indices`; rows sum to one."""
        probs = self._probs.read(indices).float()
        if self._classes is not None:
            # Rounded up, the stored ones may exceed one by a little.
            rest = (1 - probs.sum(dim=1, keepdim=True)).clamp_min(0) / (self.num_classes - self.kept)
            classes = self._classes.read(indices).long()
            probs = torch.scatter(rest.repeat(1, self.num_classes), 1, classes, probs)
        return probs / probs.sum(dim=1, keepdim=True)
