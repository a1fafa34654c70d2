"""One training of the mislabelling study, and everything that is measured of it.

The learner is the same in every cell: so many steps, plain SGD with momentum, no augmentation and no weight decay, so
that between two cells nothing differs but the labels. There is no run folder: a cell takes a fraction of a second where
images are small.
"""

from __future__ import annotations

import base64
import math
import time
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from winnow.bench.cells import canonical
from winnow.bench.mislabel_data import shared_pool, stratified_order, subset_rows, wrong_labels
from winnow.data.randomness import stream_key
from winnow.data.views import Preprocessing, Views
from winnow.errors import InputError
from winnow.labels.memory import Memory
from winnow.methods import build, find_method
from winnow.methods.base import Phase, Problem
from winnow.models import ModelSpec
from winnow.survey.passes import survey
from winnow.train.checkpoint import Checkpoints
from winnow.train.clock import Clock
from winnow.train.device import Device
from winnow.train.interrupt import StopRequest
from winnow.train.optimizers import Optimizers
from winnow.train.trainer import EpochEnd, Listener, Trainer

MARKS = (0.1, 0.25, 0.5, 0.75)
"""Shares of the training after which memorising is measured, beside the end."""
_WATCHED = 2000
"""Training images, and validation images, at most, on which it is measured: a balanced beginning of them."""
_KEPT_PREDICTIONS = 1000
"""Test images, at most, whose classes are kept, for bias and variance over the repeats."""
_BINS = 15


def run_cell(config: Mapping[str, Any]) -> dict[str, Any]:
    """Trains and measures one cell.

    Args:
        config: see `winnow.bench.mislabel.Design.cell`.

    Returns:
        What was measured, as far as it is the same every time, and `times`; accuracies are fractions.

    Raises:
        UsageError: method, network or sizes are not possible.
        InputError: the data cannot be used, or the loss is not finite.
    """
    begun = time.process_time()
    pool = shared_pool(canonical(config["data"]))
    seed, repeat = config["seed"], config["repeat"]
    rows = subset_rows(pool, config["size"], seed, repeat)
    noise_seed = stream_key(seed, "mislabel noise", repeat)
    noise = (config["kind"], config["rate"], config["map"], noise_seed)
    labels = wrong_labels(pool, rows, *noise)
    run_seed = stream_key(seed, "mislabel training", repeat) >> 1
    training = PlainTraining(pool.images[rows], labels, pool.source.class_names, pool.mirror, config, run_seed)
    held_out = pool.validation_rows[:_WATCHED]
    meter = _Meter(
        training,
        truth=pool.labels[rows],
        labels=labels,
        validation=training.views(pool.images[held_out]),
        validation_labels=wrong_labels(pool, held_out, *noise),
        test=training.views(pool.test_images),
        test_labels=pool.test_labels,
    )
    trainer = training.trainer(meter)
    trainer.run()
    return {
        "realised_rate": float((labels != pool.labels[rows]).mean()),
        "num_classes": pool.source.num_classes,
        "num_test": len(pool.test_labels),
        "batch_size": trainer.batch_size,
        "steps": trainer.clock.cursor.total_steps,
        **meter.measured(),
        "times": {"cpu_seconds": round(time.process_time() - begun, 3)},
    }


class PlainViews(Views):
    """Views without augmentation: what a method asks for as weak is the image itself."""

    def view(self, kind: str, indices: np.ndarray, epoch: int, purpose: str) -> Float[Tensor, "batch c h w"]:
        """See `Views.view`."""
        return super().view("plain" if kind == "weak" else kind, indices, epoch, purpose)


class _Unsaved(Checkpoints):
    """Keeps nothing. A cell that diverges fails: going on at half the rate would be another cell."""

    def __init__(self) -> None: ...

    def save(self, tensors: dict[str, Tensor], state: dict[str, Any]) -> None: ...

    def numbers(self) -> list[int]:
        return []

    def load(self) -> Any:
        raise InputError("the loss is not finite: training diverged; try a lower --learning-rate")


def whole_batch(size: int, batch_size: int) -> int:
    """The batch size, or less where batches of it would leave out more than a twentieth of the images."""
    batch = min(batch_size, size)
    return size // math.ceil(size / batch) if size % batch > size // 20 else batch


