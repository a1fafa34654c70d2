"""CleanNet on a few made images, for its tests."""

from __future__ import annotations

import numpy as np
import torch

from winnow.labels.memory import Memory
from winnow.methods.base import Moment, Problem
from winnow.methods.cleannet import (
    CleanNet,
)
from winnow.models import ModelSpec

MOMENT = Moment(step=0, epoch=0, phase_epoch=0, fraction=0.0, steps_per_epoch=1)
OPTIONS = {"width": 3, "references": 4}


def problem(labels=None, classes=5, verified=None, num=40):
    labels = np.arange(num, dtype=np.int64) % classes if labels is None else labels
    rows = np.arange(len(labels))
    verified = rows[::2] if verified is None else np.asarray(verified, dtype=np.int64)
    names = tuple(f"class {k}" for k in range(classes))
    spec = ModelSpec("shallow-mlp", 2, 1, classes)
    return Problem(names, labels, rows, rows[:0], spec, 0, Memory(len(labels)), verified)


def built(given=None, **options):
    """In float64, with representatives."""
    method = CleanNet(given or problem(), **{**OPTIONS, **options}).double()
    method.class_references.copy_(torch.randn(method.class_references.shape))
    return method
