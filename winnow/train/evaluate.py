"""Accuracy on images with known labels, and the recorder of a run's epochs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np

from winnow.data.views import Views
from winnow.functional.task import mean_average_precision, task_of
from winnow.methods.base import Method
from winnow.survey import Survey
from winnow.survey.passes import survey
from winnow.train.loggers import Logger
from winnow.train.progress import Progress
from winnow.train.run_folder import RunFolder
from winnow.train.trainer import EpochEnd


def predicted(method: Method, views: Views, autocast: Callable[[], AbstractContextManager]) -> Survey:
    """What the deployed networks say of all images."""
    return survey(lambda images: {"probs": method.predict(images)}, method, views, len(views.pixels), autocast)


class TestSet:
    """Images with true labels that were never trained on.

    Args:
        views: of the images.
        labels: class indices (N,), none missing; or 1, 0, -1 for each class, (N, K).
        autocast: the precision to run in.
    """

    __test__ = False

    def __init__(self, views: Views, labels: np.ndarray, autocast: Callable[[], AbstractContextManager]):
        self.views = views
        self.labels = labels
        self.autocast = autocast
        self.task = task_of(labels)
        self.latest: np.ndarray | None = None
        """What `probs` gave last; None before."""

    def probs(self, method: Method) -> np.ndarray:
        """Class probabilities, (N, K)."""
        self.latest = predicted(method, self.views, self.autocast).probs
        return self.latest

    def accuracy(self, probs: np.ndarray) -> float:
        """Share of known labels (cells) that are decided right."""
        return float((self.task.decided(probs) == self.labels)[self.labels >= 0].mean())

    def measures(self, method: Method) -> dict[str, float | None]:
        """The numbers of an epoch's line, by name."""
        probs = self.probs(method)
        measured: dict[str, float | None] = {"test_accuracy": self.accuracy(probs)}
        if self.labels.ndim == 2:
            measured["test_mean_average_precision"] = number_or_none(mean_average_precision(probs, self.labels))
        return measured


class Recorder:
    """Measures, writes and tells each epoch; the trainer's listener.

    The test set is looked at after every epoch where it is small beside the training set, else every second epoch or
    so, and always after the last.

    Args:
        method: what is trained.
        folder: where `metrics.jsonl` goes.
        progress: who is told.
        epochs: of the run.
        num_train: images trained on.
        test: the test set, if there is one.
        held_out: views and given labels of held-out images, if any.
        loggers: hear of the epochs, too.
    """

    def __init__(
        self,
        method: Method,
        folder: RunFolder,
        progress: Progress,
        *,
        epochs: int,
        num_train: int,
        test: TestSet | None,
        held_out: Callable[[], float] | None,
        loggers: Sequence[Logger] = (),
    ):
        self.method = method
        self.folder = folder
        self.progress = progress
        self.epochs = epochs
        self.test = test
        self.held_out = held_out
        self.loggers = loggers
        self.lines: list[dict[str, Any]] = []
        self.seconds = 0.0
        share = len(test.labels) / max(1, num_train) if test else 0.0
        self._every = max(1, min(round(2 * share), epochs // 10))

    def epoch_ended(self, end: EpochEnd, is_last: bool) -> None:
        """Measures what is due and writes the epoch's line."""
        due = is_last or end.epoch % self._every == 0
        started = time.monotonic()
        validation = self.held_out() if self.held_out and due else None
        tested = self.test.measures(self.method) if self.test and due else {"test_accuracy": None}
        self.seconds += time.monotonic() - started
        previous = self.lines[-1]["seconds"] if self.lines else 0.0
        self.lines.append(
            {
                "epoch": end.epoch,
                "phase": end.phase,
                "learning_rate": end.learning_rate,
                "loss": end.loss,
                "terms": dict(end.terms),
                "given_label_agreement": number_or_none(end.given_label_agreement),
                "validation_agreement": validation,
                **tested,
                "seconds": end.seconds,
                "images_per_second": end.images / max(1e-9, end.seconds - previous),
                "log": self.method.log_values(),
            }
        )
        self.folder.append_metrics(self.lines[-1])
        self.progress.epoch(self.lines[-1])
        for logger in self.loggers:
            logger.epoch(self.lines[-1])

    def step_ended(self, phase: str, fraction: float, images_per_second: float) -> None:
        """Passes the progress on."""
        known = [line for line in self.lines if line["test_accuracy"] is not None]
        line = self.lines[-1] if self.lines else {}
        self.progress.training(
            phase=phase,
            epoch=min(self.epochs, len(self.lines) + 1),
            epochs=self.epochs,
            fraction=fraction,
            images_per_second=images_per_second,
            last={
                "loss": line.get("loss"),
                "given": line.get("given_label_agreement"),
                "test": known[-1]["test_accuracy"] if known else None,
            },
        )

    def went_back(self, reason: str) -> None:
        """Tells it."""
        self.progress.warning(reason)

    def warned(self, text: str) -> None:
        """Tells it."""
        self.progress.warning(text)

    def state(self) -> dict[str, Any]:
        """The epochs so far, and the seconds spent on looking at images kept from training."""
        return {"lines": self.lines, "seconds": self.seconds}

    def load_state(self, state: dict[str, Any]) -> None:
        """Goes back to some epochs; the file follows."""
        self.lines, self.seconds = state["lines"], state["seconds"]
        self.folder.write_metrics(self.lines)

    def best(self) -> dict[str, Any] | None:
        """The epoch whose held-out images agree most with their noisy labels; the earliest of equals."""
        judged = [line for line in self.lines if line["validation_agreement"] is not None]
        return max(judged, key=lambda line: line["validation_agreement"], default=None)


def number_or_none(value: float) -> float | None:
    """For JSON, which knows no NaN."""
    return None if np.isnan(value) else float(value)
