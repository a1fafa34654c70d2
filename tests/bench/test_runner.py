"""The runner: order, failures, budget, interruption, kills."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import winnow
from winnow.bench import shared, worker
from winnow.bench.cells import Cell
from winnow.bench.results import Results, read_records
from winnow.bench.runner import CellProgress, run_cells
from winnow.errors import MachineError, UsageError

ROOT = Path(winnow.__file__).parent.parent


def squares(count, **more):
    return [Cell({"number": number, **more}, code="toy") for number in range(count)]


@pytest.fixture
def run(tmp_path):
    def run(cells, function="square", **options):
        with Results(tmp_path / "results.jsonl") as results:
            options.setdefault("workers", 1)
            return run_cells(cells, f"tests.bench.toys:{function}", results, folder=tmp_path / "work", **options)

    return run


def recorded(tmp_path):
    return read_records(tmp_path / "results.jsonl")


def test_every_cell_is_recorded_with_its_circumstances(run, tmp_path):
    outcome = run(squares(3, seconds=0.01), workers=2)
    assert (outcome.done, outcome.failed, outcome.left) == (3, [], 0)
    records = recorded(tmp_path)
    assert [record["result"] for record in records] == [{"square": 0}, {"square": 1}, {"square": 4}]
    first = records[0]
    assert first["config"] == {"number": 0, "seconds": 0.01}
    assert first["key"] == squares(1, seconds=0.01)[0].key
    assert first["times"]["seconds"] >= 0.01
    assert first["times"]["slept"] == 0.01
    assert first["times"]["peak_memory_bytes"] > 10_000_000
    assert {"cpu", "cores", "python", "torch", "commit"} <= set(first["machine"])


def test_cells_run_in_their_order_and_only_those_that_are_not_done(run, tmp_path):
    log = tmp_path / "log"
    run(squares(2, log=str(log)))
    run([*squares(2, log=str(log)), *squares(4, log=str(log))])
    assert log.read_text().split() == ["0", "1", "2", "3"]


def test_the_final_file_is_in_the_order_of_the_grid_whichever_cell_ended_first(run, tmp_path):
    slow, quick = Cell({"number": 1, "seconds": 0.6}, code="toy"), Cell({"number": 2}, code="toy")
    run([slow, quick], workers=2)
    assert [record["key"] for record in recorded(tmp_path)] == [slow.key, quick.key]


def test_a_generator_of_cells_is_asked_when_a_worker_is_free(tmp_path):
    seen = []

    def chosen(results):
        for cell in squares(3):
            seen.append(len(results))
            yield cell

    with Results(tmp_path / "results.jsonl") as results:
        outcome = run_cells(chosen(results), "tests.bench.toys:square", results, folder=tmp_path / "work", workers=1)
    assert seen == [0, 1, 2]
    assert (outcome.done, outcome.left) == (3, None)


def test_a_failing_cell_is_recorded_and_the_rest_goes_on(run, tmp_path):
    kinds = ["usage", "bug", "nan", "dies", "fine"]
    outcome = run([Cell({"kind": kind}, code="toy") for kind in kinds], "fails")
    errors = {record["config"]["kind"]: record.get("error") for record in recorded(tmp_path)}
    assert errors["usage"] == "beta must lie in [0, 1]"
    assert errors["bug"].startswith("KeyError: 'left'")
    assert "toys.py line" in errors["bug"]
    assert "JSON" in errors["nan"]
    assert errors["dies"] == "the worker process was killed by SIGKILL: about to die"
    assert errors["fine"] is None
    assert outcome.done == 1
    assert {record["config"]["kind"] for record in outcome.failed} == set(kinds[:4])


def test_a_failed_cell_is_tried_again_at_the_next_start(run, tmp_path):
    cells = [Cell({"kind": "once", "mark": str(tmp_path / "mark")}, code="toy")]
    assert len(run(cells, "fails").failed) == 1
    outcome = run(cells, "fails")
    assert (outcome.done, outcome.failed) == (1, [])
    assert len((tmp_path / "results.jsonl").read_text().splitlines()) == 1


def test_a_full_disk_in_a_cell_stops_the_runner_and_blames_no_cell(run, tmp_path):
    cells = [Cell({"kind": kind}, code="toy") for kind in ("fine", "disk", "usage")]
    with pytest.raises(MachineError, match=r"disk is full; 1 cells are done, the same command goes on"):
        run(cells, "fails")
    assert [record["config"]["kind"] for record in recorded(tmp_path)] == ["fine"]


def test_workers_that_cannot_start_are_the_machines_failure(run):
    with pytest.raises(MachineError, match="no_such_function"):
        run(squares(1), "no_such_function")


def test_the_budget_lets_no_cell_begin_that_would_end_too_late(run, tmp_path):
    outcome = run(squares(50, seconds=0.3), budget_minutes=0.025)  # 1.5 s: five cells at most
    assert 1 <= outcome.done <= 5
    assert outcome.left == 50 - outcome.done
    assert len(recorded(tmp_path)) == outcome.done


@pytest.mark.parametrize("options", [{"workers": 0}, {"budget_minutes": 0.0}])
def test_impossible_options_are_refused(run, options):
    with pytest.raises(UsageError, match="must be"):
        run(squares(1), **options)


def test_progress_hears_counts_time_left_and_ended_cells(run, tmp_path):
    class Heard(CellProgress):
        def __init__(self):
            self.told, self.ended_cells, self.warnings = [], [], []

        def working(self, **counts):
            self.told.append(counts)

        def ended(self, record):
            self.ended_cells.append(record["config"]["number"])

        def warning(self, text):
            self.warnings.append(text)

    (tmp_path / "results.jsonl").write_text('{"key": "cut')
    heard = Heard()
    run(squares(4, seconds=0.2), progress=heard)
    assert heard.ended_cells == [0, 1, 2, 3]
    assert heard.told[-1] == {"done": 4, "failed": 0, "total": 4, "seconds_left": 0.0}
    half = next(counts for counts in heard.told if counts["done"] == 2)
    assert 0.2 < half["seconds_left"] < 0.6  # two cells of 0.2 s
    assert "cut off" in heard.warnings[0]


def test_a_worker_has_one_thread_and_never_sees_the_callers_script(run, tmp_path):
    run([Cell({}, code="toy")], "threads")
    assert recorded(tmp_path)[0]["result"] == {"threads": "1", "main": "-c"}


def test_what_a_killed_cell_left_is_taken_away(run, tmp_path):
    left = tmp_path / "work" / "runs" / "cell-x"
    left.mkdir(parents=True)
    run(squares(1))
    assert not left.exists()


def test_peak_memory_begins_anew_with_each_cell():
    big = worker.answered(lambda _: {"sum": sum(bytearray(b"\1" * 300_000_000)[:10])}, {})
    small = worker.answered(lambda _: {"sum": 0}, {})
    if not os.access("/proc/self/clear_refs", os.W_OK):
        pytest.skip("this system keeps one peak a process")
    assert big["times"]["peak_memory_bytes"] - small["times"]["peak_memory_bytes"] > 200_000_000


# A runner in a process of its own, to be stopped and killed

SCRIPT = """
import sys
from pathlib import Path
from winnow.bench.cells import Cell
from winnow.bench.results import Results
from winnow.bench.runner import run_cells
from winnow.errors import WinnowError

