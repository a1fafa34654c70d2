"""The one loop. It knows devices, precision and checkpoints; what is learnt, and in which order, is the method's."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from winnow.data.randomness import stream_key
from winnow.data.views import Views
from winnow.errors import InputError
from winnow.labels.memory import Rows
from winnow.methods.base import Batch, Losses, Method, Moment, Phase, Problem, Turn
from winnow.survey import Survey
from winnow.survey.passes import survey
from winnow.train.checkpoint import Checkpoints, flattened, restored
from winnow.train.device import Device
from winnow.train.interrupt import StopRequest
from winnow.train.optimizers import SGD, Optimizers
from winnow.train.passes import TrainingPasses
from winnow.train.streams import Stream

_SKIPS_IN_A_ROW = 5
_ROLLBACKS = 2


@dataclass
class Cursor:
    """Where in the plan the run stands; `step` counts batches within the epoch."""

    phase: int = 0
    begun: bool = False
    epoch: int = 0
    revised: bool = False
    step: int = 0
    total_steps: int = 0
    total_epochs: int = 0


@dataclass(frozen=True)
class EpochEnd:
    """What the trainer tells after each epoch; accuracies and everything else come from the listener."""

    epoch: int
    phase: str
    learning_rate: float
    loss: float
    terms: Mapping[str, float]
    given_label_agreement: float
    seconds: float
    images: int


class Listener(Protocol):
    """Who hears of the training's progress."""

    def epoch_ended(self, end: EpochEnd, is_last: bool) -> None:
        """After an epoch, before its checkpoint."""

    def step_ended(self, phase: str, fraction: float, images_per_second: float) -> None:
        """After a batch; called often."""

    def went_back(self, reason: str) -> None:
        """Training goes on from the last checkpoint."""

    def state(self) -> dict[str, Any]:
        """What the listener must remember with a checkpoint, as JSON."""

    def load_state(self, state: dict[str, Any]) -> None:
        """The inverse of `state`."""


