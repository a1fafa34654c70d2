"""Functions that stand in for trainings; called in worker processes."""

import os
import signal
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from winnow.errors import MachineError, UsageError


def square(config: Mapping[str, Any]) -> dict[str, Any]:
    time.sleep(config.get("seconds", 0))
    if "log" in config:
        with open(config["log"], "a") as file:
            file.write(f"{config['number']}\n")
    return {"square": config["number"] ** 2, "times": {"slept": config.get("seconds", 0)}}


def fails(config: Mapping[str, Any]) -> dict[str, Any]:
    kind = config.get("kind")
    if kind == "usage":
        raise UsageError("beta must lie in [0, 1]")
    if kind == "bug":
        raise KeyError("left")
    if kind == "nan":
        return {"accuracy": float("nan")}
    if kind == "dies":
        print("about to die", flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    if kind == "disk":
        raise MachineError("runs/x: the disk is full")
    if kind == "once" and not Path(config["mark"]).exists():
        Path(config["mark"]).write_text("")
        raise UsageError("not yet")
    return {"fine": True}


def threads(config: Mapping[str, Any]) -> dict[str, Any]:
    return {"threads": os.environ["OMP_NUM_THREADS"], "main": Path(__import__("sys").argv[0]).name}
