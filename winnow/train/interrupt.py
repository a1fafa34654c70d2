"""Stopping on request: at once where nothing is kept, else once the running step is finished and saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Termination:
    """SIGTERM ends work as Ctrl-C does, so that what is half written is taken away.

    Attributes:
        arrived: whether it was SIGTERM that ended it.
    """

    def __init__(self) -> None:
        self.arrived = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        self.arrived = True
        raise KeyboardInterrupt


@contextmanager
def interrupt_on_termination() -> Iterator[Termination]:
    """Listens to SIGTERM; outside the main thread nothing is installed."""
    termination = Termination()
    if threading.current_thread() is not threading.main_thread():
        yield termination
        return
    before = signal.signal(signal.SIGTERM, termination)
    try:
        yield termination
    finally:
        signal.signal(signal.SIGTERM, before)


class StopRequest:
    """Remembers the first signal that asked to stop; a second one ends the process at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.signal_number is not None:
            os._exit(128 + number)
        self.signal_number = number


@contextmanager
def stop_on_signals() -> Iterator[StopRequest]:
    """Listens to SIGINT and SIGTERM while training runs; outside the main thread nothing is installed."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.signal(number, request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
