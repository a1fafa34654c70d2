"""One training from a source to a finished run folder, step by step."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow import __version__
from winnow.data.collection import Collection, load, write_quarantine
from winnow.data.pixels import Backing
from winnow.data.source import Source
from winnow.data.views import Preprocessing, Views
from winnow.errors import InputError, Interrupted
from winnow.labels.memory import Memory
from winnow.labels.table import write_table
from winnow.methods import build, find_method, hyperparameters, parsed_hyperparameters
from winnow.methods.base import Method, Problem
from winnow.models import ModelSpec, Network, default_model, network_class
from winnow.models.frozen import FrozenSpec
from winnow.models.weights import Weights
from winnow.train.checkpoint import Checkpoints
from winnow.train.device import Device
from winnow.train.evaluate import Recorder, TestSet, predicted
from winnow.train.examples import Examples, read_test_set, views_of
from winnow.train.frozen import feature_views, head_learning_rate
from winnow.train.interrupt import stop_on_signals
from winnow.train.loggers import Logger
from winnow.train.outcome import summarised, tabled
from winnow.train.predictor import save_predictor
from winnow.train.progress import Progress
from winnow.train.record import Stages, config_record, keep_config
from winnow.train.run_folder import RunFolder
from winnow.train.settings import FEW_STEPS, Settings, check_needs, check_task, default_method
from winnow.train.starting import normalised, tell_weights
from winnow.train.trainer import Diverged, Stopped, Trainer


class Session:
    """One training, step by step; an object only so that the steps can be read one by one."""

    def __init__(
        self,
        source: Source,
        settings: Settings,
        folder: RunFolder,
        test: Source | None,
        progress: Progress,
        command: str,
        data_settings: dict[str, Any],
        loggers: Sequence[Logger] = (),
    ):
        self.source = source
        self.settings = settings = replace(settings, method=settings.method or default_method(source))
        self.folder = folder
        self.test_source = test or (source.test() if source.test else None)
        self.progress = progress
        self.command = command
        self.data_settings = data_settings
        self.loggers = loggers
        self._refuse_output_in_data()
        self.method_class = find_method(str(settings.method))
        self.hyperparameters = parsed_hyperparameters(self.method_class, settings.hyperparameters or {})
        self.stages = Stages()
        self.weights: Weights | None = None

    def run(self, resume: bool) -> dict[str, Any]:
        """Trains, or goes on, and gives the content of `summary.json`."""
        if resume and self.folder.is_finished:
            self.progress.understood("Done", f"{self.folder.path} is finished, nothing to do")
            return self.folder.read_summary()
        if self.settings.model is not None and self.settings.image_size is None:
            self.settings = replace(self.settings, image_size=network_class(self.settings.model).own_size)
        if self.settings.weights is not None:
            self.weights = Weights.read(Path(self.settings.weights)).of_classes(self.source.class_names)
        device = self._device(resume)
        torch.set_num_threads(device.threads)
        check_task(self.method_class, self.source)
        with self.stages("reading"):
            collection = load(
                self.source,
                size=self.settings.image_size,
                backing=self._backing(),
                progress=lambda done, total: self.progress.stage("reading", done, total),
            )
        examples = Examples(self.source, collection)
        labels = examples.labels
        examples.tell(self.progress)
        train_rows, held_out_rows = examples.divided(
            self.settings.validation, self.settings.seed, hold_out=self.test_source is not None
        )
        preprocessing = normalised(
            Preprocessing.of(collection.pixels, examples.mirror), self.weights, self.settings.model, self.progress
        )
        views = views_of(collection.pixels, preprocessing, self.settings.seed, device)
        settings = self._resolved(preprocessing, len(train_rows), device)
        checkpoint_folder = self.folder.checkpoints
        if not any(entry.name.isdigit() for entry in checkpoint_folder.iterdir()):
            self.folder.forget_memory()
        memory = Memory(len(labels), self.folder.memory)
        spec = ModelSpec(
            str(settings.model),
            preprocessing.size,
            preprocessing.channels,
            self.source.num_classes,
            _sample(views),
            self.weights,
        )
        if settings.freeze:
            spec = FrozenSpec.of(spec, settings.seed)
        problem = Problem(
            self.source.class_names,
            labels,
            train_rows,
            held_out_rows,
            spec,
            settings.seed,
            memory,
            examples.verified,
        )
        method = build(self.method_class, problem, self.hyperparameters)
        check_needs(method, self.source)
        method.to(device.torch_device).to(memory_format=torch.channels_last)
        test = self._test_set(preprocessing, device)
        if self.weights is not None:
            network = spec.body if isinstance(spec, FrozenSpec) else method.classifier
            tell_weights(self.weights, network, self.progress)
        if isinstance(spec, FrozenSpec):
            with self.stages("features"):
                views, test, settings = self._as_features(spec.body, views, test, settings, device)
        # From here on the folder holds a run; whatever was wrong with the input has been said by now.
        config = config_record(
            self.command, self.source.address, self.data_settings, settings, device, self._all_hyperparameters()
        )
        self.command = keep_config(self.folder, config)
        for logger in self.loggers:
            logger.started(config)
        write_quarantine(self.folder.path / "quarantine.parquet", collection.quarantined)
        recorder = Recorder(
            method,
            self.folder,
            self.progress,
            epochs=int(settings.epochs or 0),
            num_train=len(train_rows),
            test=test,
            held_out=self._held_out(method, views, labels, held_out_rows, device),
            loggers=self.loggers,
        )
        identity = {"data": examples.fingerprint()}
        if self.weights is not None:
            identity["weights"] = self.weights.digest
        checkpoints = Checkpoints(checkpoint_folder, memory, identity)
        with stop_on_signals() as stop:
            trainer = Trainer(
                method,
                problem,
                views,
                device,
                epochs=int(settings.epochs or 0),
                batch_size=int(settings.batch_size or 0),
                learning_rate=float(settings.learning_rate or 0),
                checkpoints=checkpoints,
                listener=recorder,
                stop=stop,
            )
            self._tell_left_out(trainer.left_out, int(settings.epochs or 0))
            self._train(trainer, resume, recorder, int(settings.epochs or 0), stop)
        return self._finish(trainer, recorder, collection, test, settings, device)

    # Before training

    def _device(self, resume: bool) -> Device:
        device = Device.choose(self.settings.device, self.settings.precision, self.settings.threads)
        config = self.folder.read_config() if resume else None
        if config is not None:
            # The same bits hold for one count of threads and one precision only.
            train = config["train"]
            device = replace(device, threads=train["threads"], precision=train["precision"])
        return device

    def _refuse_output_in_data(self) -> None:
        data = Path(self.source.address)
        if data.is_dir() and self.folder.path.resolve().is_relative_to(data.resolve()):
            raise InputError(f"{self.folder.path} lies inside {data}: it would become a class; name another --out")

    def _backing(self) -> Backing:
        return Backing(True if self.settings.stream else None, self.folder.path)

    def _resolved(self, preprocessing: Preprocessing, num_train: int, device: Device) -> Settings:
        given = self.settings
        model = given.model or default_model(preprocessing.size, device.torch_device.type)
        batch = given.batch_size or (64 if num_train <= 20_000 else 128)
        # At least 1,500 steps, but no more than 100 epochs: a small collection needs more passes.
        epochs = given.epochs or min(100, max(20, math.ceil(1500 / max(1, num_train // batch))))
        channels, classes = preprocessing.channels, self.source.num_classes
        spec = ModelSpec(model, preprocessing.size, channels, classes, weights=self.weights)
        # With the batch, but no further than there are images to fill one.
        rate = given.learning_rate or spec.learning_rate * min(batch, max(64, num_train)) / 64
        resolved = replace(given, model=model, batch_size=batch, epochs=epochs, learning_rate=rate)
        self.progress.understood(
            "Plan",
            f"{given.method}, {model} {preprocessing.size} px, {device}, seed {given.seed}; {epochs} epochs of "
            f"{num_train:,} images in batches of {min(batch, num_train)}",
        )
        if (steps := epochs * max(1, num_train // batch)) < FEW_STEPS:
            self.progress.warning(f"only {steps} steps of training: too few to judge labels; try more --epochs")
        return resolved

    def _as_features(
        self, body: Network, views: Views, test: TestSet | None, settings: Settings, device: Device
    ) -> tuple[Views, TestSet | None, Settings]:
        """One pass of a fixed body; its features take the images' place."""
        body.to(device.torch_device).to(memory_format=torch.channels_last)
        self.progress.understood("Frozen", f"{body.num_features} features an image, computed once; every view the same")
        found = feature_views(body, views, device, self.progress, "features")
        if test is not None:
            test.views = feature_views(body, test.views, device, self.progress, "features of the test set")
        recorded = (self.folder.read_config() or {"train": {}})["train"].get("learning_rate")
        rate = self.settings.learning_rate or recorded or head_learning_rate(found, body.logit_scale)
        return found, test, replace(settings, learning_rate=rate)

    def _all_hyperparameters(self) -> dict[str, Any]:
        defaults = {name: p.default for name, p in hyperparameters(self.method_class).items()}
        return {**defaults, **self.hyperparameters}

    def _test_set(self, preprocessing: Preprocessing, device: Device) -> TestSet | None:
        if self.test_source is None:
            return None
        with self.stages("reading the test set"):
            return read_test_set(
                self.test_source,
                self.source,
                preprocessing,
                self.settings.seed,
                device,
                self._backing(),
                self.progress,
            )

    @staticmethod
    def _held_out(method: Method, views: Views, labels: np.ndarray, rows: np.ndarray, device: Device) -> Any:
        if not len(rows):
            return None
        held_out = TestSet(views.part(rows), labels[rows], device.autocast)
        return lambda: held_out.accuracy(held_out.probs(method))

    def _tell_left_out(self, phases: Sequence[str], epochs: int) -> None:
        if phases:
            number = "1 epoch" if epochs == 1 else f"{epochs} epochs"
            named = ", ".join(repr(name) for name in phases)
            self.progress.warning(
                f"only {number}: {self.settings.method} has no time for its phase {named}; try more --epochs"
            )

    # Training

    def _train(self, trainer: Trainer, resume: bool, recorder: Recorder, epochs: int, stop: Any) -> None:
        try:
            trainer.run(resume)
        except Stopped:
            epoch = len(recorder.lines)
            raise Interrupted(
                f"Stopped at epoch {min(epoch + 1, epochs)} of {epochs}, saved. "
                f"Go on: winnow train --resume {self.folder.path}",
                stop.signal_number,
            ) from None
        except Diverged as error:
            self.folder.write_json("diagnosis.json", {**error.details, "epochs": recorder.lines[-3:]})
            raise InputError(f"{error}; details in {self.folder.path / 'diagnosis.json'}") from error

    # After training

    def _finish(
        self,
        trainer: Trainer,
        recorder: Recorder,
        collection: Collection,
        test: TestSet | None,
        settings: Settings,
        device: Device,
    ) -> dict[str, Any]:
        method, problem = trainer.method, trainer.problem
        self.stages.seconds |= {"training": trainer.seconds, "of that evaluation": recorder.seconds}
        with self.stages("judging labels"):
            last_view = predicted(method, trainer.views, device.autocast)
            beliefs, table = tabled(method, trainer.passes, last_view, self.source, collection)
            write_table(table, self.folder.path / "labels.parquet")
            save_predictor(self.folder, method, problem, trainer.views.preprocessing, self.source)
        summary = {
            "schema_version": 1,
            "command": self.command,
            "version": __version__,
            "run": str(self.folder.path),
            **summarised(method, recorder, beliefs, self.source, collection, problem, test, self.test_source),
            "epochs": settings.epochs,
            "steps": trainer.clock.cursor.total_steps,
            "seed": settings.seed,
            "model": settings.model,
            "image_size": trainer.views.preprocessing.size,
            "device": str(device.torch_device),
            "precision": device.precision,
            "threads": device.threads,
            "seconds": round(trainer.seconds, 3),
            "images_per_second": round(_rate(recorder), 1),
            "stage_seconds": {name: round(took, 3) for name, took in self.stages.seconds.items()},
            "peak_memory_bytes": _peak_memory(),
            "hyperparameters": self._all_hyperparameters(),
            "settings": {
                "batch_size": settings.batch_size,
                "learning_rate": settings.learning_rate,
                "weights": settings.weights,
                "freeze": settings.freeze,
                "validation": settings.validation,
                **{key: value for key, value in self.data_settings.items() if value is not None},
            },
        }
        self.folder.write_summary(summary)
        for logger in self.loggers:
            logger.finished(summary)
        return summary


def _sample(views: Views) -> torch.Tensor:
    rows = np.arange(0, len(views.pixels), max(1, len(views.pixels) // 1000))[:1000]
    return views.view("plain", rows, 0, "whitening").cpu()


def _rate(recorder: Recorder) -> float:
    return float(np.median([line["images_per_second"] for line in recorder.lines])) if recorder.lines else 0.0


def _peak_memory() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
