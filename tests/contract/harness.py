"""A small problem for any method, and a training that can be killed anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from winnow.data.source import without_label
from winnow.data.views import Preprocessing, Views
from winnow.labels.memory import Memory
from winnow.methods.base import Method, Problem
from winnow.models import ModelSpec
from winnow.train.checkpoint import Checkpoints
from winnow.train.device import Device
from winnow.train.interrupt import StopRequest
from winnow.train.trainer import EpochEnd, Trainer

# A phase that is counted in steps is no shorter in a short run; what is done many times in a step is proven by two.
BRIEF: Mapping[str, Mapping[str, Any]] = {
    "distillation": {"teacher_steps": 12},
    "mlnt": {"label_sets": 2},
    "cleannet": {"encoder_steps": 12, "width": 8},
}
DEVICE = Device(torch.device("cpu"), "float32", 1)


class Crash(Exception):
    """The process dies here; nothing is saved any more."""


@dataclass
class Script:
    """Saves after step `save_at` and dies after step `die_at` of the run; None = never."""

    save_at: int | None = None
    die_at: int | None = None
    steps: int = 0
    trainer: Trainer | None = None
    phases: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def epoch_ended(self, end: EpochEnd, is_last: bool) -> None:
        self.phases += (end.phase,)

    def step_ended(self, phase: str, fraction: float, images_per_second: float) -> None:
        assert self.trainer is not None
        self.steps = self.trainer.clock.cursor.total_steps
        if self.steps == self.save_at:
            self.trainer.save()
        if self.steps == self.die_at:
            raise Crash

    def went_back(self, reason: str) -> None:
        raise AssertionError(reason)

    def warned(self, text: str) -> None:
        self.warnings += (text,)

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


def digits(num: int = 160, num_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images (num, 8, 8, 1), labels)."""
    data = load_digits()
    chosen = np.flatnonzero(data.target < num_classes)[:num]
    images = np.round(data.images[chosen] * 255 / 16).astype(np.uint8)[..., None]
    return images, data.target[chosen].astype(np.int64)


def pairs_of_digits(num: int = 160) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images (num, 16, 16, 1) of two digits, one above and one below; labels (num, 10)).

    Every tenth row is unlabelled, and of the others every seventh cell is unknown.
    """
    images, digit = digits(2 * num, 10)
    pictures = np.zeros((num, 16, 16, 1), np.uint8)
    pictures[:, :8, :8], pictures[:, 8:, 8:] = images[:num], images[num:]
    labels = np.zeros((num, 10), np.int8)
    labels[np.arange(num), digit[:num]] = labels[np.arange(num), digit[num:]] = 1
    labels.reshape(-1)[::7] = -1
    labels[::10] = -1
    return pictures, labels


def build(
    method: type[Method],
    folder: Path,
    script: Script | None = None,
    *,
    images: np.ndarray | None = None,
    labels: np.ndarray | None = None,
    num_classes: int = 10,
    epochs: int = 4,
    options: Mapping[str, Any] | None = None,
    seed: int = 0,
    model: str = "mlp",
    several: bool = False,
) -> Trainer:
    """A trainer for a method on a few digits, a tenth of them unlabelled; or on pairs of digits with several labels."""
    if several:
        images, labels = pairs_of_digits()
    if images is None or labels is None:
        images, labels = digits(num_classes=num_classes)
        labels[::10] = -1
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint").mkdir(exist_ok=True)
    memory = Memory(len(labels), folder / "rows")
    rows = np.flatnonzero(~without_label(labels))
    spec = ModelSpec(model, images.shape[1], images.shape[3], num_classes)
    names = tuple(str(k) for k in range(num_classes))
    problem = Problem(names, labels, rows[8:], rows[:8], spec, seed, memory, rows[8:48])
    built = method(problem, **{**BRIEF.get(method.name, {}), **(options or {})})
    script = script or Script()
    trainer = Trainer(
        built,
        problem,
        Views(torch.from_numpy(images), Preprocessing.of(images, mirror=False), seed),
        DEVICE,
        epochs=epochs,
        batch_size=32,
        learning_rate=0.05,
        checkpoints=Checkpoints(folder / "checkpoint", memory, {"data": "digits"}),
        listener=script,
        stop=StopRequest(),
        epoch_checkpoint_seconds=-1.0,
        checkpoint_seconds=1e9,
    )
    script.trainer = trainer
    return trainer


def fingerprint(trainer: Trainer) -> str:
    """A hash of every weight, buffer, momentum and row that the run leaves behind."""
    digest = hashlib.sha256()
    for tensors in (trainer.method.state_dict(), trainer.passes.state_dict()):
        for name, value in sorted(tensors.items()):
            digest.update(name.encode())
            digest.update(value.contiguous().numpy().tobytes())
    for name, momenta in sorted(trainer.optimizers.state().items()):
        for key, value in sorted(momenta.items()):
            digest.update(f"{name}/{key}".encode())
            digest.update(value.contiguous().numpy().tobytes())
    for name, checksum in sorted(trainer.checkpoints.memory.checksums().items()):
        digest.update(f"{name}={checksum}".encode())
    return digest.hexdigest()
