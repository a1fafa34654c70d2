"""Features and a memory from a network trained on the collection itself, without its truth.

One network learns all given labels by the default method, which trusts each of them as far as the network's average
believes it. What that average thought of each label on shifted views, over the training, is the memory. On 10,000
images of CIFAR-10N `worse` it ranks the wrong labels better (average precision 0.88) than networks of the same cost do
that have not seen the label (0.83, two halves): half of the images teach less, and a network of a few hundred thousand
weights learns little of 40 % wrong labels by heart in so few epochs. Its class probabilities stay aside: they have
seen the labels, and whoever counts wrong labels by them finds too few.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.lib.format import open_memmap

from winnow.audit.embedded import ByHeart, Embedding
from winnow.audit.seen import seen
from winnow.data.collection import Collection
from winnow.data.pictures import ArrayPictures
from winnow.data.pixels import ArrayPixels, blocks
from winnow.data.randomness import permutation, stream_key
from winnow.data.source import Source, without_label
from winnow.methods import METHODS
from winnow.models import default_model
from winnow.train.device import Device
from winnow.train.examples import Examples
from winnow.train.fit import fit
from winnow.train.predictor import Predictor
from winnow.train.progress import Progress
from winnow.train.settings import Settings, default_method

SIDE = 32
"""Pixels that pictures are scaled down to where larger ones would leave too few passes."""
_IMAGES_A_SECOND = {("cpu", "bf16"): 1000, ("cpu", "float32"): 450}
_IMAGES_A_SECOND_ELSEWHERE = 10_000
"""Pictures of 32 x 32 pixels in training steps of cross-entropy with the default network, on one core or an
accelerator. Fixed, not timed: else the features would depend on what else the machine does."""
_USEFUL_THREADS = 8
"""Two threads are 1.7 times as fast as one; small networks do not keep many busy."""
_FEW_EPOCHS, _MANY_EPOCHS, _MOST_EPOCHS = 4, 30, 100
_STEPS = 1500
"""Small collections need more passes."""
_STEP = 3
"""Forward passes that a training step costs."""
HELD_BACK, _MOST_HELD_BACK = 0.05, 2000
"""Share of the labels that are not learnt, and their number at most: they tell what of the others is known by heart."""


@dataclass(frozen=True)
class Plan:
    """What the budget is spent on.

    Attributes:
        method: by its name.
        model: by its name.
        size: side of the pictures in pixels.
        images: whose labels are learnt; fewer than there are, or none, where the budget is small.
        epochs: passes over them.
        batch_size: pictures a step.
        minutes: that it takes at the speed assumed.
    """

    method: str
    model: str
    size: int
    images: int
    epochs: int
    batch_size: int
    minutes: float

    def __str__(self) -> str:
        return (
            f"a {self.model} trained here by {self.method} on {self.images:,} images of {self.size} px, "
            f"{self.epochs} epochs"
        )


def planned(source: Source, collection: Collection, budget_minutes: float, device: Device) -> Plan:
    """The most that fits the budget at a fixed speed; the same on every machine with the same arithmetic.

    Args:
        source: what the labels are.
        collection: the readable pictures.
        budget_minutes: for training and the last pass, at least 0.
        device: where it will run.
    """
    method = default_method(source)
    labelled = int((~without_label(source.noisy_labels[collection.rows])).sum())
    place = device.torch_device.type
    at_side = float(_IMAGES_A_SECOND.get((place, device.precision), _IMAGES_A_SECOND_ELSEWHERE))
    if place == "cpu":
        at_side *= min(device.threads, _USEFUL_THREADS) ** 0.75

    def possible(size: int) -> tuple[float, float]:
        """(Seconds a picture takes in a step, images that are learnt within the budget, each pass counted)."""
        second = (size / SIDE) ** 2 / at_side
        last_pass = 2 * len(collection.rows) * second / _STEP
        step = second * METHODS[method].cost
        return step, max(0.0, 60 * budget_minutes - last_pass) / step

    size = collection.size
    if size > SIDE and possible(size)[1] < _MANY_EPOCHS * labelled:
        size = SIDE
    step, passes = possible(size)
    held_back = 0 if source.is_multilabel else min(int(HELD_BACK * labelled), _MOST_HELD_BACK)
    within = min(labelled, int(passes / _FEW_EPOCHS))
    images = min(labelled - held_back, within)
    batch_size = 64 if images <= 20_000 else 128
    enough = max(_MANY_EPOCHS, math.ceil(_STEPS / max(1, images // batch_size)))
    epochs = int(max(1, min(passes / max(1, within), enough, _MOST_EPOCHS)))
    return Plan(
        method, default_model(size, place), size, images, epochs, batch_size, round(images * epochs * step / 60, 1)
    )


def trained(
    source: Source, collection: Collection, plan: Plan, folder: Path, *, seed: int, device: Device, progress: Progress
) -> Embedding:
    """Trains, and looks at every picture with what was learnt.

    Args:
        source: what the labels are.
        collection: the readable pictures.
        plan: how to train.
        folder: where the run lies; goes on with what it holds.
        seed: of the network and the views.
        device: where and how exactly.
        progress: hears of the work.

    Raises:
        Interrupted: a signal asked to stop; `folder` has what was done.
    """
    pictures = _scaled(collection, plan.size, folder)
    learnt = Source(
        address=source.address,
        ids=[str(row) for row in range(len(pictures))],
        class_names=source.class_names,
        noisy_labels=_told(source.noisy_labels[collection.rows], plan.images, seed),
        pictures=ArrayPictures(pictures if pictures.shape[3] == 3 else pictures[..., 0]),
        verified=None if source.verified is None else source.verified[collection.rows],
        grey=pictures.shape[3] == 1,
        mirror=Examples(source, collection).mirror,
    )
    settings = Settings(
        method=plan.method,
        model=plan.model,
        epochs=plan.epochs,
        batch_size=plan.batch_size,
        seed=seed,
        validation=0.0,
        device=str(device.torch_device),
        precision=device.precision,
        threads=device.threads,
    )
    run = fit(learnt, settings, folder / "run", resume=True, progress=_Training(progress))
    predictor = Predictor.load(run.folder)
    features, probs = seen(
        predictor.networks,
        predictor.task,
        predictor.preprocessing,
        [ArrayPixels(pictures)],
        len(pictures),
        device,
        progress,
    )
    if source.is_multilabel:
        return Embedding(features, None, None, str(plan))
    memory = run.labels["label_quality"].to_numpy().astype(np.float32)
    by_heart = _by_heart(probs, source.noisy_labels[collection.rows], learnt.noisy_labels)
    return Embedding(features, None, memory, str(plan), by_heart)


class _Training(Progress):
    """Tells how far the training is and what goes wrong; what it understands has been told already."""

    def __init__(self, progress: Progress):
        self.progress = progress

    def training(self, **told: Any) -> None:
        """Passed on."""
        self.progress.training(**told | {"phase": "features"})

    def epoch(self, line: Mapping[str, Any]) -> None:
        """Passed on."""
        self.progress.epoch(line)

    def warning(self, text: str) -> None:
        """Passed on."""
        self.progress.warning(text)


def _by_heart(probs: np.ndarray, labels: np.ndarray, told: np.ndarray) -> ByHeart | None:
    """What the network knows by heart, if any label was held back from it."""
    agree = probs.argmax(axis=1) == labels
    held_back = (told < 0) & (labels >= 0)
    if not held_back.any():
        return None
    learnt = told >= 0
    return ByHeart((int(agree[learnt].sum()), int(learnt.sum())), (int(agree[held_back].sum()), int(held_back.sum())))


def _told(labels: np.ndarray, images: int, seed: int) -> np.ndarray:
    """The labels that the network learns: of a random choice where not all are wanted, the others -1."""
    labelled = np.flatnonzero(~without_label(labels))
    left_out = permutation(stream_key(seed, "embedding"), labelled)[images:]
    told = labels.copy()
    told[left_out] = -1
    return told


def _scaled(collection: Collection, size: int, folder: Path) -> np.ndarray:
    """All pictures, averaged down to a side where they are larger, uint8 (n, size, size, channels).

    They are kept in a file of the folder where the collection, too, is not kept in memory.
    """
    in_memory = isinstance(collection.pixels, ArrayPixels)
    if in_memory and collection.size == size:
        return collection.images
    shape = (len(collection.rows), size, size, collection.pixels.shape[3])
    found: np.ndarray
    if in_memory:
        found = np.empty(shape, dtype=np.uint8)
    else:
        found = open_memmap(folder / "pixels.npy", mode="w+", dtype=np.uint8, shape=shape)
    done = 0
    for block in blocks(collection.pixels):
        images = torch.from_numpy(block).permute(0, 3, 1, 2).float()
        small = F.adaptive_avg_pool2d(images, size).round().to(torch.uint8)
        found[done : done + len(block)] = small.permute(0, 2, 3, 1).numpy()
        done += len(block)
    return found
