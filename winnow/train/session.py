"""One training from a source to a finished run folder, step by step."""

from __future__ import annotations

import math
import sys
import zlib
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import torch

from winnow import __version__
from winnow.data.collection import Collection, load, write_quarantine
from winnow.data.randomness import permutation, stream_key
from winnow.data.source import Source
from winnow.data.views import Preprocessing, Views
from winnow.errors import InputError, Interrupted, UsageError
from winnow.labels.memory import Memory
from winnow.labels.table import write_labels
from winnow.methods import build, find_method, hyperparameters, parsed_hyperparameters
from winnow.methods.base import Method, Need, Problem
from winnow.models import ModelSpec, default_model
from winnow.survey.passes import survey
from winnow.train.checkpoint import Checkpoints
from winnow.train.device import Device
from winnow.train.evaluate import Recorder, TestSet
from winnow.train.interrupt import stop_on_signals
from winnow.train.outcome import summarised, tabled
from winnow.train.predictor import save_predictor, with_channels
from winnow.train.progress import Progress
from winnow.train.run_folder import RunFolder
from winnow.train.settings import Settings
from winnow.train.trainer import Diverged, Stopped, Trainer

MAX_HELD_OUT = 1000
_FEW_STEPS = 100


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
    ):
        self.source = source
        self.settings = settings
        self.folder = folder
        self.test_source = test or (source.test() if source.test else None)
        self.progress = progress
        self.command = command
        self.data_settings = data_settings
        self._refuse_output_in_data()
        self.method_class = find_method(settings.method)
        self.hyperparameters = parsed_hyperparameters(self.method_class, settings.hyperparameters or {})

    def run(self, resume: bool) -> dict[str, Any]:
        """Trains, or goes on, and gives the content of `summary.json`."""
        if resume and self.folder.is_finished:
            self.progress.understood("Done", f"{self.folder.path} is finished, nothing to do")
            return self.folder.read_summary()
        device = self._device(resume)
        torch.set_num_threads(device.threads)
        collection = load(self.source, progress=lambda done, total: self.progress.stage("reading", done, total))
        labels = self.source.noisy_labels[collection.rows]
        self._tell_data(collection, labels)
        train_rows, held_out_rows = self._divided(labels)
        preprocessing = Preprocessing.of(collection.images, self._mirror(collection))
        views = Views(torch.from_numpy(collection.images).to(device.torch_device), preprocessing, self.settings.seed)
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
        )
        problem = Problem(self.source.class_names, labels, train_rows, held_out_rows, spec, settings.seed, memory)
        method = build(self.method_class, problem, self.hyperparameters)
        self._check_needs(method, labels)
        method.to(device.torch_device).to(memory_format=torch.channels_last)
        test = self._test_set(preprocessing, device)
        # From here on the folder holds a run; whatever was wrong with the input has been said by now.
        self._keep_config(settings, device)
        write_quarantine(self.folder.path / "quarantine.parquet", collection.quarantined)
        recorder = Recorder(
            method,
            self.folder,
            self.progress,
            epochs=int(settings.epochs or 0),
            num_train=len(train_rows),
            test=test,
            held_out=self._held_out(method, views, labels, held_out_rows, device),
        )
        checkpoints = Checkpoints(checkpoint_folder, memory, {"data": _fingerprint(self.source, collection)})
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

    def _tell_data(self, collection: Collection, labels: np.ndarray) -> None:
        parts = [f"{len(collection.rows):,} images, {self.source.num_classes} classes"]
        if collection.quarantined:
            parts.append(f"{len(collection.quarantined):,} unreadable set aside (quarantine.parquet)")
        if (missing := int((labels < 0).sum())) > 0:
            parts.append(f"{missing:,} without a label")
        self.progress.understood("Data", "; ".join(parts))
        for note in (*self.source.notes, *collection.notes):
            self.progress.understood("Note", note)
        if len(np.unique(labels[labels >= 0])) == 1:
            self.progress.warning("all labels are of one class: there is nothing to tell apart")

    def _divided(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labelled = np.flatnonzero(labels >= 0)
        if not len(labelled):
            raise InputError(f"{self.source.address}: none of its {len(labels):,} readable images has a label")
        wanted = min(MAX_HELD_OUT, math.floor(self.settings.validation * len(labelled)))
        if self.test_source is None or wanted < 10:
            return labelled, labelled[:0]
        order = permutation(stream_key(self.settings.seed, "held out"), labelled)
        return np.sort(order[wanted:]), np.sort(order[:wanted])

    def _mirror(self, collection: Collection) -> bool:
        if self.source.mirror is not None:
            return self.source.mirror
        return collection.images.shape[3] == 3

    def _resolved(self, preprocessing: Preprocessing, num_train: int, device: Device) -> Settings:
        given = self.settings
        model = given.model or default_model(preprocessing.size, device.torch_device.type)
        batch = given.batch_size or (64 if num_train <= 20_000 else 128)
        # At least 1,500 steps, but no more than 100 epochs: a small collection needs more passes.
        epochs = given.epochs or min(100, max(20, math.ceil(1500 / max(1, num_train // batch))))
        spec = ModelSpec(model, preprocessing.size, preprocessing.channels, self.source.num_classes)
        rate = given.learning_rate or spec.learning_rate * batch / 64
        resolved = replace(given, model=model, batch_size=batch, epochs=epochs, learning_rate=rate)
        self.progress.understood(
            "Plan",
            f"{given.method}, {model} {preprocessing.size} px, {device}, seed {given.seed}; {epochs} epochs of "
            f"{num_train:,} images in batches of {min(batch, num_train)}",
        )
        if (steps := epochs * max(1, num_train // batch)) < _FEW_STEPS:
            self.progress.warning(f"only {steps} steps of training: too few to judge labels; try more --epochs")
        return resolved

    def _keep_config(self, settings: Settings, device: Device) -> None:
        config: dict[str, Any] = {
            "schema_version": 1,
            "version": __version__,
            "command": self.command,
            "data": {"address": _absolute(self.source.address), **self.data_settings},
            "train": {
                "method": settings.method,
                "model": settings.model,
                "epochs": settings.epochs,
                "batch_size": settings.batch_size,
                "learning_rate": settings.learning_rate,
                "seed": settings.seed,
                "validation": settings.validation,
                "device": str(device.torch_device),
                "precision": device.precision,
                "threads": device.threads,
            },
            "hyperparameters": self._all_hyperparameters(),
        }
        if self.data_settings.get("test"):
            config["data"]["test"] = _absolute(self.data_settings["test"])
        there = self.folder.read_config()
        if there is None:
            self.folder.write_config(config)
            return
        self.command = there.get("command", self.command)
        for table in ("train", "hyperparameters"):
            for key, value in config[table].items():
                if (before := there.get(table, {}).get(key)) != value and value is not None:
                    raise InputError(
                        f"{self.folder.path}: made with {key} = {before}, not {value}; "
                        "resume with the same settings, or train anew with --force"
                    )

    def _all_hyperparameters(self) -> dict[str, Any]:
        defaults = {name: p.default for name, p in hyperparameters(self.method_class).items()}
        return {**defaults, **self.hyperparameters}

    def _check_needs(self, method: Method, labels: np.ndarray) -> None:
        missing = [need for need in method.needs if not (need is Need.UNLABELLED and (labels < 0).any())]
        if missing:
            wants = " and ".join(need.value for need in missing)
            raise UsageError(f"--method {self.settings.method} needs {wants}; {self.source.address} has none")

    def _test_set(self, preprocessing: Preprocessing, device: Device) -> TestSet | None:
        source = self.test_source
        if source is None:
            return None
        if source.class_names != self.source.class_names:
            raise InputError(f"{source.address}: the test set's classes are not those of {self.source.address}")
        collection = load(
            source,
            size=preprocessing.size,
            progress=lambda done, total: self.progress.stage("reading the test set", done, total),
        )
        labels = source.noisy_labels[collection.rows]
        images = with_channels(collection.images, preprocessing.channels)[labels >= 0]
        if collection.quarantined:
            self.progress.warning(f"{len(collection.quarantined):,} unreadable test images are left out")
        if not len(images):
            raise InputError(f"{source.address}: no test image has a label")
        views = Views(torch.from_numpy(images).to(device.torch_device), preprocessing, self.settings.seed)
        return TestSet(views, labels[labels >= 0], device.autocast)

    @staticmethod
    def _held_out(method: Method, views: Views, labels: np.ndarray, rows: np.ndarray, device: Device) -> Any:
        if not len(rows):
            return None
        pixels = views.pixels[torch.from_numpy(rows).to(views.pixels.device)]
        held_out = TestSet(replace(views, pixels=pixels), labels[rows], device.autocast)
        return lambda: held_out.accuracy(method)

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
        last_view = survey(
            lambda images: {"probs": method.predict(images)},
            method,
            trainer.views,
            problem.num_samples,
            device.autocast,
        )
        beliefs, table = tabled(method, trainer.passes, last_view, self.source, collection)
        write_labels(table, self.folder.path / "labels.parquet")
        save_predictor(self.folder, method, problem, trainer.views.preprocessing, self.source)
        summary = {
            "schema_version": 1,
            "command": self.command,
            "version": __version__,
            "run": str(self.folder.path),
            **summarised(method, recorder, beliefs, table, self.source, collection, problem, test, self.test_source),
            "epochs": settings.epochs,
            "seed": settings.seed,
            "model": settings.model,
            "image_size": trainer.views.preprocessing.size,
            "device": str(device.torch_device),
            "precision": device.precision,
            "threads": device.threads,
            "seconds": round(trainer.seconds, 3),
            "images_per_second": round(_rate(recorder), 1),
            "peak_memory_bytes": _peak_memory(),
            "hyperparameters": self._all_hyperparameters(),
            "settings": {
                "batch_size": settings.batch_size,
                "learning_rate": settings.learning_rate,
                "validation": settings.validation,
                **{key: value for key, value in self.data_settings.items() if value is not None},
            },
        }
        self.folder.write_summary(summary)
        return summary


def _absolute(address: str) -> str:
    """A path as it is reached from any folder; other addresses as they are."""
    return str(Path(address).resolve()) if Path(address).exists() else address


def _sample(views: Views) -> torch.Tensor:
    rows = np.arange(0, len(views.pixels), max(1, len(views.pixels) // 1000))[:1000]
    return views.view("plain", rows, 0, "whitening").cpu()


def _fingerprint(source: Source, collection: Collection) -> str:
    digest = blake2b(digest_size=16)
    digest.update("\n".join([*source.class_names, *source.ids]).encode("utf-8", "surrogateescape"))
    digest.update(source.noisy_labels.tobytes())
    digest.update(zlib.crc32(np.ascontiguousarray(collection.images).data).to_bytes(4, "little"))
    return digest.hexdigest()


def _rate(recorder: Recorder) -> float:
    return float(np.median([line["images_per_second"] for line in recorder.lines])) if recorder.lines else 0.0


def _peak_memory() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
