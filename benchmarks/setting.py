"""What the speed goals are measured on: three small networks, our trainer, and the loop one would write without us."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.ratio import ROUNDS
from winnow.data.collection import load
from winnow.data.open import open_source
from winnow.data.views import Preprocessing, Views
from winnow.labels.memory import Memory
from winnow.methods.base import Draw, Method, Problem
from winnow.methods.cross_entropy import CrossEntropy
from winnow.models import ModelSpec, Network, seeded
from winnow.train.checkpoint import Checkpoints
from winnow.train.device import Device
from winnow.train.interrupt import StopRequest
from winnow.train.streams import Stream
from winnow.train.trainer import EpochEnd, Trainer

CPU = torch.device("cpu")
DEFAULT = Device(CPU, "bf16", 1)
FLOAT32 = Device(CPU, "float32", 1)
NUM_CLASSES = 10
_EPOCHS = 1000
_NOWHERE = Path("no-checkpoints")


@dataclass(frozen=True)
class Scale:
    """How much is run.

    Attributes:
        rounds: of each comparison.
        images: of one epoch, which is what a round runs.
    """

    rounds: int = ROUNDS
    images: int = 1280


@dataclass(frozen=True)
class Case:
    """A network with its images and batch size."""

    network: str
    size: int
    channels: int
    batch: int

    def __str__(self) -> str:
        return f"{self.network} {self.size}x{self.size}x{self.channels}, batch {self.batch}"

    def at(self, scale: Scale) -> Case:
        """With a batch that fits at least twice into an epoch."""
        return replace(self, batch=min(self.batch, max(1, scale.images // 2)))


SMALL_CNN = Case("small_cnn", 28, 1, 128)
CONVNET = Case("convnet", 32, 3, 64)
MLP = Case("mlp", 28, 1, 128)


class SmallCNN(Network):
    """Three 3x3 convolutions, 32-64-128 wide, each normalised and pooled: 14.9 MFLOP forward, 0.10 million weights."""

    def __init__(self, size: int, channels: int, num_classes: int):
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for width in (32, 64, 128):
            layers += [
                nn.Conv2d(before, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2),
            ]
            before = width
        self.body = nn.Sequential(*layers)
        self.num_features = before * (size // 8) ** 2
        self.head = nn.Linear(self.num_features, num_classes)

    def features(self, images: Tensor) -> Tensor:
        return self.body(images).flatten(1)


@dataclass(frozen=True)
class SmallCNNSpec(ModelSpec):
    """A specification of a network that the package does not offer."""

    def __post_init__(self) -> None:
        pass

    def build(self, seed: int, purpose: str) -> Network:
        return seeded(seed, purpose, lambda: SmallCNN(self.size, self.channels, self.num_classes))


@cache
def data(case: Case, count: int) -> tuple[np.ndarray, np.ndarray]:
    """(uint8 images (count, size, size, channels), labels): MNIST or CIFAR-10 if WINNOW_DATA is set, else noise."""
    if os.environ.get("WINNOW_DATA"):
        source = open_source("mnist" if case.channels == 1 else "cifar10", limit=count)
        return load(source).images, source.noisy_labels
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (count, case.size, case.size, case.channels), dtype=np.uint8)
    return images, generator.integers(0, NUM_CLASSES, count)


def views_of(case: Case, count: int) -> Views:
    """Our views of a case's images."""
    images, _ = data(case, count)
    return Views(torch.from_numpy(images), Preprocessing.of(images, mirror=case.channels == 3), seed=0)


def spec(case: Case, count: int) -> ModelSpec:
    """The network to build."""
    kind = SmallCNNSpec if case.network == "small_cnn" else ModelSpec
    patches = views_of(case, count).view("plain", np.arange(min(count, 200)), 0, "whitening")
    return kind(case.network, case.size, case.channels, NUM_CLASSES, patches)


