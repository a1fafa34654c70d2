"""Running cells: worker processes, one line a finished cell, resumable at any moment."""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from winnow.bench.cells import Cell, canonical
from winnow.bench.machine import circumstances, cores
from winnow.bench.results import Record, Results
from winnow.bench.worker import READY
from winnow.errors import Interrupted, MachineError, UsageError
from winnow.files import write_error
from winnow.train.interrupt import stop_on_signals
from winnow.train.progress import Progress

_LOOK_SECONDS = 0.25
_PROGRAM = "import sys; sys.path[:] = sys.argv[3:]; from winnow.bench.worker import main; main(*sys.argv[1:3])"
_ONE_THREAD = {"OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


class CellProgress(Progress):
    """Hears of the cells and says nothing; the command line's own says it in the terminal."""

    def working(self, *, done: int, failed: int, total: int | None, seconds_left: float | None) -> None:
        """Several times a second; `total` is None where it is not known in advance."""

    def ended(self, record: Record) -> None:
        """A cell has ended."""


@dataclass(frozen=True)
class Outcome:
    """How a grid stands when the runner ends.

    Attributes:
        done: cells with a result, older ones included.
        failed: the records of those that failed.
        left: cells that were not begun, because the budget was spent; None where the number is not known.
    """

    done: int
    failed: list[Record]
    left: int | None


def run_cells(
    cells: Iterable[Cell],
    function: str,
    results: Results,
    *,
    folder: Path,
    workers: int | None = None,
    budget_minutes: float | None = None,
    progress: CellProgress | None = None,
) -> Outcome:
    """Runs the cells that have no result yet, in their order, in processes with one thread each.

    A cell's failure is recorded, and the rest goes on; at the next start it is tried again. Cells of one key run once.
    A runner that is killed loses the cells that were at work, and nothing else.

    Args:
        cells: the coarse ones first. An iterator is asked for the next one when a worker is free, and may look at
            `results` to choose it.
        function: `module:function`, called in a worker as `function(config)`. It gives a dictionary that JSON can hold
            and that is the same whenever it is called, apart from what stands under `times`.
        results: where the records go.
        folder: the runner's own, for what cells share (see `shared`) and their temporary files.
        workers: how many processes; by default one a core.
        budget_minutes: no cell begins that would probably not end within it; by default there is no limit.
        progress: hears of the work.

    Raises:
        Interrupted: a signal stopped it; the same call goes on.
        MachineError: the disk is full, or workers cannot be started.
    """
    check_limits(workers, budget_minutes)
    progress = progress or CellProgress()
    for note in results.notes:
        progress.warning(note)
    work = _Work(cells, results, budget_minutes, cores() if workers is None else workers)
    clear_runs(folder)
    with stop_on_signals() as stop, _Crew(function, folder, work.workers) as crew:
        while True:
            while crew.can_take() and (cell := work.next()) is not None:
                crew.give(cell)
            if not crew.busy:
                break
            for cell, answer in crew.answers():
                record = work.finished(cell, answer)
                results.append(record)
                progress.ended(record)
            progress.working(
                done=work.done, failed=len(work.failed), total=work.total, seconds_left=work.seconds_left(crew.elapsed)
            )
            if stop.signal_number is not None:
                of = f" of {work.total}" if work.total is not None else ""
                raise Interrupted(
                    f"Stopped with {work.done}{of} cells done, all in {results.path}. The same command goes on",
                    stop.signal_number,
                )
    results.settle(list(work.cells))
    return Outcome(work.done, work.failed, work.left())


def check_limits(workers: int | None, budget_minutes: float | None) -> None:
    """Refuses a number of processes or minutes that `run_cells` could do nothing with."""
    if workers is not None and workers < 1:
        raise UsageError(f"--workers must be at least 1, got {workers}")
    if budget_minutes is not None and not budget_minutes > 0:
        raise UsageError(f"--budget must be above 0 minutes, got {budget_minutes}")


def clear_runs(folder: Path) -> None:
    """Takes away what cells of a killed runner left, and makes the folder."""
    try:
        shutil.rmtree(folder / "runs", ignore_errors=True)
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, folder, 0) from error