def in_steps(plan: Sequence[Phase], steps: int, epoch_steps: int) -> list[Phase]:
    """The phases of a plan, together `steps` long, each with the share that it has in the plan.

    Args:
        plan: whose phases are counted in epochs or in steps.
        steps: of the whole.
        epoch_steps: of an epoch over all training images.
    """
    ends = np.cumsum([phase.epochs or phase.steps / epoch_steps for phase in plan])
    marks = np.rint(steps * ends / ends[-1]).astype(int)
    lengths = np.diff(marks, prepend=0)
    return [replace(phase, epochs=0, steps=int(n)) for phase, n in zip(plan, lengths, strict=True) if n]


class PlainTraining:
    """A learner before its first step, as every study has it: SGD, so many steps or epochs, nothing saved.

    Args:
        images: to learn from, uint8 (N, S, S, C).
        labels: theirs, (N,).
        class_names: in index order.
        mirror: whether a mirrored picture keeps its class.
        config: of the cell: `method`, `model`, `batch_size`, `schedule` (`steps` or `epochs`), `length`,
            `learning_rate`, `weight_decay`, `device`, `precision`.
        seed: of first weights and batches.

    Raises:
        UsageError: method or network are not possible.
    """

    def __init__(
        self,
        images: np.ndarray,
        labels: np.ndarray,
        class_names: tuple[str, ...],
        mirror: bool,
        config: Mapping[str, Any],
        seed: int,
    ):
        self.config = config
        self.device = Device.choose(config["device"], config["precision"], 1)
        torch.set_num_threads(self.device.threads)
        self.preprocessing = preprocessing = Preprocessing.of(images, mirror)
        self.seed = seed
        self.train = self.views(images)
        patches = whitening_patches(self.train)
        spec = ModelSpec(config["model"], preprocessing.size, preprocessing.channels, len(class_names), patches)
        every = np.arange(len(images))
        self.problem = Problem(class_names, labels, every, every[:0], spec, seed, Memory(len(images)))
        self.method = build(find_method(config["method"]), self.problem, {})
        self.method.to(self.device.torch_device).to(memory_format=torch.channels_last)

    def views(self, images: np.ndarray) -> PlainViews:
        """Images, uint8 (n, S, S, C), as the learner sees them."""
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self.device.torch_device)
        return PlainViews(pixels, self.preprocessing, self.seed)

    def trainer(self, listener: Listener) -> Trainer:
        """What trains it; the listener hears of the steps."""
        config, problem = self.config, self.problem
        batch = whole_batch(problem.num_samples, config["batch_size"])
        epoch_steps = problem.num_samples // batch
        in_epochs = config["schedule"] == "epochs"
        trainer = Trainer(
            self.method,
            problem,
            self.train,
            self.device,
            epochs=config["length"] if in_epochs else math.ceil(config["length"] / epoch_steps),
            batch_size=batch,
            learning_rate=config["learning_rate"],
            checkpoints=_Unsaved(),
            listener=listener,
            stop=StopRequest(),
            epoch_checkpoint_seconds=math.inf,
            checkpoint_seconds=math.inf,
        )
        if not in_epochs:
            trainer.plan = in_steps(trainer.plan, config["length"], epoch_steps)
            trainer.clock = Clock(trainer.plan, epoch_steps)
        trainer.optimizers = Optimizers(self.method, weight_decay=config["weight_decay"])
        return trainer

    def probs(self, views: PlainViews, number: int | None = None) -> np.ndarray:
        """Class probabilities of some images, or of the first of them, (n, K)."""
        method = self.method
        n = len(views.pixels) if number is None else number
        return survey(lambda batch: {"probs": method.predict(batch)}, method, views, n, self.device.autocast).probs


