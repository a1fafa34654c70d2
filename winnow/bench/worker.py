"""A process that runs cells: requests come in on standard input, answers go out, one JSON line each.

It ends as soon as its input does, in the middle of a cell, too: when its runner was killed, nobody wants the answer.
"""

from __future__ import annotations

import importlib
import json
import os
import queue
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from winnow.bench import shared
from winnow.errors import MachineError, WinnowError

READY = b"ready"
"""What a worker says once everything is imported."""

Function = Callable[[Mapping[str, Any]], dict[str, Any]]


def main(function: str, folder: str) -> None:
    """Answers requests until there are no more.

    Args:
        function: `module:function`.
        folder: the runner's own folder.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever a cell prints must not be taken for an answer
    requests: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    threading.Thread(target=_listen, args=(requests,), daemon=True).start()
    shared.use(Path(folder))
    call = find_function(function)
    _say(answers, READY)
    while True:
        answer = answered(call, json.loads(requests.get()))
        _say(answers, json.dumps(answer, allow_nan=False).encode())


def find_function(name: str) -> Function:
    """The function of `module:function`."""
    module, _, attribute = name.partition(":")
    found: Function = getattr(importlib.import_module(module), attribute)
    return found


def answered(function: Function, config: Mapping[str, Any]) -> dict[str, Any]:
    """What became of a cell: `result` and `times`, or `error`, or `machine_error` where the cell is not to blame."""
    forget_peak_memory()
    begun = time.monotonic()
    try:
        result = function(config)
        times = result.pop("times", {})
        json.dumps([result, times], allow_nan=False)  # a NaN is no result
    except MachineError as error:
        return {"machine_error": str(error)}
    except WinnowError as error:
        return {"error": str(error)}
    except MemoryError as error:
        return {"error": f"out of memory {error}".strip()}
    except Exception as error:
        traceback.print_exc()
        frame = traceback.extract_tb(error.__traceback__)[-1]
        return {"error": f"{type(error).__name__}: {error} ({frame.filename} line {frame.lineno})"}
    seconds = round(time.monotonic() - begun, 3)
    return {"result": result, "times": {"seconds": seconds, "peak_memory_bytes": peak_memory(), **times}}


def forget_peak_memory() -> None:
    """Lets the peak begin anew, where the system can do that."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def peak_memory() -> int:
    """Largest resident memory of this process since `forget_peak_memory`, in bytes."""
    with suppress(OSError, ValueError, IndexError):
        status = Path("/proc/self/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0]) * 1024
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _say(answers: BinaryIO, line: bytes) -> None:
    answers.write(line + b"\n")
    answers.flush()


def _listen(requests: queue.SimpleQueue[bytes]) -> None:
    for line in sys.stdin.buffer:
        requests.put(line)
    os._exit(0)
