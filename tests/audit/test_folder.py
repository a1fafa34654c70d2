"""The folder of an audit: it comes to be as a whole, and takes nothing away that an audit did not write."""

from __future__ import annotations

import os
import shutil
from itertools import count
from pathlib import Path

import pytest

from winnow.audit.folder import LABELS, QUARANTINE, REPORT, SOURCE, SUMMARY, AuditFolder
from winnow.data.open import open_source
from winnow.errors import InputError
from winnow.train.run_folder import RunFolder


def written(folder: AuditFolder, what: str) -> None:
    folder.begin(open_source("digits", limit=5), {"unlabelled_ok": True})
    for name in (LABELS, QUARANTINE, REPORT):
        (folder.path / name).write_text(what)
    folder.write_json(SUMMARY, {"what": what})


def files(path: Path) -> dict[str, bytes]:
    return {
        p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"
    }


@pytest.fixture
def old(tmp_path) -> Path:
    with AuditFolder(tmp_path / "a") as folder:
        written(folder, "old")
    (tmp_path / "a" / "notes.txt").write_text("mine")
    (tmp_path / "a" / "sub").mkdir()
    (tmp_path / "a" / "sub" / "labels.parquet").write_text("mine")
    return tmp_path / "a"


def test_force_replaces_what_an_audit_wrote_and_nothing_else(old):
    (old / "blind.csv").write_text("of the old audit")

    with AuditFolder(old, force=True) as folder:
        written(folder, "new")

    left = files(old)
    assert left["notes.txt"] == left["sub/labels.parquet"] == b"mine"
    assert left[LABELS] == left[REPORT] == b"new"
    assert "blind.csv" not in left
    assert set(left) == {"notes.txt", "sub/labels.parquet", SOURCE, SUMMARY, LABELS, QUARANTINE, REPORT}


def test_a_run_is_no_audit_and_is_not_replaced_by_one(tmp_path):
    run = RunFolder(tmp_path / "run")
    run.write_config({"schema_version": 1, "command": "x"})
    run.write_summary({})
    run.close()
    before = files(tmp_path / "run")

    with pytest.raises(InputError, match="neither empty nor an audit"):
        AuditFolder(tmp_path / "run", force=True)
    assert files(tmp_path / "run") == before


def test_tables_without_the_record_of_an_audit_may_be_anyones(tmp_path):
    (tmp_path / "labels.parquet").write_text("mine")
    with pytest.raises(InputError, match="neither empty nor an audit"):
        AuditFolder(tmp_path)


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, InputError])
@pytest.mark.parametrize("finished", [False, True])
def test_an_audit_that_is_stopped_leaves_the_earlier_one(old, error, finished):
    before = files(old)

    with pytest.raises(error), AuditFolder(old, force=True) as folder:  # noqa: PT012 - what fails is the body
        folder.begin(open_source("digits", limit=5), {})
        (old / LABELS).write_text("half")
        (old / "blind.csv").write_text("half")
        if finished:
            folder.write_json(SUMMARY, {})
        raise error

    if finished and error is not KeyboardInterrupt:  # the tables are whole, only their report is not
        assert files(old)[LABELS] == b"half"
    else:
        assert files(old) == before


def test_an_audit_that_is_stopped_leaves_no_folder_and_the_same_call_begins_anew(tmp_path):
    out = tmp_path / "a"
    with pytest.raises(KeyboardInterrupt), AuditFolder(out) as folder:  # noqa: PT012
        written(folder, "new")
        raise KeyboardInterrupt

    assert list(tmp_path.iterdir()) == []
    with AuditFolder(out) as folder:
        written(folder, "new")
    assert AuditFolder.is_there(out)


def finishes(path: Path, steps: int, *, force: bool, fails: bool = False) -> bool:
    """Whether a process makes an audit with so many changes of the disk; after them it dies."""
    if pid := os.fork():
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert code in (0, 9)
        return code == 0
    left = steps

    def counted(function):
        def counting(*arguments, **named):
            nonlocal left
            if not left:
                os._exit(9)
            left -= 1
            return function(*arguments, **named)

        return counting

    try:
        for name in ("rename", "unlink", "mkdir", "rmdir", "write_text"):
            setattr(Path, name, counted(getattr(Path, name)))
        os.replace = counted(os.replace)
        with AuditFolder(path, force=force) as folder:
            written(folder, "new")
            if fails:
                (folder.path / SUMMARY).unlink()
    except BaseException:
        os._exit(1)
    os._exit(0)


@pytest.mark.parametrize("fails", [False, True])
def test_a_process_that_dies_anywhere_leaves_the_earlier_audit_or_the_new_one(old, fails):
    before, replaced = files(old), []
    for step in count():
        out = old.with_name(str(step))
        shutil.copytree(old, out)
        done = finishes(out, step, force=True, fails=fails)
        AuditFolder(out, resume=True).close()  # whoever comes next puts things right
        now = files(out)
        if now != before:
            replaced.append(step)
            assert now[LABELS] == now[QUARANTINE] == now[REPORT] == b"new"
            assert now["notes.txt"] == now["sub/labels.parquet"] == b"mine"
            assert len(now) == len(before)
        if done:
            break
    assert step > 12
    assert (step in replaced) is not fails


def test_where_an_audit_was_killed_the_same_call_begins_anew(tmp_path):
    killed = 0
    for step in count():
        out = tmp_path / str(step)
        done = finishes(out, step, force=False)
        if not AuditFolder.is_there(out):
            killed += 1
            with AuditFolder(out) as folder:
                written(folder, "again")
        assert files(out)[LABELS] == files(out)[REPORT] == (b"new" if done else files(out)[LABELS])
        assert {path.name for path in out.iterdir()} <= AuditFolder.files | {".lock"}
        if done:
            break
    assert killed > 5
