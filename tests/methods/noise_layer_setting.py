"""A noise layer on a few made images, for its tests."""

import numpy as np
import torch

from winnow.labels.memory import Memory
from winnow.methods.base import Batch, Moment, Problem
from winnow.models import ModelSpec

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)


def generator(seed):
    return torch.Generator().manual_seed(seed)


def logits(rows=7, classes=5, seed=0):
    return 2 * torch.randn(rows, classes, dtype=torch.float64, generator=generator(seed))


def channel(classes=5, seed=2):
    """A Q with a dominant diagonal, columns that sum to one, and nothing symmetric."""
    Q = torch.rand(classes, classes, dtype=torch.float64, generator=generator(seed))
    Q = Q / Q.sum(dim=0)
    return 0.6 * torch.eye(classes, dtype=torch.float64) + 0.4 * Q


def problem(noisy_labels=None, verified=(), classes=5, size=2, held_out=0):
    noisy = np.arange(40) % classes if noisy_labels is None else noisy_labels
    rows = np.arange(len(noisy))
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("mlp", size, 1, classes)
    memory = Memory(len(noisy))
    checked = np.array(verified, dtype=np.int64)
    return Problem(names, noisy.astype(np.int64), rows[held_out:], rows[:held_out], spec, 0, memory, checked)


def batch(y, first=0, size=2):
    images = torch.randn(len(y), 1, size, size, generator=generator(0))
    return Batch(torch.arange(first, first + len(y)), torch.as_tensor(y), (images,))


def put(method, Q):
    with torch.no_grad():
        method.layer_weights.copy_(Q if method.parametrisation == "projected" else Q.log())


def total(losses):
    return sum(losses.values())