class _Work:
    """Which cell comes next, and how much time is left."""

    def __init__(self, cells: Iterable[Cell], results: Results, budget_minutes: float | None, workers: int):
        self.results = results
        self.cells: dict[str, Cell] = {}
        self.failed: list[Record] = []
        self.done = 0
        self._known = {cell.key: cell for cell in cells} if isinstance(cells, Sized) else None
        self.total = len(self._known) if self._known is not None else None
        self.workers = workers if self.total is None else min(workers, max(1, self._open()))
        self._waiting: Iterator[Cell] = iter(cells if self._known is None else self._known.values())
        self._budget = None if budget_minutes is None else 60 * budget_minutes
        self._spent_all = False
        self._begun = time.monotonic()
        self._spent, self._cost = 0.0, 0.0
        for key, cell in (self._known or {}).items():
            if results.done(key):
                self._learn(cell, results.get(key) or {})

    def _open(self) -> int:
        return sum(not self.results.done(key) for key in self._known or {})

    def _learn(self, cell: Cell, record: Record) -> None:
        self._spent += record.get("times", {}).get("seconds", 0.0)
        self._cost += cell.cost

    def next(self) -> Cell | None:
        """The next cell without a result, if there is one and time for it."""
        if self._budget_is_spent(0.0):
            return None
        for cell in self._waiting:
            if cell.key in self.cells:
                continue
            if self.results.done(cell.key):
                self.cells[cell.key] = cell
                self.done += 1
                continue
            if self._cost and self._budget_is_spent(cell.cost * self._spent / self._cost):
                return None
            self.cells[cell.key] = cell
            return cell
        return None

    def _budget_is_spent(self, seconds: float) -> bool:
        """Whether what takes `seconds` would end too late; then nothing begins any more: the order is kept."""
        if self._budget is not None and time.monotonic() - self._begun + seconds >= self._budget:
            self._spent_all = True
        return self._spent_all

    def finished(self, cell: Cell, answer: dict[str, Any]) -> Record:
        """The record of a cell."""
        if "machine_error" in answer:
            raise MachineError(f"{answer['machine_error']}; {self.done} cells are done, the same command goes on")
        config = json.loads(canonical(cell.config))
        record: Record = {"key": cell.key, "config": config, "data": cell.data, "code": cell.code}
        if "error" in answer:
            record["error"] = answer["error"]
        else:
            record["result"] = answer["result"]
        record["times"] = answer.get("times", {})
        record["machine"] = circumstances()
        record["finished"] = datetime.now(UTC).isoformat(timespec="seconds")
        if "error" in answer:
            self.failed.append(record)
        else:
            self.done += 1
            self._learn(cell, record)
        return record

    def seconds_left(self, elapsed: dict[str, float]) -> float | None:
        """Until the end of the grid or of the budget, from what cells cost so far.

        Args:
            elapsed: of the cells at work, by key.
        """
        ends = [] if self._budget is None else [self._begun + self._budget - time.monotonic()]
        if self._known is not None and self._cost:
            rate = self._spent / self._cost
            ended = {record["key"] for record in self.failed}
            rest = sum(
                max(0.0, cell.cost * rate - elapsed.get(key, 0.0))
                for key, cell in self._known.items()
                if key not in ended and not self.results.done(key)
            )
            ends.append(rest / self.workers)
        return max(0.0, min(ends)) if ends else None

    def left(self) -> int | None:
        """Cells that were not begun."""
        return None if self._known is None else len(self._known) - len(self.cells)