class ContiguousViews(Views):
    """The same views, copied to the layout (B, C, H, W) that PyTorch takes by default."""

    def view(self, kind: str, indices: np.ndarray, epoch: int, purpose: str) -> Tensor:
        images = super().view(kind, indices, epoch, purpose)
        return torch.empty(images.shape).copy_(images)


class Training:
    """Our trainer, an epoch a call: views, hook, schedule, check of the numbers, bookkeeping; no checkpoint."""

    def __init__(
        self,
        case: Case,
        scale: Scale,
        method: type[Method] = CrossEntropy,
        options: Mapping[str, Any] | None = None,
        device: Device = DEFAULT,
        channels_last: bool = True,
    ):
        _, labels = data(case, scale.images)
        memory = Memory(len(labels))
        rows = np.arange(len(labels))
        names = tuple(str(k) for k in range(NUM_CLASSES))
        model = spec(case, scale.images)
        # A few labels are checked, for methods that need some.
        problem = Problem(names, labels, rows, rows[:0], model, 0, memory, rows[:100])
        self.method = method(problem, **(options or {}))
        views = views_of(case, scale.images)
        if channels_last:
            self.method.to(memory_format=torch.channels_last)
        else:
            views = ContiguousViews(views.pixels, views.preprocessing, views.seed)
        self.trainer = _Unsaved(
            self.method,
            problem,
            views,
            device,
            epochs=_EPOCHS,
            batch_size=case.at(scale).batch,
            learning_rate=0.05,
            checkpoints=Checkpoints(_NOWHERE, memory, {}),
            listener=_OneEpoch(),
            stop=StopRequest(),
            checkpoint_seconds=float("inf"),
        )

    def __call__(self) -> None:
        try:
            self.trainer.run()
        except _EpochOver:
            return
        raise AssertionError(f"more than {_EPOCHS} epochs were asked for")


class BareLoop:
    """The loop one would write without us: torch's optimiser, no bookkeeping, an epoch a call."""

    def __init__(
        self,
        case: Case,
        scale: Scale,
        batches: Callable[[], Iterable[tuple[Tensor, Tensor]]],
        autocast: bool = True,
    ):
        self.network = spec(case, scale.images).build(0, "classifier")
        self.network.to(memory_format=torch.channels_last)
        self.batches = batches
        self.autocast = autocast
        self.optimizer = torch.optim.SGD(
            [p for p in self.network.parameters() if p.requires_grad],
            lr=1e-3,
            momentum=0.9,
            weight_decay=5e-4,
            nesterov=True,
            fused=True,
        )

    def __call__(self) -> None:
        for images, labels in self.batches():
            self.optimizer.zero_grad()
            with torch.autocast("cpu", torch.bfloat16, enabled=self.autocast):
                loss = F.cross_entropy(self.network(images), labels)
            loss.backward()
            self.optimizer.step()


class Batches:
    """An epoch of batches as our trainer makes them, (images, labels) each: order, weak view, labels."""

    def __init__(self, case: Case, scale: Scale):
        _, labels = data(case, scale.images)
        self.views = views_of(case, scale.images)
        self.labels = torch.from_numpy(labels)
        self.stream = Stream("train", Draw(), np.arange(len(labels)), labels, 0, case.at(scale).batch)
        self.epoch = 0

    def __call__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.epoch += 1
        self.stream.start(self.epoch)
        for step in range(self.stream.steps):
            rows = self.stream.indices(step)
            images = self.views.view("weak", rows, self.epoch, "train/0")
            yield images, self.labels[torch.from_numpy(rows)]


class _EpochOver(Exception):
    pass


class _OneEpoch:
    """A listener that ends the run with the epoch; the trainer goes on from there when it is run again."""

    def epoch_ended(self, end: EpochEnd, is_last: bool) -> None:
        raise _EpochOver

    def step_ended(self, phase: str, fraction: float, images_per_second: float) -> None:
        pass

    def went_back(self, reason: str) -> None:
        raise AssertionError(reason)

    def warned(self, text: str) -> None:
        pass

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        pass


class _Unsaved(Trainer):
    """A trainer without checkpoints."""

    def save(self) -> None:
        pass
