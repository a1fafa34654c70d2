"""How to train."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from winnow.data.source import Source
from winnow.errors import UsageError
from winnow.methods import METHODS
from winnow.methods.base import Method, Need

SMALLEST_SIZE, LARGEST_SIZE = 8, 2048
"""Of images, in pixels."""
FEW_STEPS = 100
"""Below, a network knows too little to judge a label."""


@dataclass(frozen=True)
class Settings:
    """How to train; None leaves a choice to the data and the device, and the choice is told.

    Attributes:
        method: a name of the table, or `file.py:Class`; by default see `default_method`.
        model: see `winnow.models.network_class`.
        weights: file of weights to start from, see `winnow.models.weights`.
        freeze: keep all but the head as the weights have it.
        image_size: side in pixels that the images are scaled to.
        epochs: passes over the training images.
        batch_size: images a step.
        learning_rate: of SGD with Nesterov momentum, before the schedule.
        seed: every random decision is a function of it.
        validation: share of the labelled images, at most 1,000 of them, that is held out to choose a best epoch on.
        device: `auto`, `cpu`, `cuda`, ...
        precision: `auto`, `bf16` or `float32`.
        threads: of the CPU's arithmetic.
        stream: keep the decoded images on disk even if they would fit in memory. It changes no result.
        hyperparameters: of the method.
    """

    method: str | None = None
    model: str | None = None
    weights: str | None = None
    freeze: bool = False
    image_size: int | None = None
    epochs: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None
    seed: int = 0
    validation: float = 0.05
    device: str = "auto"
    precision: str = "auto"
    threads: int | None = None
    stream: bool = False
    hyperparameters: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"--{name.replace('_', '-')} must be at least 1, got {value}")
        if self.image_size is not None and not SMALLEST_SIZE <= self.image_size <= LARGEST_SIZE:
            raise UsageError(f"--image-size must lie in {SMALLEST_SIZE} to {LARGEST_SIZE:,}, got {self.image_size:,}")
        if self.freeze and self.weights is None:
            raise UsageError("--freeze keeps the network's body as given --weights have it: name the file")
        if self.learning_rate is not None and not (self.learning_rate > 0 and math.isfinite(self.learning_rate)):
            raise UsageError(f"--learning-rate must be above 0, got {self.learning_rate}")
        if not 0 <= self.validation < 1:
            raise UsageError(f"--validation must lie in [0, 1), got {self.validation}")


def default_method(source: Source) -> str:
    """The method for a collection when none is named: told to the person, never hidden."""
    # Of those that learn from several classes, smoothing lost the least to wrong cells.
    return "label-smoothing" if source.is_multilabel else "winnow"


def check_task(method: type[Method], source: Source) -> None:
    """Refuses a method that knows one class an image where a source has several.

    Raises:
        UsageError: as it says.
    """
    if source.is_multilabel and not method.multilabel:
        able = ", ".join(name for name, other in METHODS.items() if other.multilabel)
        raise UsageError(
            f"--method {method.name} needs one class an image, {source.address} has several; "
            f"these learn from several: {able}"
        )


def check_needs(method: Method, source: Source) -> None:
    """Refuses a method, as its options made it, if a source lacks what it needs.

    Raises:
        UsageError: what is missing.
    """
    here = {
        Need.UNLABELLED: bool(source.unlabelled.any()),
        Need.VERIFIED: source.verified is not None and bool(source.verified.any()),
    }
    missing = [need for need in method.needs if not here.get(need)]
    if missing:
        wants = " and ".join(need.value for need in missing)
        raise UsageError(f"--method {method.name} needs {wants}; {source.address} has none")
