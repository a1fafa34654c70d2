"""The one loop. It knows devices, precision and checkpoints; what is learnt, and in which order, is the method's."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from winnow.data.randomness import stream_key
from winnow.data.source import without_label
from winnow.data.views import Views
from winnow.errors import InputError, UsageError
from winnow.labels.memory import Rows
from winnow.methods.base import Batch, Losses, Method, Moment, Phase, Problem, Turn
from winnow.survey import Survey
from winnow.survey.passes import survey
from winnow.train.checkpoint import Checkpoints, flattened, restored
from winnow.train.clock import Clock, Cursor, checked_plan, has_time
from winnow.train.device import Device
from winnow.train.interrupt import StopRequest
from winnow.train.optimizers import SGD, Optimizers
from winnow.train.passes import TrainingPasses
from winnow.train.streams import Stream

_SKIPS_IN_A_ROW = 5
_ROLLBACKS = 2


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

    def warned(self, text: str) -> None:
        """The method has something to say that does not stop the work."""

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
        method.warn = listener.warned
        planned = method.plan(epochs)
        self.plan = checked_plan(planned, epochs)
        self.left_out = [phase.name for phase in planned if not has_time(phase)]
        self.clock = Clock(self.plan, len(problem.train_rows) // batch_size)
        self.learning_rate = learning_rate
        self.optimizers = Optimizers(method)
        self.passes = TrainingPasses(problem).to(device.torch_device)
        self.passes.watch(method.classifier)
        self.noisy_labels = torch.from_numpy(problem.noisy_labels).to(device.torch_device)
        self.seconds = 0.0
        self._terms: dict[str, Tensor] = {}
        self._term_steps = 0
        self._epoch_images = self._images_at_start = 0
        self._skipped_in_a_row = self._epoch_skips = 0
        self._rollbacks = 0
        self._rate_scale = 1.0
        self._started = self._saved_at = time.monotonic()
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
        self._started = time.monotonic()
        while not self.clock.is_over:
            try:
                self._run_phase(self.clock.phase)
            except _Diverged as diverged:
                self._go_back(diverged)

    def _run_phase(self, phase: Phase) -> None:
        if not self.clock.cursor.begun:
            if phase.begin:
                phase.begin()
            self.clock.cursor.begun = True
        streams = self._streams(phase)
        while not self.clock.phase_is_over:
            if self.clock.revision_is_due and phase.revise:
                phase.revise(self.survey())
                self.clock.cursor.revised = True
            self._run_epoch(phase, streams)
        self.clock.next_phase()

    def _run_epoch(self, phase: Phase, streams: Mapping[str, Stream]) -> None:
        for stream in streams.values():
            stream.start(self.clock.cursor.total_epochs)
        steps = self.clock.steps_of_epoch(next(iter(streams.values())).steps)
        while self.clock.cursor.step < steps:
            moment = self.clock.moment()
            batch = self._batch(streams, self.clock.cursor.step)
            self.passes.begin_step()
            for position, turn in enumerate(phase.turn_list):
                for repetition in range(turn.repeat):
                    self._turn(phase, turn, batch, moment, salt=f"{position}/{repetition}")
            self.passes.record(batch)
            self.method.after_step(moment)
            self.clock.next_step()
            self._epoch_images += len(batch.indices)
            self._after_step(phase)
        self._judge_skips()
        if phase.end_epoch:
            phase.end_epoch()
        self.clock.next_epoch()
        self._end_epoch(phase)

    def _turn(self, phase: Phase, turn: Turn, batch: Batch, moment: Moment, salt: str) -> None:
        optimizer = self._optimizer(turn)
        optimizer.forget_gradients()
        # Whatever a loss draws (mixing weights, dropout) is a function of the step, so a resumed run draws the same.
        _seed(stream_key(self.problem.seed, f"step/{salt}", moment.step) >> 1, self.device)
        with self.device.autocast():
            losses = turn.loss(batch, moment)
            if not isinstance(losses, (Mapping, Iterator)):
                raise UsageError(
                    f"{type(self.method).__name__}.loss must give named terms, such as {{'name': tensor}}, "
                    f"got {type(losses).__name__}"
                )
            items = losses if isinstance(losses, Iterator) else iter([losses])
            total = self._backward(items)
        if not self._is_finite(total, optimizer):
            self._skip(moment, total)
            return
        self._skipped_in_a_row = 0
        factor = phase.schedule(moment.fraction, self.clock.phase_fraction())
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
        rate = (self._epoch_images - self._images_at_start) / max(1e-9, now - self._started)
        self.listener.step_ended(phase.name, self.clock.fraction(), rate)
        if self.stop.signal_number is not None:
            self.save()
            raise Stopped
        if now - self._saved_at > max(self.checkpoint_seconds, 50 * self._save_took):
            self.save()

    def _end_epoch(self, phase: Phase) -> None:
        steps = max(1, self._term_steps)
        terms = {name: float(value) / steps for name, value in self._terms.items()}
        now = time.monotonic()
        self.seconds += now - self._started
        end = EpochEnd(
            epoch=self.clock.cursor.total_epochs,
            phase=phase.name,
            learning_rate=self._optimizer(phase.turn_list[0]).rate,
            loss=sum(terms.values()),
            terms=terms,
            given_label_agreement=self.passes.take_agreement(),
            seconds=self.seconds,
            images=self._epoch_images,
        )
        is_last = self.clock.is_last_phase and self.clock.phase_is_over
        self._forget_epoch()
        self.listener.epoch_ended(end, is_last)
        self._started, started = time.monotonic(), now
        self.seconds += self._started - started
        if is_last or self._started - self._saved_at > self.epoch_checkpoint_seconds:
            self.save()

    def _optimizer(self, turn: Turn) -> SGD:
        return self.optimizers.get(turn.optimizer, turn.parameters() if turn.parameters else None)

    def _forget_epoch(self) -> None:
        self._terms = {}
        self._term_steps = 0
        self._epoch_images = self._images_at_start = 0

    # What a step sees

    def _streams(self, phase: Phase) -> dict[str, Stream]:
        unlabelled = np.flatnonzero(without_label(self.problem.noisy_labels))
        rows = {"train": self.problem.train_rows, "unlabelled": unlabelled}
        return {
            name: Stream(
                name,
                draw,
                rows[draw.source],
                self.problem.noisy_labels,
                self.problem.seed,
                self.batch_size,
                leads=number == 0,
            )
            for number, (name, draw) in enumerate(phase.draws.items())
        }

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
            else self.views.view(kind, rows, self.clock.cursor.total_epochs, f"{stream.name}/{position}")
            for position, kind in enumerate(stream.draw.views)
        )
        return Batch(indices, self.noisy_labels[indices], views)

    def _feature_rows(self) -> Rows:
        return self.problem.rows("survey-features", self.method.classifier.num_features, dtype="float32")

    def _feature_view(self, rows: np.ndarray) -> Tensor:
        assert self._features is not None
        return torch.from_numpy(self._features.values[rows]).to(self.device.torch_device)

    def survey(self) -> Survey:
        """The network's view of the whole collection; numbers that are none never reach a method."""
        result = survey(self.method.observe, self.method, self.views, self.problem.num_samples, self.device.autocast)
        for name, values in result.values.items():
            bad = len(values) - int(np.isfinite(values).reshape(len(values), -1).all(axis=1).sum())
            if bad:
                raise _Diverged(f"the network's {name} are not finite in {bad:,} of {len(values):,} images")
        if self._features is not None:
            self._features.replace(result.features)
        return result

    # Numbers that are none

    def _is_finite(self, total: Tensor, optimizer: SGD) -> bool:
        if self.device.torch_device.type != "cpu" and self.clock.cursor.total_steps % 50:
            return True  # reading a number off an accelerator stalls it
        gradients = [p.grad for p in optimizer.parameters() if p.grad is not None]
        norms = torch._foreach_norm(gradients) if gradients else []
        return bool(torch.stack([total, *(norm.float() for norm in norms)]).isfinite().all())

    def _skip(self, moment: Moment, total: Tensor) -> None:
        self._skipped_in_a_row += 1
        self._epoch_skips += 1
        for name in self._terms:
            self._terms[name] = torch.nan_to_num(self._terms[name], nan=0.0, posinf=0.0, neginf=0.0)
        if self._skipped_in_a_row > _SKIPS_IN_A_ROW:
            raise _Diverged(f"loss or gradient not finite in {self._skipped_in_a_row} steps up to step {moment.step}")

    def _judge_skips(self) -> None:
        """An epoch in which every step was skipped taught nothing, however short it was; single skips are told."""
        skips, self._epoch_skips = self._epoch_skips, 0
        if skips and skips >= self._term_steps:
            raise _Diverged(f"loss or gradient not finite in all {skips} steps of an epoch")
        if skips:
            self.listener.went_back(f"{skips} steps of an epoch were left out: loss or gradient not finite")

    def _go_back(self, diverged: _Diverged) -> None:
        rollbacks, rate_scale = self._rollbacks + 1, self._rate_scale / 2
        if rollbacks > _ROLLBACKS:
            raise Diverged(
                f"{diverged}, again after going back {_ROLLBACKS} times with half the rate", self.clock.cursor
            )
        self.load()
        self._rollbacks, self._rate_scale = rollbacks, rate_scale
        self._skipped_in_a_row = self._epoch_skips = 0
        self._started = time.monotonic()
        self.listener.went_back(f"{diverged}; back to the last checkpoint, with half the learning rate")
        self.save()

    # Checkpoints

    def save(self) -> None:
        """Writes a checkpoint of everything that the rest of the run depends on."""
        tensors: dict[str, Tensor] = {}
        now = time.monotonic()
        state = {
            "cursor": asdict(self.clock.cursor),
            "rollbacks": self._rollbacks,
            "rate_scale": self._rate_scale,
            "skipped": self._skipped_in_a_row,
            "seconds": self.seconds + (now - self._started if self.clock.cursor.step else 0.0),
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
        self.clock.cursor = Cursor(**state["cursor"])
        self._rollbacks, self._rate_scale = state["rollbacks"], state["rate_scale"]
        self._skipped_in_a_row = state["skipped"]
        self.seconds = state["seconds"]
        self._term_steps = state["term_steps"]
        self._epoch_images = self._images_at_start = state["epoch_images"]
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
        for phase in self.plan[: self.clock.cursor.phase + 1]:
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
