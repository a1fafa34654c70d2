"""Goals P1, P2, P3, P7, P8 and P9: ratios of CPU times, one thread. A round is an epoch of 1,280 images each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.ratio import alternated
from benchmarks.record import Finding
from benchmarks.setting import CONVNET, FLOAT32, MLP, SMALL_CNN, BareLoop, Batches, Case, Scale, Training, data
from winnow.methods import METHODS

LOSS_ONLY: Mapping[str, Mapping[str, Any]] = {
    "label-smoothing": {},
    "bootstrap-soft": {"warmup_epochs": 0},
    "bootstrap-hard": {"warmup_epochs": 0},
    "bootstrap-sharp": {"warmup_epochs": 0},
    "nlnl": {},
    # Their untimed first epoch is one of plain cross-entropy.
    "forward": {"estimate_share": 0.001},
    "backward": {"estimate_share": 0.001},
    "noise-layer": {"warmup_share": 0.001},
    "importance-reweighting": {"estimation_share": 0.001},
    # The centroid judges, so that there is no phase of the encoders: their steps are no steps of the classifier.
    "cleannet": {"similarity": "centroid", "warmup_epochs": 1},
}
# The untimed first epoch is the one of plain cross-entropy, or the teacher's.
DEARER: Mapping[str, Mapping[str, Any]] = {
    "bootstrap-reconstruction": {"warmup_share": 0.001},
    "distillation": {"w_given": 0.5, "temperature": 1.0, "teacher_steps": 1},
    "label-refinery": {"first_share": 0.001},
    "quality-embedding": {"warmup_epochs": 1},
    "winnow": {},
}
MLNT_GOALS: Mapping[str, float] = {"head": 1.6, "first": 18, "second": 42}
MLNT_CASE = Case("small_cnn", 28, 1, 32)
LOADER = Case("none", 32, 3, 256)


def p1(scale: Scale) -> list[Finding]:
    """A cross-entropy step of our trainer against a bare PyTorch loop: same network, optimiser, precision, layout.

    The goal is the trainer's own overhead, so that both make their batches through the same views. Beside it stands
    the ratio to a loop that is handed ready batches, which adds our views (see P8), and the MLP, whose step is so
    cheap that every fixed cost shows.
    """
    findings = []
    for case in (SMALL_CNN, CONVNET, MLP):
        goal = None if case is MLP else 1.05
        ratio = alternated(Training(case, scale), BareLoop(case, scale, Batches(case, scale)), scale.rounds)
        findings.append(Finding.of(f"our step / bare loop with our views, {case}", ratio, at_most=goal))
        ready = list(Batches(case, scale)())
        ratio = alternated(Training(case, scale), BareLoop(case, scale, lambda: ready), scale.rounds)  # noqa: B023
        findings.append(Finding.of(f"our step / bare loop on ready batches, {case}", ratio))
    return findings


def p2(scale: Scale) -> list[Finding]:
    """Our trainer in float32 and PyTorch's own layout against its default, bfloat16 and channels last."""
    findings = []
    for case in (SMALL_CNN, CONVNET):
        plain = Training(case, scale, device=FLOAT32, channels_last=False)
        ratio = alternated(plain, Training(case, scale), scale.rounds)
        goal = 2.0 if case is SMALL_CNN else None
        findings.append(Finding.of(f"float32 NCHW / default bf16 NHWC, {case}", ratio, at_least=goal))
    return findings


def p3(scale: Scale) -> list[Finding]:
    """Methods against cross-entropy, all through our trainer."""
    findings = []
    for name, options in {**LOSS_ONLY, **DEARER}.items():
        ratio = alternated(Training(SMALL_CNN, scale, METHODS[name], options), Training(SMALL_CNN, scale), scale.rounds)
        goal = 1.05 if name in LOSS_ONLY else None
        findings.append(Finding.of(f"{name} / cross-entropy, {SMALL_CNN}", ratio, at_most=goal))
    return findings


def p7(scale: Scale) -> list[Finding]:
    """MLNT with its ten label sets against cross-entropy, by order. An epoch is a quarter as long as elsewhere."""
    short = replace(scale, images=scale.images // 4)
    findings = []
    for order, goal in MLNT_GOALS.items():
        # The untimed first epoch is the warm-up.
        options = {"order": order, "warmup_share": 0.001, "full_share": 0.001}
        mlnt = Training(MLNT_CASE, short, METHODS["mlnt"], options)
        ratio = alternated(mlnt, Training(MLNT_CASE, short), scale.rounds)
        findings.append(Finding.of(f"mlnt order={order} / cross-entropy, {MLNT_CASE}", ratio, at_most=goal))
    return findings


def p8(scale: Scale) -> list[Finding]:
    """An epoch of batches (order, weak views, labels) against an epoch of training steps on ready batches."""
    batches = Batches(SMALL_CNN, scale)
    ready = list(batches())
    ratio = alternated(lambda: _drain(batches), BareLoop(SMALL_CNN, scale, lambda: ready), scale.rounds)
    return [Finding.of(f"our batches / training steps, {SMALL_CNN}", ratio, at_most=0.05)]


def p9(scale: Scale) -> list[Finding]:
    """torch's `DataLoader` with Pillow transforms of single images, no workers, against our batches.

    Ours shift by up to 4 pixels with reflection, mirror and normalise; so does the other, as torchvision does it.
    """
    case = LOADER.at(scale)
    batches = Batches(LOADER, scale)
    images, labels = data(LOADER, scale.images)
    preprocessing = batches.views.preprocessing
    dataset = PillowImages(images, labels, preprocessing.mean, preprocessing.std)
    generator = torch.Generator().manual_seed(0)
    loader = DataLoader(dataset, batch_size=case.batch, shuffle=True, drop_last=True, generator=generator)
    ratio = alternated(lambda: sum(1 for _ in loader), lambda: _drain(batches), scale.rounds)
    count = len(images) // case.batch * case.batch
    return [
        Finding.of(
            f"DataLoader with Pillow transforms / ours, 32x32x3, batch {case.batch}",
            ratio,
            at_least=10,
            images_per_cpu_s={
                "DataLoader": count / float(np.median(ratio.first)),
                "ours": count / float(np.median(ratio.second)),
            },
        )
    ]


class PillowImages(Dataset[tuple[Tensor, int]]):
    """Random crop with a reflected border of 4 pixels, mirror, tensor, normalisation: one image at a time."""

    border = 4

    def __init__(self, images: np.ndarray, labels: np.ndarray, mean: tuple[float, ...], std: tuple[float, ...]):
        self.images = images
        self.labels = labels.tolist()
        self.mean = torch.tensor(mean)[:, None, None]
        self.std = torch.tensor(std)[:, None, None]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        image = Image.fromarray(self.images[index])
        size, border = image.width, self.border
        padded = np.pad(np.asarray(image), ((border, border), (border, border), (0, 0)), mode="reflect")
        left, top, mirror = (int(torch.randint(0, high, (1,))) for high in (2 * border + 1, 2 * border + 1, 2))
        image = Image.fromarray(padded).crop((left, top, left + size, top + size))
        if mirror:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous().float().div_(255)
        return tensor.sub_(self.mean).div_(self.std), self.labels[index]


def _drain(batches: Batches) -> None:
    for _ in batches():
        pass
