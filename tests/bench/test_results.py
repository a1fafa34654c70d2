import errno
import json
import os
import re

import pytest

from winnow.bench import results as module
from winnow.bench.results import Results, read_records
from winnow.errors import InputError, MachineError


def record(key, **more):
    return {"key": key, "result": {"accuracy": 0.5}, **more}


@pytest.fixture
def path(tmp_path):
    return tmp_path / "deep" / "results.jsonl"


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_what_was_appended_is_there_at_the_next_start(path):
    with Results(path) as results:
        results.append(record("a"))
        results.append({"key": "b", "error": "out of memory"})
    with Results(path) as results:
        assert [item["key"] for item in results] == ["a", "b"]
        assert results.done("a")
        assert not results.done("b"), "a failed cell is tried again"
        assert not results.done("c")
        assert results.notes == []


def test_the_last_record_of_a_key_counts(path):
    with Results(path) as results:
        results.append({"key": "a", "error": "no"})
        results.append(record("b"))
        results.append(record("a"))
        assert results.done("a")
    assert [item["key"] for item in read_records(path)] == ["a", "b"]


def test_a_second_runner_is_kept_out_and_told_who_has_the_file(path):
    with Results(path), pytest.raises(InputError, match=rf"in use by process {os.getpid()} on") as told:
        Results(path)
    assert told.value.exit_code == 4
    with Results(path) as results:
        assert len(results) == 0


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_cut_off_by_a_kill_is_taken_away_and_told(path, cut):
    with Results(path) as results:
        results.append(record("a"))
        results.append(record("b", text="größer"))
    whole = path.read_bytes()
    first = whole[: whole.index(b"\n") + 1]
    path.write_bytes(whole[: len(whole) - 1 - cut])
    with Results(path) as results:
        assert len(results.notes) == 1
        assert "cut off" in results.notes[0]
        assert results.done("a")
        assert not results.done("b")
        assert path.read_bytes() == first
        results.append(record("b"))
    assert [item["key"] for item in lines(path)] == ["a", "b"]


def test_a_cut_inside_a_letter_is_repaired(path):
    path.parent.mkdir()
    path.write_bytes(b'{"key": "a", "result": {}}\n{"key": "\xc3')
    with Results(path) as results:
        assert [item["key"] for item in results] == ["a"]


def test_a_whole_last_line_without_its_line_break_is_kept(path):
    path.parent.mkdir()
    path.write_bytes(b'{"key": "a", "result": {}}')
    with Results(path) as results:
        assert results.done("a")
        assert results.notes == []
        results.append(record("b"))
    assert [item["key"] for item in lines(path)] == ["a", "b"]


@pytest.mark.parametrize("line", [b"{broken", b'{"result": 1}', b"[1]"])
def test_a_damaged_line_in_the_middle_is_refused_with_its_number(path, line):
    path.parent.mkdir()
    path.write_bytes(b'{"key": "a", "result": {}}\n' + line + b'\n{"key": "b", "result": {}}\n')
    with pytest.raises(InputError, match="line 2") as told:
        Results(path)
    assert told.value.exit_code == 4
    assert path.read_bytes().count(b"\n") == 3, "nothing was taken away"
    with pytest.raises(InputError, match="line 2"):
        Results(path)  # not "in use": the lock went with the failure


@pytest.mark.parametrize("written", [0, 7])
def test_a_full_disk_leaves_the_file_as_it_was(path, monkeypatch, written):
    results = Results(path)
    results.append(record("a"))
    before = path.read_bytes()
    write = os.write
    told = []

    def full(file, data):
        if told or not written:
            raise OSError(errno.ENOSPC, "No space left on device")
        told.append(1)
        return write(file, data[:written])

    monkeypatch.setattr(module.os, "write", full)
    with pytest.raises(MachineError, match="disk is full") as error:
        results.append(record("b"))
    assert error.value.exit_code == 5
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert not results.done("b")
    results.append(record("b"))
    results.close()
    assert [item["key"] for item in lines(path)] == ["a", "b"]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(MachineError, match=re.escape(str(tmp_path / "file"))):
        Results(tmp_path / "file" / "results.jsonl")


def test_settling_puts_lines_in_order_and_keeps_the_others(path):
    with Results(path) as results:
        for key in ("old", "c", "a"):
            results.append(record(key))
        results.append({"key": "b", "error": "no"})
        results.append(record("b"))
        results.settle(["a", "b", "c", "never"])
        assert [item["key"] for item in lines(path)] == ["old", "a", "b", "c"]
        results.append(record("d"))
    assert [item["key"] for item in lines(path)] == ["old", "a", "b", "c", "d"]


def test_settling_a_settled_file_writes_nothing(path):
    with Results(path) as results:
        results.append(record("a"))
        before = path.stat().st_ino
        results.settle(["a"])
        assert path.stat().st_ino == before


def test_reading_repairs_and_locks_nothing(path):
    with Results(path) as results:
        results.append(record("a"))
        whole = path.read_bytes()
        path.write_bytes(whole + b'{"key": "b", "re')
        assert [item["key"] for item in read_records(path)] == ["a"]
        assert path.read_bytes() != whole
    with pytest.raises(InputError, match="cannot be read"):
        read_records(path.with_name("none.jsonl"))


def test_a_file_that_never_got_a_line_goes_with_its_folder(path):
    with Results(path):
        assert path.exists()
    assert not path.parent.exists()
    path.parent.mkdir()
    (path.parent / "mine").write_text("")
    with Results(path):
        pass
    assert [entry.name for entry in path.parent.iterdir()] == ["mine"]
