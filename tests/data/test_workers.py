"""Decoding in processes that crash, hang and are killed: rows 6 and 40 of the fault table."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.breaking_decoder import SIGNALS
from tests.data.test_collection import colours, encoded
from winnow.data import collection
from winnow.data import workers as module
from winnow.data.collection import load
from winnow.data.decode import Limits
from winnow.data.fitting import Fitting
from winnow.data.open import open_source
from winnow.data.source import Unreadable
from winnow.data.workers import Job, Worker, Workers, shared
from winnow.errors import MachineError

BREAKING = "tests.data.breaking_decoder"
QUICK = Limits(seconds=0.3)


@pytest.fixture
def job():
    workers = Workers(2, BREAKING)
    yield Job(workers)
    workers.end()


def values(results):
    """The number each picture was made of, or the code of its fault."""
    return [found.code if isinstance(found, Unreadable) else int(found.pixels[0, 0, 0]) for found in results]


def decoded(job, *data, limits=None):
    return job.decode([("", each) for each in data], limits or Limits(), Fitting())


def is_alive(number):
    try:
        return Path(f"/proc/{number}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def until(condition, seconds=5.0):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.02)
    return condition()


def test_pictures_come_back_in_order_with_their_notes(job):
    found = decoded(job, b"picture 5", b"picture 7", b"picture 6")

    assert values(found) == [5, 7, 6]
    assert [each.notes for each in found] == [(), ("odd",), ()]
    assert found[0].pixels.shape == (2, 3, 1)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_decoder_that_crashes_costs_one_picture(job, number):
    found = decoded(job, b"picture 1", f"signal {int(number)}".encode(), b"picture 3")

    assert values(found) == [1, "crashed", 3]
    assert found[1].reason == f"the decoder broke down (signal {number.name})"


def test_a_decoder_that_ends_its_process_costs_one_picture(job):
    found = decoded(job, b"exit", b"picture 2")

    assert values(found) == ["crashed", 2]
    assert found[0].reason == "the decoder broke down (exit code 3)"


@pytest.mark.slow
def test_several_bad_pictures_in_one_batch_are_each_found(job):
    found = decoded(job, b"exit", b"picture 2", b"signal 11", b"signal 9", b"picture 5")

    assert values(found) == ["crashed", 2, "crashed", "crashed", 5]


def test_a_decoder_that_hangs_costs_one_picture_and_twice_its_time(job):
    started = time.monotonic()

    found = decoded(job, b"picture 1", b"hang", b"picture 3", limits=QUICK)

    assert values(found) == [1, "timeout", 3]
    assert found[1].reason == "took longer than 0.3 s to decode"
    assert time.monotonic() - started < 10


def test_the_time_limit_is_that_of_a_picture_not_of_the_batch(job):
    found = decoded(job, *[f"wait 0.12 {k}".encode() for k in range(6)], limits=QUICK)

    assert values(found) == list(range(6))


def test_unreadable_pictures_are_told_apart_from_broken_decoders(job):
    found = job.decode([("a.jpg", b"broken"), ("", b"picture 2")], Limits(), Fitting())

    assert values(found) == ["corrupt", 2]
    assert found[0].reason == "a.jpg: \\udcff"


def test_what_a_decoder_prints_does_no_harm(job, capfd):
    assert values(decoded(job, b"print", b"picture 2")) == [0, 2]
    assert capfd.readouterr() == ("", "")


def test_a_worker_that_is_killed_between_two_batches_costs_nothing(job):
    decoded(job, b"picture 1")
    (worker,) = job.workers.idle
    os.kill(worker.process.pid, signal.SIGKILL)

    assert values(decoded(job, b"picture 2", b"picture 3")) == [2, 3]


def test_a_worker_that_is_killed_from_outside_at_work_costs_nothing(job):
    def kill():
        assert until(lambda: job.busy)
        time.sleep(0.3)
        os.kill(next(iter(job.busy)).process.pid, signal.SIGKILL)

    killer = threading.Thread(target=kill)
    decoded(job, b"picture 1")
    killer.start()
    found = decoded(job, b"picture 1", b"wait 0.6 2", b"picture 3")
    killer.join()

    assert values(found) == [1, 2, 3]


def test_a_worker_that_is_stopped_from_outside_is_ended_and_its_picture_tried_again(job):
    decoded(job, b"picture 1")
    (worker,) = job.workers.idle

    def stop():
        assert until(lambda: job.busy)
        time.sleep(0.1)
        os.kill(worker.process.pid, signal.SIGSTOP)

    stopper = threading.Thread(target=stop)
    stopper.start()
    found = decoded(job, b"wait 0.25 1", b"picture 2", limits=QUICK)
    stopper.join()

    assert values(found) == [1, 2]
    assert not is_alive(worker.process.pid)


def test_a_stopped_worker_that_takes_no_bytes_does_not_hold_up_the_rest(job, monkeypatch):
    monkeypatch.setattr(module, "_QUIET_SECONDS", 0.5)
    decoded(job, b"picture 1")
    os.kill(job.workers.idle[0].process.pid, signal.SIGSTOP)
    large = b"wait 0 " + b"0" * 1_000_000  # more than a pipe holds

    assert len(decoded(job, large, b"picture 2")) == 2


def test_many_threads_share_the_workers_and_each_gets_its_own_answers():
    workers = Workers(2, BREAKING)
    job = Job(workers)
    found = {}

    def ask(number):
        for turn in range(5):
            data = [f"picture {number}".encode(), b"exit" if (number, turn) == (3, 2) else b"picture 1"]
            found[number, turn] = values(decoded(job, *data))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    most = workers.count
    workers.end()

    expected = {(n, t): [n, 1] for n in range(8) for t in range(5)}
    expected[3, 2] = [3, "crashed"]
    assert found == expected
    assert most <= 2
    assert workers.count == 0


def test_a_small_job_starts_one_worker():
    workers = Workers(8, BREAKING)
    job = Job(workers)
    threads = [threading.Thread(target=decoded, args=(job, b"picture 1")) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert workers.count == 1
    workers.end()


def test_giving_up_ends_a_worker_that_hangs():
    workers = Workers(1, BREAKING)
    job = Job(workers)
    thread = threading.Thread(target=pytest.raises, args=(Exception, decoded, job, b"hang"))
    thread.start()
    assert until(lambda: job.busy)
    (worker,) = job.busy

    job.give_up()
    thread.join(5)

    assert not thread.is_alive()
    assert not is_alive(worker.process.pid)
    assert workers.count == 0


def test_workers_that_cannot_start_are_one_line(monkeypatch):
    with pytest.raises(MachineError, match=r"ended as it started: .*No module named 'nowhere'"):
        Worker("nowhere")

    monkeypatch.setattr(sys, "executable", "/no/python")
    with pytest.raises(MachineError, match=r"no process for decoding images can be started: .*No such file"):
        Worker()


def test_a_worker_imports_neither_torch_nor_pyarrow():
    code = "import sys, winnow.data.worker; print({'torch', 'pyarrow', 'sklearn'} & set(sys.modules))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "set()"


# Whole collections


@pytest.fixture
def table(tmp_path):
    def build(pictures):
        path = tmp_path / "pictures.parquet"
        data = [item if isinstance(item, bytes) else encoded(item) for item in pictures]
        pq.write_table(pa.table({"image": data, "label": [0] * len(data)}), path)
        return path

    return build


def test_a_load_that_is_interrupted_does_not_wait_for_a_picture_that_hangs(table, monkeypatch):
    workers = Workers(1, BREAKING)
    monkeypatch.setattr(collection, "shared", lambda: workers)
    source = open_source(table([b"picture 1"] * 64 + [b"hang"] + [b"picture 2"] * 200))
    numbers = []

    def interrupt(done, total):
        assert until(lambda: workers.count == 1 and not workers.idle)
        numbers.extend(worker.process.pid for worker in known)
        raise KeyboardInterrupt

    known = []
    started_by = Worker.__init__

    def remembered(self, module):
        started_by(self, module)
        known.append(self)

    monkeypatch.setattr(Worker, "__init__", remembered)
    started = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        load(source, progress=interrupt)

    assert time.monotonic() - started < 15
    assert numbers
    assert not any(is_alive(number) for number in numbers)


def test_every_picture_of_a_collection_is_accounted_for_when_workers_are_killed(table, tmp_path):
    pictures = [colours(40, 40, seed) for seed in range(600)]
    source = open_source(table(pictures))
    stop = threading.Event()

    def kill():
        while not stop.is_set():
            for worker in [*shared().idle]:
                os.kill(worker.process.pid, signal.SIGKILL)
            time.sleep(0.1)

    killer = threading.Thread(target=kill)
    killer.start()
    try:
        found = load(source)
    finally:
        stop.set()
        killer.join()

    assert (found.images == np.stack(pictures)).all()
    assert found.quarantined == []


def test_a_script_without_a_main_guard_can_load_and_leaves_no_process(table, tmp_path):
    path = table([colours(9, 9)] * 3)
    script = tmp_path / "script.py"
    (tmp_path / "numpy.py").write_text("raise RuntimeError('taken from the working folder')")
    script.write_text(
        "import sys; sys.path.pop(0)\n"
        "from winnow.data.collection import load\n"
        "from winnow.data.open import open_source\n"
        "from winnow.data.workers import shared\n"
        "print('once')\n"
        f"load(open_source({str(path)!r}))\n"
        "print(*[worker.process.pid for worker in shared().idle])\n"
    )

    done = subprocess.run(
        [sys.executable, "-W", "error", str(script)], cwd=tmp_path, capture_output=True, text=True, check=False
    )

    assert done.stderr == ""
    once, numbers = done.stdout.splitlines()
    assert once == "once"
    assert numbers.split()
    assert not any(is_alive(number) for number in numbers.split())


_FOREVER = """
import signal, sys, threading
signal.signal(signal.SIGINT, signal.default_int_handler)  # a suite in the background inherits that it is ignored
from winnow.data.decode import Limits
from winnow.data.fitting import Fitting
from winnow.data.workers import Job, Workers
job = Job(Workers(1, "tests.data.breaking_decoder"))
def tell():
    while not job.busy:
        pass
    print(next(iter(job.busy)).process.pid, flush=True)