@dataclass
class _Meter:
    """Measures a training on its way; the trainer's listener."""

    training: PlainTraining
    truth: np.ndarray
    labels: np.ndarray
    validation: PlainViews
    validation_labels: np.ndarray
    test: PlainViews
    test_labels: np.ndarray

    def __post_init__(self) -> None:
        self.curve: list[dict[str, Any]] = []
        self.best_step = self._steps = 0
        self._best_validation = -1.0
        self._best_state: dict[str, Tensor] = {}

    def step_ended(self, phase: str, fraction: float, images_per_second: float) -> None:
        """Measures where a mark is passed."""
        self._steps += 1
        if len(self.curve) < len(MARKS) and MARKS[len(self.curve)] <= fraction < 1:
            self._mark()

    def epoch_ended(self, end: EpochEnd, is_last: bool) -> None:
        """Nothing: cells differ in the length of their epochs."""

    def went_back(self, reason: str) -> None:
        """Nothing: there is no way back."""

    def warned(self, text: str) -> None:
        """Nothing: thousands of cells would say the same."""

    def state(self) -> dict[str, Any]:
        """Nothing is saved."""
        return {}

    def load_state(self, state: dict[str, Any]) -> None:
        """Nothing is saved."""

    def measured(self) -> dict[str, Any]:
        """Everything, once the training has ended; the method is left as it was at its best step."""
        self._mark()
        probs = self.training.probs(self.test)
        last = best = _share(probs.argmax(axis=1) == self.test_labels)
        if self.best_step != self._steps:
            self.training.method.load_state_dict(self._best_state)
            best = _share(self.training.probs(self.test).argmax(axis=1) == self.test_labels)
        return {
            "test_accuracy_last": last,
            "test_accuracy_best": best,
            "best_step": self.best_step,
            **{name: self.curve[-1][name] for name in ("validation", "given_flipped", "true_flipped", "given_clean")},
            "expected_calibration_error": calibration_error(probs, self.test_labels),
            "curve": self.curve,
            "mistakes": packed_mistakes(probs.argmax(axis=1), self.test_labels, probs.shape[1]),
        }

    def _mark(self) -> None:
        watched = min(_WATCHED, len(self.labels))
        predicted = self.training.probs(self.training.train, watched).argmax(axis=1)
        given, truth = self.labels[:watched], self.truth[:watched]
        flipped = given != truth
        validation = None
        if len(self.validation_labels):
            validation = _share(self.training.probs(self.validation).argmax(axis=1) == self.validation_labels)
        # The best step is chosen on wrong labels; without any, it is the last.
        if validation is None or validation > self._best_validation:
            self._best_validation = validation or 0.0
            self.best_step = self._steps
            self._best_state = {name: value.clone() for name, value in self.training.method.state_dict().items()}
        self.curve.append(
            {
                "step": self._steps,
                "given_flipped": _share((predicted == given)[flipped]),
                "true_flipped": _share((predicted == truth)[flipped]),
                "given_clean": _share((predicted == given)[~flipped]),
                "validation": validation,
            }
        )


def calibration_error(probs: np.ndarray, labels: np.ndarray) -> float:
    """Expected calibration error over 15 bins of equal width: mean |confidence - accuracy|, weighted by the images.

    Args:
        probs: class probabilities, (N, K).
        labels: the truth, (N,).
    """
    confidence = probs.max(axis=1).astype(np.float64)
    right = probs.argmax(axis=1) == labels
    bins = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    gaps = np.bincount(bins, weights=confidence - right, minlength=_BINS)
    return float(np.abs(gaps).sum() / len(labels))


def packed_mistakes(predicted: np.ndarray, labels: np.ndarray, num_classes: int) -> str:
    """(predicted - true class) mod K of at most 1,000 test images, as text: 0 is right, and no truth is told."""
    kept = np.sort(stratified_order(labels, stream_key(0, "mislabel mistakes"))[:_KEPT_PREDICTIONS])
    mistakes = (predicted[kept] - labels[kept]) % num_classes
    return base64.b64encode(zlib.compress(mistakes.astype("<u2").tobytes(), 9)).decode("ascii")


def unpacked_mistakes(text: str) -> np.ndarray:
    """The inverse of `packed_mistakes`, int64."""
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype="<u2").astype(np.int64)


def _share(values: np.ndarray) -> float | None:
    return float(values.mean()) if len(values) else None


def whitening_patches(views: Views) -> Tensor:
    """At most 1,000 images, for networks whose first layer follows the data."""
    rows = np.arange(0, len(views.pixels), max(1, len(views.pixels) // 1000))[:1000]
    return views.view("plain", rows, 0, "whitening").cpu()
