"""`winnow audit` that is stopped: one line, the code of the signal, nothing half written; the same call begins anew."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.test_cli import run

SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
PHASES = {
    "reading": "winnow.audit.run.load",
    "copies": "winnow.audit.run.find_copies",
    "features": "winnow.audit.run.embed",
    "judging": "winnow.audit.run.judge",
    "beginning": "winnow.audit.folder.source_record",
    "tables": "winnow.audit.looked.write_table",
    "summary": "winnow.audit.run.summary_of",
    "report": "winnow.report.audit.audit_values",
    "page": "winnow.report.audit.write_page",
}
"""Where each phase begins."""
AUDIT = ("audit", "digits", "--limit", "120", "--quiet", "--blind", "3")


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != ".lock"}


@pytest.fixture(scope="module")
def done(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("audits") / "done"
    assert run(*AUDIT, "--out", out) == 0
    (out / "notes.txt").write_text("mine")
    return out


@pytest.mark.parametrize(("number", "code"), SIGNALS)
@pytest.mark.parametrize("phase", PHASES)
def test_an_audit_that_is_stopped_in_any_phase_leaves_what_was_there(
    phase, number, code, done, tmp_path, capsys, monkeypatch
):
    def stopped(*_: object, **__: object) -> None:
        signal.raise_signal(number)  # not os.kill: another thread may take that, and the handler runs later
        time.sleep(5)  # the handler comes first

    shutil.copytree(done, tmp_path / "old")
    before = contents(tmp_path / "old")
    capsys.readouterr()
    with monkeypatch.context() as patched:
        patched.setattr(PHASES[phase], stopped)
        for arguments in (("--out", tmp_path / "new"), ("--out", tmp_path / "old", "--force")):
            assert run(*AUDIT, *arguments) == code
            assert capsys.readouterr().err.strip() == "stopped before the end; nothing was lost"

    assert contents(tmp_path / "old") == before
    assert {path.name for path in tmp_path.iterdir()} == {"old"}
    if phase == "page":
        assert run(*AUDIT, "--out", tmp_path / "new") == 0


def test_the_handlers_of_a_caller_are_as_before(done, tmp_path):
    before = [signal.getsignal(number) for number, _ in SIGNALS]
    assert run(*AUDIT, "--out", done) == 4
    assert [signal.getsignal(number) for number, _ in SIGNALS] == before


def test_sigterm_within_an_exec_of_text_ends_with_its_own_code(tmp_path):
    """Imports do such things: after a plain KeyboardInterrupt there, Python ends a module by SIGINT, caught or not."""
    (tmp_path / "stopped.py").write_text(
        "import signal\n"
        "from winnow.train.interrupt import interrupt_on_termination\n"
        "try:\n"
        "    with interrupt_on_termination():\n"
        "        exec('signal.raise_signal(signal.SIGTERM)')\n"
        "except KeyboardInterrupt:\n"
        "    raise SystemExit(143)\n"
    )
    root = Path(__file__).resolve().parents[2]
    done = subprocess.run(
        [sys.executable, "-m", "stopped"], cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(root)}, check=False
    )
    assert done.returncode == 143


@pytest.mark.slow
def test_an_audit_that_is_stopped_at_random_leaves_nothing_or_everything(tmp_path, done):
    chance = random.Random(0)
    command = [sys.executable, "-m", "winnow", *AUDIT]
    started = time.monotonic()
    subprocess.run([*command, "--out", tmp_path / "whole"], check=True)
    whole = time.monotonic() - started
    for trial in range(20):
        number, code = SIGNALS[trial % 2]
        out = tmp_path / str(trial)
        process = subprocess.Popen(
            [*command, "--out", str(out)],
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        time.sleep(chance.uniform(0, whole))
        process.send_signal(number)
        _, said = process.communicate(timeout=30)
        # Before the program is there, and after its work is done, a signal ends Python in its own way.
        assert process.returncode in (0, code, -number, 1)
        left = contents(out) if out.exists() else {}
        assert not left or left.keys() == contents(tmp_path / "whole").keys()
        if process.returncode == code:
            assert said.strip() == "stopped before the end; nothing was lost"
            assert not left
        if not left:
            assert run(*AUDIT, "--out", out) == 0
