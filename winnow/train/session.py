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
from winnow.data.decode import decoder
from winnow.data.pixels import Backing, Pixels, blocks
from winnow.data.places import absolute
from winnow.data.randomness import permutation, stream_key
from winnow.data.source import Source, without_label
from winnow.data.views import Preprocessing, Views, on_device
from winnow.errors import InputError, Interrupted, UsageError
from winnow.labels.memory import Memory
from winnow.labels.table import write_labels
from winnow.methods import METHODS, build, find_method, hyperparameters, parsed_hyperparameters
from winnow.methods.base import Method, Need, Problem
from winnow.models import ModelSpec, Network, default_model, network_class
from winnow.models.frozen import FrozenSpec
from winnow.models.weights import Weights
from winnow.survey.passes import survey
from winnow.train.checkpoint import Checkpoints
from winnow.train.device import Device
from winnow.train.evaluate import Recorder, TestSet
from winnow.train.frozen import feature_views, head_learning_rate
from winnow.train.interrupt import stop_on_signals
from winnow.train.outcome import summarised, tabled
from winnow.train.predictor import save_predictor
from winnow.train.progress import Progress
from winnow.train.run_folder import RunFolder
from winnow.train.settings import Settings, default_method
from winnow.train.starting import normalised, tell_weights
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
        self.settings = settings = replace(settings, method=settings.method or default_method(source))
        self.folder = folder
        self.test_source = test or (source.test() if source.test else None)
        self.progress = progress
        self.command = command
        self.data_settings = data_settings
        self._refuse_output_in_data()
        self.method_class = find_method(str(settings.method))
        self.hyperparameters = parsed_hyperparameters(self.method_class, settings.hyperparameters or {})
        self.image_size = settings.image_size
        self.weights: Weights | None = None

    def run(self, resume: bool) -> dict[str, Any]:
        """Trains, or goes on, and gives the content of `summary.json`."""
        if resume and self.folder.is_finished:
            self.progress.understood("Done", f"{self.folder.path} is finished, nothing to do")
            return self.folder.read_summary()
        if self.settings.model is not None:
            self.image_size = self.image_size or network_class(self.settings.model).own_size
        if self.settings.weights is not None:
            self.weights = Weights.read(Path(self.settings.weights)).of_classes(self.source.class_names)
        device = self._device(resume)
        torch.set_num_threads(device.threads)
        collection = load(
            self.source,
            size=self.image_size,
            backing=self._backing(),
            progress=lambda done, total: self.progress.stage("reading", done, total),
        )
        labels = self.source.noisy_labels[collection.rows]
        self._tell_data(collection, labels)
        self._check_task()
        train_rows, held_out_rows = self._divided(labels)
        preprocessing = normalised(
            Preprocessing.of(collection.pixels, self._mirror(collection)),
            self.weights,
            self.settings.model,
            self.progress,
        )
        views = self._views(collection.pixels, preprocessing, device)
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
            self._verified(collection),
        )
        method = build(self.method_class, problem, self.hyperparameters)
        self._check_needs(method, labels)
        method.to(device.torch_device).to(memory_format=torch.channels_last)
        test = self._test_set(preprocessing, device)
        if self.weights is not None:
            network = spec.body if isinstance(spec, FrozenSpec) else method.classifier
            tell_weights(self.weights, network, self.progress)
        if isinstance(spec, FrozenSpec):
            views, test, settings = self._as_features(spec.body, views, test, settings, device)
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
        identity = {"data": _fingerprint(self.source, collection)}
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
        if self.source.is_multilabel:
            parts.append(f"{(labels == 1).sum() / max(1, len(labels)):.1f} classes an image")
            if (share := float((labels < 0).mean())) > 0:
                parts.append(f"{100 * share:.1f} % of the labels unknown")
        if (missing := int(without_label(labels).sum())) > 0:
            parts.append(f"{missing:,} without a label")
        if (verified := len(self._verified(collection))) > 0:
            parts.append(f"{verified:,} verified")
        self.progress.understood("Data", "; ".join(parts))
        for note in (*self.source.notes, *collection.notes):
            self.progress.understood("Note", note)
        if len(np.unique(labels[labels >= 0])) == 1:
            same = "every known label is the same" if self.source.is_multilabel else "all labels are of one class"
            self.progress.warning(f"{same}: there is nothing to tell apart")

    def _divided(self, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labelled = np.flatnonzero(~without_label(labels))
        if not len(labelled):
            raise InputError(f"{self.source.address}: none of its {len(labels):,} readable images has a label")
        wanted = min(MAX_HELD_OUT, math.floor(self.settings.validation * len(labelled)))
        if self.test_source is None or wanted < 10:
            return labelled, labelled[:0]
        order = permutation(stream_key(self.settings.seed, "held out"), labelled)
        return np.sort(order[wanted:]), np.sort(order[:wanted])

    def _verified(self, collection: Collection) -> np.ndarray:
        """Rows of the collection whose given label a person has checked."""
        verified = self.source.verified
        return np.flatnonzero(verified[collection.rows]) if verified is not None else np.empty(0, dtype=np.int64)

    def _check_task(self) -> None:
        if self.source.is_multilabel and not self.method_class.multilabel:
            able = ", ".join(name for name, method in METHODS.items() if method.multilabel)
            raise UsageError(
                f"--method {self.settings.method} needs one class an image, {self.source.address} has several; "
                f"these learn from several: {able}"
            )

    def _backing(self) -> Backing:
        return Backing(True if self.settings.stream else None, self.folder.path)

    def _views(self, pixels: Pixels, preprocessing: Preprocessing, device: Device) -> Views:
        place = device.torch_device
        return Views(on_device(pixels, place), preprocessing, self.settings.seed, place)

    def _mirror(self, collection: Collection) -> bool:
        if self.source.mirror is not None:
            return self.source.mirror
        return collection.pixels.shape[3] == 3

    def _resolved(self, preprocessing: Preprocessing, num_train: int, device: Device) -> Settings:
        given = self.settings
        model = given.model or default_model(preprocessing.size, device.torch_device.type)
        batch = given.batch_size or (64 if num_train <= 20_000 else 128)
        # At least 1,500 steps, but no more than 100 epochs: a small collection needs more passes.
        epochs = given.epochs or min(100, max(20, math.ceil(1500 / max(1, num_train // batch))))
        channels, classes = preprocessing.channels, self.source.num_classes
        spec = ModelSpec(model, preprocessing.size, channels, classes, weights=self.weights)
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

    def _keep_config(self, settings: Settings, device: Device) -> None:
        config: dict[str, Any] = {
            "schema_version": 1,
            "version": __version__,
            "command": self.command,
            "decoder": decoder(),
            "data": {"address": absolute(self.source.address), **self.data_settings},
            "train": {
                "method": settings.method,
                "model": settings.model,
                "weights": absolute(settings.weights) if settings.weights else None,
                "freeze": settings.freeze or None,
                "image_size": self.image_size,
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
            config["data"]["test"] = absolute(self.data_settings["test"])
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
        here = {
            Need.UNLABELLED: bool(without_label(labels).any()),
            Need.VERIFIED: self.source.verified is not None and bool(self.source.verified.any()),
        }
        missing = [need for need in method.needs if not here.get(need)]
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
            channels=preprocessing.channels,
            backing=self._backing(),
            progress=lambda done, total: self.progress.stage("reading the test set", done, total),
        )
        labels = source.noisy_labels[collection.rows]
        labelled = ~without_label(labels)
        if collection.quarantined:
            self.progress.warning(f"{len(collection.quarantined):,} unreadable test images are left out")
        if not labelled.any():
            raise InputError(f"{source.address}: no test image has a label")
        views = self._views(collection.pixels, preprocessing, device)
        if not labelled.all():
            views = views.part(np.flatnonzero(labelled))
        return TestSet(views, labels[labelled], device.autocast)

    @staticmethod
    def _held_out(method: Method, views: Views, labels: np.ndarray, rows: np.ndarray, device: Device) -> Any:
        if not len(rows):
            return None
        held_out = TestSet(views.part(rows), labels[rows], device.autocast)
        return lambda: held_out.accuracy(held_out.probs(method))

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
                "weights": settings.weights,
                "freeze": settings.freeze,
                "validation": settings.validation,
                **{key: value for key, value in self.data_settings.items() if value is not None},
            },
        }
        self.folder.write_summary(summary)
        return summary


def _sample(views: Views) -> torch.Tensor:
    rows = np.arange(0, len(views.pixels), max(1, len(views.pixels) // 1000))[:1000]
    return views.view("plain", rows, 0, "whitening").cpu()


def _fingerprint(source: Source, collection: Collection) -> str:
    digest = blake2b(digest_size=16)
    digest.update("\n".join([*source.class_names, *source.ids]).encode("utf-8", "surrogateescape"))
    digest.update(source.noisy_labels.tobytes())
    checksum = 0
    for block in blocks(collection.pixels):
        checksum = zlib.crc32(np.ascontiguousarray(block).data, checksum)
    digest.update(checksum.to_bytes(4, "little"))
    return digest.hexdigest()


def _rate(recorder: Recorder) -> float:
    return float(np.median([line["images_per_second"] for line in recorder.lines])) if recorder.lines else 0.0


def _peak_memory() -> int:
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
