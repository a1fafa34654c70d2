"""Decoding in processes of our own: a crash or a hang costs one picture, and all cores have work.

They are plain child processes that speak through pipes (see `worker.py`), not those of `multiprocessing`: a user's
script needs no `if __name__ == "__main__"`, and nothing of it is imported again.
"""

from __future__ import annotations

import atexit
import marshal
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple
from functools import cache
from io import FileIO
from pathlib import Path
from typing import cast

import numpy as np

from winnow.data.decode import Decoded, Limits
from winnow.data.fitting import Fitting
from winnow.data.source import Unreadable
from winnow.data.worker import ANSWER, LENGTH, READY, Picture
from winnow.errors import MachineError

_START_SECONDS = 60.0
_QUIET_SECONDS = 60.0  # in which a worker that is no longer decoding must take or give bytes
_LOOK_SECONDS = 0.5
_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_PATIENCE = 0.3  # about the seconds that a start takes
# The arithmetic is Pillow's; threads of numpy's library would only be started and wait.
_ENVIRONMENT = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
_PROGRAM = "import sys; sys.path[:] = sys.argv[2:]; from {module} import main; main(int(sys.argv[1]))"


class _Lost(Exception):
    """A worker is gone.

    Args:
        place: the picture of the batch that it had begun last; None if it had begun none.
        code: `crashed` or `timeout`.
        reason: the same for a person.
    """

    def __init__(self, place: int | None, code: str, reason: str):
        super().__init__(reason)
        self.place = place
        self.code = code
        self.reason = reason


class Worker:
    """One child process.

    Args:
        module: whose function `main` it runs.

    Raises:
        MachineError: it does not start.
    """

    def __init__(self, module: str = "winnow.data.worker"):
        self.begun, begun = os.pipe()
        os.set_blocking(self.begun, False)
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _PROGRAM.format(module=module), str(begun), *_search_path()],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                pass_fds=[begun],
                env={**os.environ, **_ENVIRONMENT},
                process_group=0,  # a Ctrl-C in the terminal is for us alone
            )
        except (OSError, ValueError) as error:
            os.close(self.begun)
            raise MachineError(f"no process for decoding images can be started: {error}") from error
        finally:
            os.close(begun)
        self.requests = cast(FileIO, self.process.stdin)
        self.answers = cast(FileIO, self.process.stdout)
        os.set_blocking(self.requests.fileno(), False)
        with cast(FileIO, self.process.stderr) as errors:
            if self._received(len(READY), _START_SECONDS) != READY:
                self.end()
                said = errors.read().decode(errors="replace").strip().splitlines() or ["it said nothing"]
                raise MachineError(f"a process for decoding images ended as it started: {said[-1]}")

    def decode(self, pictures: Sequence[Picture], limits: Limits, fitting: Fitting) -> list[Decoded | Unreadable]:
        """The pictures, decoded and fitted.

        Raises:
            _Lost: the process is gone, or was ended because of a picture that took too long.
        """
        request = marshal.dumps((astuple(limits), astuple(fitting), list(pictures)))
        begun, since = 0, time.monotonic()
        if self._sent(LENGTH.pack(len(request))) and self._sent(request):
            while not _ready(self.answers, select.POLLIN, min(_LOOK_SECONDS, limits.seconds)):
                if news := self._begun_since():
                    begun, since = begun + news, time.monotonic()
                elif time.monotonic() - since > limits.seconds:
                    self.end()
                    raise _Lost(max(0, begun - 1), "timeout", f"took longer than {limits.seconds:g} s to decode")
            header = self._received(LENGTH.size)
            if len(header) == LENGTH.size:
                (length,) = LENGTH.unpack(header)
                answer = self._received(length)
                if len(answer) == length:
                    self._begun_since()
                    return list(_results(answer))
        begun += self._begun_since()
        self.end()
        raise _Lost(begun - 1 if begun else None, "crashed", f"the decoder broke down ({self._ending()})")

    def end(self) -> None:
        """Ends the process, whatever it does."""
        self.process.kill()
        self.process.wait()
        self.requests.close()
        self.answers.close()
        if self.begun >= 0:
            os.close(self.begun)
            self.begun = -1

    def _sent(self, data: bytes) -> bool:
        """Whether the process took it; one that is stopped takes nothing."""
        rest = memoryview(data)
        try:
            while rest and _ready(self.requests, select.POLLOUT, _QUIET_SECONDS):
                rest = rest[self.requests.write(rest) or 0 :]
        except BrokenPipeError:
            return False
        return not rest

    def _received(self, count: int, seconds: float | None = None) -> bytes:
        """So many bytes, or less if the process is gone or stopped."""
        data = bytearray()
        while len(data) < count and _ready(self.answers, select.POLLIN, seconds or _QUIET_SECONDS):
            piece = self.answers.read(count - len(data))
            if not piece:
                break
            data += piece
        return bytes(data)

    def _begun_since(self) -> int:
        try:
            return len(os.read(self.begun, 1 << 16))
        except BlockingIOError:
            return 0

    def _ending(self) -> str:
        code = self.process.returncode
        try:
            return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        except ValueError:
            return f"signal {-code}"


def _ready(pipe: FileIO, event: int, seconds: float) -> bool:
    poll = select.poll()
    poll.register(pipe, event)
    return bool(poll.poll(seconds * 1000))


