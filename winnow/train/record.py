"""How a run was made, written down so that it can be repeated and resumed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from winnow import __version__
from winnow.data.decode import decoder
from winnow.data.places import absolute
from winnow.errors import InputError
from winnow.train.device import Device
from winnow.train.run_folder import RunFolder
from winnow.train.settings import Settings


def config_record(
    command: str,
    address: str,
    data_settings: Mapping[str, Any],
    settings: Settings,
    device: Device,
    hyperparameters: Mapping[str, Any],
) -> dict[str, Any]:
    """The content of `config.toml`: everything resolved."""
    test = data_settings.get("test")
    return {
        "schema_version": 1,
        "version": __version__,
        "command": command,
        "decoder": decoder(),
        "data": {"address": absolute(address), **data_settings} | ({"test": absolute(test)} if test else {}),
        "train": {
            "method": settings.method,
            "model": settings.model,
            "weights": absolute(settings.weights) if settings.weights else None,
            "freeze": settings.freeze or None,
            "image_size": settings.image_size,
            "epochs": settings.epochs,
            "batch_size": settings.batch_size,
            "learning_rate": settings.learning_rate,
            "seed": settings.seed,
            "validation": settings.validation,
            "device": str(device.torch_device),
            "precision": device.precision,
            "threads": device.threads,
        },
        "hyperparameters": dict(hyperparameters),
    }


def keep_config(folder: RunFolder, config: dict[str, Any]) -> str:
    """Writes the record, or compares it with the one that is there; gives the command that made the run.

    Raises:
        InputError: the run was made with other settings.
    """
    there = folder.read_config()
    if there is None:
        folder.write_config(config)
        return str(config["command"])
    for table in ("train", "hyperparameters"):
        for key, value in config[table].items():
            if (before := there.get(table, {}).get(key)) != value and value is not None:
                raise InputError(
                    f"{folder.path}: made with {key} = {before}, not {value}; "
                    "resume with the same settings, or train anew with --force"
                )
    return str(there.get("command", config["command"]))


class Stages:
    """Seconds that this process spent in each stage of a run.

    Attributes:
        seconds: by name, in the order of the first entry.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        """Times what happens inside."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.monotonic() - started
