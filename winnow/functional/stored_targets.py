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


def largest_probs(
    probs: Float[Tensor, "batch classes"], kept: int
) -> tuple[Int[Tensor, "batch kept"], Float[Tensor, "batch stored"]]:
    """(The `kept` most probable classes; their probabilities and, last, the mean of all the others')."""
    values, classes = probs.topk(kept, dim=1)
    others = (probs.sum(dim=1) - values.sum(dim=1)).clamp_min(0) / max(1, probs.shape[1] - kept)
    return classes, torch.cat([values, others[:, None]], dim=1)


def all_probs(
    classes: Int[Tensor, "batch kept"], values: Float[Tensor, "batch stored"], num_classes: int
) -> Float[Tensor, "batch classes"]:
    """What `largest_probs` kept, as probabilities of all classes again."""
    return values[:, -1:].repeat(1, num_classes).scatter(1, classes, values[:, :-1])


class StoredTargets:
    """Class probabilities for each sample, in memory that resumes with the checkpoint.

    The `kept` largest probabilities are stored. What they leave is spread evenly over the other classes: left out, it
    would tell a student that all of those are impossible. Where there are no more than `kept` classes, every
    probability is stored. Rows that were never written are uniform.

    Args:
        memory: of the run.
        num_classes: K.
        kept: probabilities stored of each sample, at least 1.
        name: unique within the run.
        exclusive: whether an image has one class, so that rows sum to one.

    Raises:
        ValueError: `kept` is below 1.
    """

    def __init__(
        self, memory: Memory, num_classes: int, *, kept: int = 8, name: str = "soft-labels", exclusive: bool = True
    ):
        if kept < 1:
            raise ValueError(f"kept must be at least 1, got {kept}")
        self.num_classes = num_classes
        self.kept = min(kept, num_classes)
        self.exclusive = exclusive
        self._classes: Rows | None = None
        # One minus the kept ones tells what is left, where rows sum to one.
        width = self.kept if exclusive or self.kept == num_classes else self.kept + 1
        self._probs = memory.rows(name, width, fill=1 / num_classes)
        if self.kept < num_classes:
            index = "int16" if num_classes <= np.iinfo(np.int16).max else "int32"
            self._classes = memory.rows(f"{name}-classes", self.kept, dtype=index)

    def write(self, indices: Int[Tensor, " batch"], probs: Float[Tensor, "batch classes"]) -> None:
        """Stores class probabilities, rounded to float16."""
        if self._classes is None:
            self._probs.write(indices, probs)
        else:
            self.write_largest(indices, *largest_probs(probs, self.kept))

    def write_largest(
        self,
        indices: Int[Tensor, " batch"],
        classes: Int[Tensor, "batch kept"],
        values: Float[Tensor, "batch stored"],
    ) -> None:
        """Stores what `largest_probs` gave."""
        if self._classes is None:
            self._probs.write(indices, all_probs(classes, values, self.num_classes))
            return
        self._probs.write(indices, values[:, :-1] if self.exclusive else values)
        self._classes.write(indices, classes)

    def read(self, indices: Int[Tensor, " batch"]) -> Float[Tensor, "batch classes"]:
        """The probabilities, float32, on the device of `indices`; rows sum to one if classes are exclusive."""
        probs = self._probs.read(indices).float()
        if self._classes is not None:
            if self.exclusive:
                # Rounded up, the stored ones may exceed one by a little.
                rest = (1 - probs.sum(dim=1, keepdim=True)).clamp_min(0) / (self.num_classes - self.kept)
                probs = torch.cat([probs, rest], dim=1)
            probs = all_probs(self._classes.read(indices).long(), probs, self.num_classes)
        return probs / probs.sum(dim=1, keepdim=True) if self.exclusive else probs