def _search_path() -> list[str]:
    # Not the working folder; ours comes last, in case that this package is found by luck only.
    return [*(str(place) for place in sys.path if place), str(Path(__file__).parents[2])]


def _results(answer: bytes) -> Iterator[Decoded | Unreadable]:
    position = 0
    while position < len(answer):
        length, *shape, tall, wide, layout, content = ANSWER.unpack_from(answer, position)
        position += ANSWER.size
        texts = answer[position : position + length].decode().split("\0") if length else []
        position += length
        count = shape[0] * shape[1] * shape[2]
        if count:
            pixels = np.frombuffer(answer, np.uint8, count, position).reshape(shape)
            yield Decoded(pixels, tuple(texts), (tall, wide), layout, content)
        else:
            yield Unreadable(texts[0], texts[1])
        position += count


class Workers:
    """The child processes of this process: started when there is work for them, kept for more.

    Args:
        most: how many there may be.
        module: see `Worker`.
    """

    def __init__(self, most: int, module: str = "winnow.data.worker"):
        self.most = most
        self.module = module
        self.idle: list[Worker] = []
        self.count = 0
        self.changed = threading.Condition()
        self._owner = os.getpid()

    def forget_dead(self) -> None:
        """Takes away those that somebody has ended while they had nothing to do."""
        for worker in [worker for worker in self.idle if worker.process.poll() is not None]:
            self.idle.remove(worker)
            self.count -= 1
            worker.end()

    def end(self) -> None:
        """Ends those that have nothing to do."""
        if os.getpid() != self._owner:  # a fork of their owner
            return
        with self.changed:
            while self.idle:
                self.idle.pop().end()
                self.count -= 1


class Job:
    """The decoding of one collection by workers, for many threads.

    Args:
        workers: who does it.
    """

    def __init__(self, workers: Workers):
        self.workers = workers
        self.busy: set[Worker] = set()
        self.given_up = False
        self.started: float | None = None

    def decode(self, pictures: Sequence[Picture], limits: Limits, fitting: Fitting) -> list[Decoded | Unreadable]:
        """The pictures, decoded and fitted; one that ends two workers, the second time alone, is set aside.

        Raises:
            MachineError: workers cannot be started, or end without having begun anything.
        """
        results: dict[int, Decoded | Unreadable] = {}
        waiting = list(range(len(pictures)))
        idle_deaths = 0
        while waiting:
            try:
                with self._worker() as worker:
                    found = worker.decode([pictures[place] for place in waiting], limits, fitting)
                results |= zip(waiting, found, strict=True)
                break
            except _Lost as lost:
                if self.given_up:
                    raise
                if lost.place is None:  # it ended while it had nothing to do
                    idle_deaths += 1
                    if idle_deaths > 3:
                        raise MachineError(f"processes for decoding images end by themselves: {lost.reason}") from lost
                    continue
                suspect = waiting.pop(lost.place)
                results[suspect] = self._alone(pictures[suspect], limits, fitting)
        return [results[place] for place in range(len(pictures))]

    def give_up(self) -> None:
        """Ends the workers of this job: nobody waits for its results any more."""
        with self.workers.changed:
            self.given_up = True
            for worker in self.busy:
                worker.process.kill()

    def _alone(self, picture: Picture, limits: Limits, fitting: Fitting) -> Decoded | Unreadable:
        try:
            with self._worker(fresh=True) as worker:
                return worker.decode([picture], limits, fitting)[0]
        except _Lost as lost:
            return Unreadable(lost.code, lost.reason)

    @contextmanager
    def _worker(self, fresh: bool = False) -> Iterator[Worker]:
        workers = self.workers
        worker: Worker | None = None
        with workers.changed:
            workers.forget_dead()
            while not (fresh or workers.idle or self._may_start() or self.given_up):
                workers.changed.wait(timeout=0.05)
            if workers.idle and not fresh:
                worker = workers.idle.pop()
            else:
                workers.count += 1
        sound = False
        try:
            worker = worker or Worker(workers.module)
            with workers.changed:
                self.started = self.started or time.monotonic()
                self.busy.add(worker)
                if self.given_up:
                    raise _Lost(None, "crashed", "nobody waits for it")
            yield worker
            sound = True
        finally:
            with workers.changed:
                if worker is not None:
                    self.busy.discard(worker)
                if worker is not None and sound:
                    workers.idle.append(worker)
                else:
                    workers.count -= 1
                workers.changed.notify()
            if worker is not None and not sound:
                worker.end()

    def _may_start(self) -> bool:
        """One worker at once; more when it has been busy for as long as a start takes: small jobs need no more."""
        if self.workers.count == 0:
            return True
        waited = self.started is not None and time.monotonic() - self.started > _PATIENCE
        return waited and self.workers.count < self.workers.most


def cores() -> int:
    """How many cores this process may use, whatever the machine has."""
    number = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    with suppress(OSError, ValueError):  # a container's share of time, where there is one
        quota, period = _CPU_QUOTA.read_text().split()
        number = min(number, max(1, round(int(quota) / int(period))))
    return number


def shared() -> Workers:
    """The workers that all collections of this process use in turn."""
    return _of_process(os.getpid())  # a fork must not speak through its parent's pipes


@cache
def _of_process(number: int) -> Workers:
    workers = Workers(cores())
    atexit.register(workers.end)
    return workers