out = Path(sys.argv[1])
cells = [Cell({"number": n, "seconds": 0.02 * (n % 4)}, code="toy") for n in range(40)]
try:
    with Results(out / "results.jsonl") as results:
        run_cells(cells, "tests.bench.toys:square", results, folder=out / "work", workers=2)
except WinnowError as error:
    print(error)
    sys.exit(error.exit_code)
"""


def started(out: Path) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out)], cwd=ROOT, stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip


def without_times(path: Path) -> list[dict]:
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    return [{name: value for name, value in line.items() if name not in ("times", "finished")} for line in lines]


def wait_for_lines(path: Path, count: int) -> None:
    end = time.monotonic() + 30
    while not path.exists() or path.read_text().count("\n") < count:
        assert time.monotonic() < end, "no cell ended"
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_cleanly_and_says_how_to_go_on(tmp_path, number):
    process = started(tmp_path)
    wait_for_lines(tmp_path / "results.jsonl", 2)
    process.send_signal(number)
    told, _ = process.communicate(timeout=10)
    assert process.returncode == 128 + number
    assert "of 40 cells done" in told
    assert "The same command goes on" in told
    there = len((tmp_path / "results.jsonl").read_text().splitlines())
    assert 2 <= there < 40
    with started(tmp_path) as again:
        again.communicate(timeout=60)
    assert again.returncode == 0
    assert len(without_times(tmp_path / "results.jsonl")) == 40


@pytest.mark.slow
def test_killed_ten_times_the_final_file_equals_an_uninterrupted_one_but_for_times(tmp_path):
    with started(tmp_path / "whole") as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    moments = random.Random(0)
    path = tmp_path / "killed" / "results.jsonl"
    for _ in range(10):
        there = path.read_text().count("\n") if path.exists() else 0
        process = started(tmp_path / "killed")
        wait_for_lines(path, min(38, there + moments.randrange(5)))
        time.sleep(0.03 * moments.random())
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    with started(tmp_path / "killed") as process:
        process.communicate(timeout=60)
    assert process.returncode == 0
    assert without_times(tmp_path / "killed" / "results.jsonl") == without_times(tmp_path / "whole" / "results.jsonl")


@pytest.mark.slow
def test_workers_end_with_a_killed_runner(tmp_path):
    process = started(tmp_path)
    wait_for_lines(tmp_path / "results.jsonl", 1)
    process.kill()
    process.communicate()

    def alive() -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                words = entry.read_bytes()
            except OSError:
                continue
            if str(tmp_path / "work").encode() in words:
                found.append(entry.parent.name)
        return found

    end = time.monotonic() + 5
    while alive() and time.monotonic() < end:
        time.sleep(0.05)
    assert alive() == []


# What cells share


def test_a_collection_is_decoded_once_and_mapped_by_cells(tmp_path):
    prepared = shared.prepare({"data": "digits", "limit": 100}, tmp_path)
    assert (len(prepared.train), len(prepared.test)) == (100, 360)
    arrays = sorted(tmp_path.rglob("train.npy"))
    changed = arrays[0].stat().st_mtime_ns
    shared.use(tmp_path)
    try:
        found = shared.opened({"limit": 100, "data": "digits"})
        assert found.fingerprint == prepared.fingerprint
        assert (found.train.pictures.array == prepared.train.pictures.array).all()
        assert str(found.train.pictures.array.filename).startswith(str(tmp_path))
    finally:
        shared.use(None)
    shared.prepare({"data": "digits", "limit": 100}, tmp_path)
    assert arrays[0].stat().st_mtime_ns == changed


def test_the_fingerprint_is_that_of_the_files_content_wherever_they_lie(tmp_path):
    from PIL import Image

    for folder in ("a", "b"):
        for name, colour in (("cat", 10), ("dog", 200)):
            (tmp_path / folder / name).mkdir(parents=True)
            for number in range(2):
                Image.new("RGB", (16, 16), (colour + number, 0, 0)).save(tmp_path / folder / name / f"{number}.png")
    first = shared.prepare({"data": str(tmp_path / "a")}, tmp_path / "work")
    assert shared.prepare({"data": str(tmp_path / "b")}, tmp_path / "work").fingerprint == first.fingerprint
    Image.new("RGB", (16, 16), (99, 9, 9)).save(tmp_path / "a" / "dog" / "1.png")
    assert shared.prepare({"data": str(tmp_path / "a")}, tmp_path / "work").fingerprint != first.fingerprint


def test_unreadable_pictures_are_left_out_for_every_cell(tmp_path):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(3):
            Image.new("RGB", (16, 16), (50 * number, 0, 0)).save(tmp_path / "photos" / name / f"{number}.png")
    (tmp_path / "photos" / "cat" / "1.png").write_bytes(b"")
    found = shared.prepare({"data": str(tmp_path / "photos")}, tmp_path / "work")
    assert list(found.train.noisy_labels) == [0, 0, 1, 1, 1]
    assert len(found.train.pictures) == 5


def test_an_unknown_setting_of_the_data_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no setting 'lable_column'"):
        shared.prepare({"data": "digits", "lable_column": "x"}, tmp_path)