class _Worker:
    """A worker process and the cell it is at."""

    def __init__(self, function: str, folder: Path, number: int):
        self.log = folder / f"worker-{number}.log"
        self.cell: Cell | None = None
        self.since = 0.0
        self.ready = False
        self._rest = b""
        try:
            with self.log.open("wb") as log:
                self.process = subprocess.Popen(
                    [sys.executable, "-c", _PROGRAM, function, str(folder), *filter(None, sys.path), os.getcwd()],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    env=os.environ | _ONE_THREAD,
                    start_new_session=True,  # Ctrl-C is for the runner, which ends its workers itself
                )
        except OSError as error:
            raise MachineError(f"a worker cannot be started: {error.strerror or error}") from error

    def heard(self) -> tuple[bool, list[bytes]]:
        """Whether it has ended, and the whole lines that it wrote since the last time."""
        assert self.process.stdout is not None
        # Read past any buffer of Python's: a second line in it would not wake the selector.
        part = os.read(self.process.stdout.fileno(), 1 << 20)
        *lines, self._rest = (self._rest + part).split(b"\n")
        return not part, lines

    def last_words(self) -> str:
        """The last line that it wrote."""
        with suppress(OSError):
            lines = self.log.read_text(errors="replace").strip().splitlines()
            return lines[-1] if lines else ""
        return ""

    def end(self) -> None:
        """Kills it, if it lives."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe:
                with suppress(OSError):
                    pipe.close()


class _Crew:
    """The worker processes; each is started when there is a cell for it."""

    def __init__(self, function: str, folder: Path, most: int):
        self.function = function
        self.folder = folder
        self.most = most
        self._workers: list[_Worker] = []
        self._selector = selectors.DefaultSelector()
        self._started = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers:
            worker.end()
        self._selector.close()

    @property
    def busy(self) -> bool:
        """Whether any cell is at work."""
        return any(worker.cell for worker in self._workers)

    @property
    def elapsed(self) -> dict[str, float]:
        """Seconds that each cell at work has taken so far, by key."""
        now = time.monotonic()
        return {worker.cell.key: now - worker.since for worker in self._workers if worker.cell}

    def can_take(self) -> bool:
        """Whether a further cell could begin."""
        return len(self._workers) < self.most or any(worker.cell is None for worker in self._workers)

    def give(self, cell: Cell) -> None:
        """Begins a cell."""
        worker = next((worker for worker in self._workers if worker.cell is None), None) or self._hire()
        worker.cell, worker.since = cell, time.monotonic()
        assert worker.process.stdin is not None
        with suppress(BrokenPipeError):  # its end is seen where its answer is waited for
            worker.process.stdin.write(canonical(cell.config).encode() + b"\n")
            worker.process.stdin.flush()

    def answers(self) -> Iterator[tuple[Cell, dict[str, Any]]]:
        """What has come within a moment; a worker that died gives its cell's error."""
        for key, _ in self._selector.select(_LOOK_SECONDS):
            worker: _Worker = key.data
            ended, lines = worker.heard()
            for line in lines:
                if line == READY:
                    worker.ready, worker.since = True, time.monotonic()
                elif worker.cell is not None:
                    cell, worker.cell = worker.cell, None
                    yield cell, json.loads(line)
            if not ended:
                continue
            self._selector.unregister(key.fileobj)
            self._workers.remove(worker)
            worker.end()
            if not worker.ready:
                raise MachineError(f"{_death(worker)}; it could not start; its log is {worker.log}")
            if worker.cell is not None:
                yield worker.cell, {"error": _death(worker)}

    def _hire(self) -> _Worker:
        self._started += 1
        worker = _Worker(self.function, self.folder, self._started)
        self._workers.append(worker)
        assert worker.process.stdout is not None
        self._selector.register(worker.process.stdout, selectors.EVENT_READ, worker)
        return worker


def _death(worker: _Worker) -> str:
    code = worker.process.returncode
    how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    words = worker.last_words()
    return f"the worker process {how}" + (f": {words}" if words else "")
