"""Stopping on request: at once where nothing is kept, else once the running step is finished and saved."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM. A kind of its own: where a KeyboardInterrupt itself leaves an `exec` of text, as imports use it, Python
    ends by SIGINT however it is caught afterwards.
    """


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
        raise Terminated


@contextmanager
def interrupt_on_termination() -> Iterator[Termination]:
    """Listens to SIGTERM; outside the main thread nothing is installed."""
    termination = Termination()
    with _handled_by(termination, signal.SIGTERM):
        yield termination


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
    with _handled_by(request, signal.SIGINT, signal.SIGTERM):
        yield request


@contextmanager
def _handled_by(handler: Callable[[int, FrameType | None], None], *numbers: signal.Signals) -> Iterator[None]:
    """Signals go to a handler, and afterwards to those of before; Python allows it in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)