class Trainer:
    """Runs a method's plan.

    Args:
        method: the method, on its device.
        problem: the one it was built from.
        views: makes views of the collection's rows.
        device: where and how exactly.
        epochs: of the whole run; the method divides them.
        batch_size: images of a stream of size 1.
        learning_rate: the full rate.
        checkpoints: where to save.
        listener: hears of the progress.
        stop: set by a signal.
        epoch_checkpoint_seconds: save at the end of an epoch when the last checkpoint is older than this.
        checkpoint_seconds: save within an epoch when the last checkpoint is older than this, and than fifty times what
            saving took: it may cost 2 % of the time.
    """

    def __init__(
        self,
        method: Method,
        problem: Problem,
        views: Views,
        device: Device,
        *,
        epochs: int,
        batch_size: int,
        learning_rate: float,
        checkpoints: Checkpoints,
        listener: Listener,
        stop: StopRequest,
        epoch_checkpoint_seconds: float = 1.0,
        checkpoint_seconds: float = 10.0,
    ):
        self.method = method
        self.problem = problem
        self.views = views
        self.device = device
        self.batch_size = batch_size
        self.checkpoints = checkpoints
        self.listener = listener
        self.stop = stop
        self.epoch_checkpoint_seconds = epoch_checkpoint_seconds
        self.checkpoint_seconds = checkpoint_seconds
        self.plan = list(checked_plan(method.plan(epochs), epochs))
        self.cursor = Cursor()
        self.learning_rate = learning_rate
        self.optimizers = Optimizers(method)
        self.passes = TrainingPasses(problem.num_samples).to(device.torch_device)
        self.passes.watch(method.classifier)
        self.noisy_labels = torch.from_numpy(problem.noisy_labels).to(device.torch_device)
        self.seconds = 0.0
        self._terms: dict[str, Tensor] = {}
        self._term_steps = 0
        self._epoch_images = self._images_at_clock = 0
        self._skipped_in_a_row = 0
        self._rollbacks = 0
        self._rate_scale = 1.0
        self._clock = self._saved_at = time.monotonic()
        self._save_took = 0.0
        wants_features = any("features" in d.views for phase in self.plan for d in phase.draws.values())
        self._features = self._feature_rows() if wants_features else None

    # The loop

    def run(self, resume: bool = False) -> None:
        """Trains from wherever the cursor stands to the end of the plan.

        Args:
            resume: continue from the newest good checkpoint if there is one.

        Raises:
            InputError: the loss is not finite again and again, even after going back.
            MachineError: a checkpoint could not be written.
        """
        if resume and self.checkpoints.numbers():
            self.load()
        else:
            self.save()
        self._clock = time.monotonic()
        while self.cursor.phase < len(self.plan):
            try:
                self._run_phase(self.plan[self.cursor.phase])
            except _Diverged as diverged:
                self._go_back(diverged)

    def _run_phase(self, phase: Phase) -> None:
        cursor = self.cursor
        if not cursor.begun:
            if phase.begin:
                phase.begin()
            cursor.begun = True
        streams = self._streams(phase)
        while not self._phase_is_over(phase, next(iter(streams.values()))):
            if phase.revise and not cursor.revised and self._revision_is_due(phase):
                phase.revise(self.survey())
                cursor.revised = True
            self._run_epoch(phase, streams)
        self.cursor = Cursor(cursor.phase + 1, total_steps=cursor.total_steps, total_epochs=cursor.total_epochs)

    def _run_epoch(self, phase: Phase, streams: Mapping[str, Stream]) -> None:
        cursor = self.cursor
        for stream in streams.values():
            stream.start(cursor.total_epochs)
        first = next(iter(streams.values()))
        steps = self._steps_of_epoch(phase, first)
        while cursor.step < steps:
            moment = self._moment(phase, max(1, steps))
            batch = self._batch(streams, cursor.step)
            self.passes.begin_step()
            for position, turn in enumerate(phase.turn_list):
                for repetition in range(turn.repeat):
                    self._turn(phase, turn, batch, moment, salt=f"{position}/{repetition}")
            self.passes.record(batch)
            self.method.after_step(moment)
            cursor.step += 1
            cursor.total_steps += 1
            self._epoch_images += len(batch.indices)
            self._after_step(phase)
        if phase.end_epoch:
            phase.end_epoch()
        cursor.epoch += 1
        cursor.total_epochs += 1
        cursor.step = 0
        cursor.revised = False
        self._end_epoch(phase, first)

    def _turn(self, phase: Phase, turn: Turn, batch: Batch, moment: Moment, salt: str) -> None:
        optimizer = self._optimizer(turn)
        optimizer.forget_gradients()
        # Whatever a loss draws (mixing weights, dropout) is a function of the step, so a resumed run draws the same.
        _seed(stream_key(self.problem.seed, f"step/{salt}", moment.step) >> 1, self.device)
        with self.device.autocast():
            losses = turn.loss(batch, moment)
            items = losses if isinstance(losses, Iterator) else iter([losses])
            total = self._backward(items)
        if not self._is_finite(total, optimizer):
            self._skip(moment, total)
            return
        self._skipped_in_a_row = 0
        factor = phase.schedule(moment.fraction, self._phase_fraction(phase, moment))
        optimizer.step(self._rate_scale * self.learning_rate * factor)

    def _backward(self, items: Iterator[Losses]) -> Tensor:
        total = torch.zeros((), device=self.device.torch_device)
        for losses in items:
            loss = torch.stack([value.float() for value in losses.values()]).sum()
            loss.backward()
            total = total + loss.detach()
            for name, value in losses.items():
                self._terms[name] = self._terms.get(name, 0) + value.detach().double()
        self._term_steps += 1
        return total

    def _after_step(self, phase: Phase) -> None:
        now = time.monotonic()
        rate = (self._epoch_images - self._images_at_clock) / max(1e-9, now - self._clock)
        self.listener.step_ended(phase.name, self._fraction(), rate)
        if self.stop.signal_number is not None:
            self.save()
            raise Stopped
        if now - self._saved_at > max(self.checkpoint_seconds, 50 * self._save_took):
            self.save()

    def _end_epoch(self, phase: Phase, first: Stream) -> None:
        steps = max(1, self._term_steps)
        terms = {name: float(value) / steps for name, value in self._terms.items()}
        now = time.monotonic()
        self.seconds += now - self._clock
        end = EpochEnd(
            epoch=self.cursor.total_epochs,
            phase=phase.name,
            learning_rate=self._optimizer(phase.turn_list[0]).rate,
            loss=sum(terms.values()),
            terms=terms,
            given_label_agreement=self.passes.take_agreement(),
            seconds=self.seconds,
            images=self._epoch_images,
        )
        is_last = self.cursor.phase == len(self.plan) - 1 and self._phase_is_over(phase, first)
        self._forget_epoch()
        self.listener.epoch_ended(end, is_last)
        self._clock, started = time.monotonic(), now
        self.seconds += self._clock - started
        if is_last or self._clock - self._saved_at > self.epoch_checkpoint_seconds:
            self.save()

    def _optimizer(self, turn: Turn) -> SGD:
        return self.optimizers.get(turn.optimizer, turn.parameters() if turn.parameters else None)

    def _forget_epoch(self) -> None:
        self._terms = {}
        self._term_steps = 0
        self._epoch_images = self._images_at_clock = 0

    # What a step sees

    def _streams(self, phase: Phase) -> dict[str, Stream]:
        unlabelled = np.flatnonzero(self.problem.noisy_labels < 0)
        rows = {"train": self.problem.train_rows, "unlabelled": unlabelled}
        streams = {
            name: Stream(name, draw, rows[draw.source], self.problem.noisy_labels, self.problem.seed, self.batch_size)
            for name, draw in phase.draws.items()
        }
        for stream in streams.values():
            stream.start(self.cursor.total_epochs)
        return streams

    def _batch(self, streams: Mapping[str, Stream], step: int) -> Batch:
        batches = {name: self._stream_batch(stream, step) for name, stream in streams.items()}
        first = next(iter(batches.values()))
        return Batch(first.indices, first.noisy_labels, first.views, batches)

    def _stream_batch(self, stream: Stream, step: int) -> Batch:
        rows = stream.indices(step)
        indices = torch.from_numpy(rows).to(self.device.torch_device)
        views = tuple(
            self._feature_view(rows)
            if kind == "features"
            else self.views.view(kind, rows, self.cursor.total_epochs, f"{stream.name}/{position}")
            for position, kind in enumerate(stream.draw.views)
        )
        return Batch(indices, self.noisy_labels[indices], views)

    def _feature_rows(self) -> Rows:
        return self.problem.rows("survey-features", self.method.classifier.num_features, dtype="float32")

    def _feature_view(self, rows: np.ndarray) -> Tensor:
        assert self._features is not None
        return torch.from_numpy(self._features.values[rows]).to(self.device.torch_device)

    def survey(self) -> Survey:
        """The network's view of the whole collection."""
        result = survey(self.method.observe, self.method, self.views, self.problem.num_samples, self.device.autocast)
        if self._features is not None:
            self._features.replace(result.features)
        return result

    # The clock

    def _moment(self, phase: Phase, steps: int) -> Moment:
        cursor = self.cursor
        return Moment(cursor.total_steps, cursor.total_epochs, cursor.epoch, self._fraction(steps), steps)

    def _length(self, phase: Phase) -> float:
        """In epochs of the whole training set."""
        if phase.epochs:
            return float(phase.epochs)
        return phase.steps / max(1, len(self.problem.train_rows) // self.batch_size)

    def _fraction(self, steps: int = 0) -> float:
        done = sum(self._length(phase) for phase in self.plan[: self.cursor.phase])
        phase = self.plan[self.cursor.phase]
        within = self.cursor.epoch + self.cursor.step / max(1, steps or self._last_steps)
        if steps:
            self._last_steps = steps
        whole = sum(self._length(phase) for phase in self.plan)
        return min(1.0, (done + min(within, self._length(phase))) / max(whole, 1e-9))

    _last_steps = 1

    def _phase_fraction(self, phase: Phase, moment: Moment) -> float:
        return min(
            1.0,
            (self.cursor.epoch + self.cursor.step / moment.steps_per_epoch) / max(self._length(phase), 1e-9),
        )

    def _steps_of_epoch(self, phase: Phase, first: Stream) -> int:
        if phase.epochs:
            return first.steps
        return min(first.steps, phase.steps - self.cursor.epoch * first.steps)

    def _phase_is_over(self, phase: Phase, first: Stream) -> bool:
        if phase.epochs:
            return self.cursor.epoch >= phase.epochs
        return self.cursor.epoch * first.steps >= phase.steps

    def _revision_is_due(self, phase: Phase) -> bool:
        if self.cursor.step:
            return False
        return self.cursor.epoch == 0 if phase.revise_every == 0 else self.cursor.epoch % phase.revise_every == 0

    # Numbers that are none

    def _is_finite(self, total: Tensor, optimizer: SGD) -> bool:
        if self.device.torch_device.type != "cpu" and self.cursor.total_steps % 50:
            return True  # reading a number off an accelerator stalls it
        gradients = [p.grad for p in optimizer.parameters() if p.grad is not None]
        norms = torch._foreach_norm(gradients) if gradients else []
        return bool(torch.stack([total, *(norm.float() for norm in norms)]).isfinite().all())

    def _skip(self, moment: Moment, total: Tensor) -> None:
        self._skipped_in_a_row += 1
        for name in self._terms:
            self._terms[name] = torch.nan_to_num(self._terms[name], nan=0.0, posinf=0.0, neginf=0.0)
        if self._skipped_in_a_row > _SKIPS_IN_A_ROW:
            raise _Diverged(f"loss or gradient not finite in {self._skipped_in_a_row} steps up to step {moment.step}")

    def _go_back(self, diverged: _Diverged) -> None:
        rollbacks, rate_scale = self._rollbacks + 1, self._rate_scale / 2
        if rollbacks > _ROLLBACKS:
            raise Diverged(f"{diverged}, again after going back {_ROLLBACKS} times with half the rate", self.cursor)
        self.load()
        self._rollbacks, self._rate_scale, self._skipped_in_a_row = rollbacks, rate_scale, 0
        self._clock = time.monotonic()
        self.listener.went_back(f"{diverged}; back to the last checkpoint, with half the learning rate")
        self.save()

    # Checkpoints

    def save(self) -> None:
        """Writes a checkpoint of everything that the rest of the run depends on."""
        tensors: dict[str, Tensor] = {}
        now = time.monotonic()
        state = {
            "cursor": asdict(self.cursor),
            "last_steps": self._last_steps,
            "rollbacks": self._rollbacks,
            "rate_scale": self._rate_scale,
            "skipped": self._skipped_in_a_row,
            "seconds": self.seconds + (now - self._clock if self.cursor.step else 0.0),
            "term_steps": self._term_steps,
            "epoch_images": self._epoch_images,
            "threads": self.device.threads,
            "listener": self.listener.state(),
            "tree": flattened(
                "",
                {
                    "method": self.method.state_dict(),
                    "passes": self.passes.state_dict(),
                    "optimizers": self.optimizers.state(),
                    "terms": self._terms,
                },
                tensors,
            ),
        }
        self.checkpoints.save(tensors, state)
        self._saved_at = time.monotonic()
        self._save_took = self._saved_at - now

    def load(self) -> None:
        """Goes to the newest good checkpoint."""
        tensors, state, warnings = self.checkpoints.load()
        tree = restored(state["tree"], tensors)
        self.cursor = Cursor(**state["cursor"])
        self._last_steps = state["last_steps"]
        self._rollbacks, self._rate_scale = state["rollbacks"], state["rate_scale"]
        self._skipped_in_a_row = state["skipped"]
        self.seconds = state["seconds"]
        self._term_steps = state["term_steps"]
        self._epoch_images = self._images_at_clock = state["epoch_images"]
        self.method.load_state_dict(tree["method"])
        self.passes.load_state_dict(tree["passes"])
        place = self.device.torch_device
        momenta = {key: {n: t.to(place) for n, t in value.items()} for key, value in tree["optimizers"].items()}
        self.optimizers.load(momenta, self._parameters_by_optimizer())
        self._terms = {name: value.to(place) for name, value in tree["terms"].items()}
        self.listener.load_state(state["listener"])
        for warning in warnings:
            self.listener.went_back(warning)

    def _parameters_by_optimizer(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for phase in self.plan[: self.cursor.phase + 1]:
            for turn in phase.turn_list:
                found.setdefault(turn.optimizer, turn.parameters() if turn.parameters else None)
        return found


class Stopped(Exception):
    """A signal asked to stop; the state is saved."""


class Diverged(InputError):
    """The loss stays infinite or undefined whatever the trainer does about it."""

    def __init__(self, reason: str, cursor: Cursor):
        super().__init__(f"training diverged: {reason}; try a lower --learning-rate, or --precision float32")
        self.details = {"reason": reason, "at": asdict(cursor)}


class _Diverged(Exception):
    pass


def _seed(seed: int, device: Device) -> None:
    """Seeds torch's generators; on the CPU its own alone.

    `torch.manual_seed` also keeps a formatted stack trace for each kind of accelerator that has not started, which
    takes longer than a small network's optimiser step.
    """
    if device.torch_device.type == "cpu":
        torch.default_generator.manual_seed(seed)
    else:
        torch.manual_seed(seed)


def checked_plan(plan: Sequence[Phase], epochs: int) -> Sequence[Phase]:
    """The plan, if it has something to do and is as long as asked.

    Raises:
        ValueError: a phase has neither epochs nor steps, or the epochs do not add up.
    """
    if sum(phase.epochs for phase in plan) > epochs:
        raise ValueError(f"the phases take {sum(p.epochs for p in plan)} epochs, more than the {epochs} of the run")
    for phase in plan:
        if phase.epochs < 0 or phase.steps < 0 or not math.isfinite(phase.epochs):
            raise ValueError(f"phase {phase.name!r} has a negative length")
    return plan