threading.Thread(target=tell, daemon=True).start()
try:
    job.decode([("", b"wait 1 1")], Limits(), Fitting())
except KeyboardInterrupt:
    sys.exit(130)
"""


def _forever():
    return subprocess.Popen(
        [sys.executable, "-c", _FOREVER], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2], start_new_session=True,
    )  # fmt: skip


def test_a_worker_does_not_outlive_its_killed_parent():
    with _forever() as parent:
        number = int(parent.stdout.readline())
        parent.kill()

        assert until(lambda: not is_alive(number), 10)


def test_ctrl_c_reaches_the_parent_alone_and_workers_stay_quiet():
    with _forever() as parent:
        number = int(parent.stdout.readline())
        os.killpg(parent.pid, signal.SIGINT)
        code = parent.wait(10)

        assert code == 130
        assert parent.stderr.read() == ""
        assert until(lambda: not is_alive(number), 10)


def test_a_fork_of_the_process_neither_uses_nor_ends_its_workers(table):
    load(open_source(table([colours(9, 9)] * 2)))
    numbers = [worker.process.pid for worker in shared().idle if worker.process.poll() is None]
    code = os.fork()
    if code == 0:
        ended = shared().idle == []
        shared().end()
        module._of_process(os.getppid()).end()
        os._exit(0 if ended else 1)

    assert os.waitstatus_to_exitcode(os.waitpid(code, 0)[1]) == 0
    assert numbers
    assert all(is_alive(number) for number in numbers)


@pytest.mark.parametrize(("quota", "expected"), [("max 100000", None), ("100000 100000", 1), ("150000 100000", 2)])
def test_the_number_of_workers_follows_the_share_of_a_container(tmp_path, monkeypatch, quota, expected):
    (tmp_path / "cpu.max").write_text(quota)
    monkeypatch.setattr(module, "_CPU_QUOTA", tmp_path / "cpu.max")
    own = len(os.sched_getaffinity(0))

    assert module.cores() == (own if expected is None else min(own, expected))
