"""Faults during training (rows 32 to 37 and 43 of the fault table): nothing is lost, one line says what happened."""

from __future__ import annotations

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import winnow.train.checkpoint as checkpoint_module
from tests.contract.harness import Crash, Script, build, fingerprint
from tests.contract.toys import FreshStudent, TwoNetworks
from winnow.data.open import open_source
from winnow.data.rows import subset
from winnow.errors import InputError, MachineError, UsageError
from winnow.methods.base import Method, Phase
from winnow.methods.cross_entropy import CrossEntropy
from winnow.methods.winnow import Winnow
from winnow.train.fit import Settings, fit
from winnow.train.progress import Progress
from winnow.train.run_folder import RunFolder
from winnow.train.trainer import Diverged


def test_a_phase_that_a_short_run_has_no_time_for_is_told(tmp_path):
    class Heard(Progress):
        warnings: tuple[str, ...] = ()

        def warning(self, text):
            self.warnings += (text,)

    source = subset(open_source("digits"), np.arange(120))
    for method, phase, epochs in (
        ("forward", "'correct'", 1),
        ("quality-embedding", "'embed quality'", 1),
        ("forward", None, 2),
    ):
        heard = Heard()
        fit(source, Settings(method, epochs=epochs), tmp_path / f"{method}-{epochs}", progress=heard)
        told = [text for text in heard.warnings if "has no time" in text]
        line = f"only 1 epoch: {method} has no time for its phase {phase}; try more --epochs"
        assert told == ([line] if phase else [])


class Undefined(CrossEntropy):
    """Cross-entropy whose loss is not a number in some steps of the run, as long as the rate is the full one."""

    name = "undefined"
    bad_steps: range = range(0)
    heals = False

    def loss(self, batch, moment):
        losses = super().loss(batch, moment)
        type(self).calls = getattr(type(self), "calls", 0) + 1
        if moment.step in self.bad_steps and not (self.heals and type(self).calls > len(self.bad_steps) + 5):
            return {"cross_entropy": losses["cross_entropy"] * float("nan")}
        return losses


def undefined(steps: range, heals: bool = False) -> type[Method]:
    return type("Undefined", (Undefined,), {"bad_steps": steps, "heals": heals, "calls": 0})


class Tolerant(Script):
    """Hears of going back without dying."""

    reasons: tuple[str, ...] = ()

    def went_back(self, reason: str) -> None:
        self.reasons += (reason,)


# Row 32


def test_a_few_undefined_steps_are_skipped(tmp_path):
    trainer = build(undefined(range(3, 6)), tmp_path, Tolerant())
    trainer.run()

    assert all(p.isfinite().all() for p in trainer.method.parameters())
    assert trainer._rollbacks == 0


def test_many_undefined_steps_go_back_to_the_checkpoint_and_on_with_half_the_rate(tmp_path):
    script = Tolerant()
    trainer = build(undefined(range(8, 20), heals=True), tmp_path, script, epochs=8)
    trainer.run()

    assert len(script.reasons) >= 1
    assert any("half the learning rate" in reason for reason in script.reasons)
    assert trainer._rate_scale < 1
    assert trainer.clock.cursor.total_epochs == 8
    assert all(p.isfinite().all() for p in trainer.method.parameters())


def test_a_loss_that_stays_undefined_ends_the_run_with_a_diagnosis(tmp_path):
    trainer = build(undefined(range(8, 1000)), tmp_path, Tolerant(), epochs=8)

    with pytest.raises(Diverged, match="lower --learning-rate") as caught:
        trainer.run()

    assert caught.value.exit_code == 4
    assert caught.value.details["at"]["total_steps"] > 0
    # The last good checkpoint is still there.
    again = build(CrossEntropy, tmp_path, epochs=8)
    again.load()
    assert all(p.isfinite().all() for p in again.method.parameters())


def test_a_diverged_run_leaves_its_diagnosis_in_the_folder(tmp_path):
    with pytest.raises(InputError, match=r"diagnosis\.json"):
        fit(open_source("digits"), Settings("cross-entropy", epochs=3, learning_rate=1e30), tmp_path / "run")

    diagnosis = json.loads((tmp_path / "run" / "diagnosis.json").read_text())
    assert "not finite" in diagnosis["reason"]


class Unlimited(CrossEntropy):
    """Surveys features that overflow at any rate."""

    name = "unlimited"

    def plan(self, epochs):
        return [Phase("train", self.loss, epochs=epochs, revise=lambda survey: pytest.fail("saw what is not finite"))]

    def observe(self, images):
        found = super().observe(images)
        found["features"][:3] = float("inf")
        return found


def test_a_survey_that_is_not_finite_ends_the_run_as_any_divergence(tmp_path):
    script = Tolerant()
    trainer = build(Unlimited, tmp_path, script)

    with pytest.raises(
        Diverged, match=r"training diverged: the network's features are not finite in 3 of 160 images.*"
    ):
        trainer.run()

    assert len(script.reasons) == 2
    assert all("half the learning rate" in reason for reason in script.reasons)


def test_what_a_method_has_to_say_reaches_the_listener(tmp_path):
    class Talks(CrossEntropy):
        name = "talks"

        def plan(self, epochs):
            self.warn("while planning")
            return [Phase("train", self.loss, epochs=epochs, begin=lambda: self.warn("as it begins"))]

    script = Tolerant()
    build(Talks, tmp_path, script).run()

    assert script.warnings == ("while planning", "as it begins")


@pytest.mark.parametrize(("batch", "rate"), [(32, 0.025), (64, 0.05), (96, 0.075), (4096, 0.05 * 100 / 64)])
def test_the_default_rate_grows_with_the_batch_as_far_as_images_fill_it(batch, rate, tmp_path):
    source = subset(open_source("digits"), np.arange(100))
    settings = Settings("cross-entropy", model="mlp", epochs=1, batch_size=batch, validation=0.0)

    assert fit(source, settings, tmp_path / "run").summary["settings"]["learning_rate"] == pytest.approx(rate)


# Row 33: death inside every system call of a save


@pytest.mark.parametrize("where", ["save_file", "sync", "os.replace", "shutil.rmtree", "memory.begin_log"])
@pytest.mark.parametrize("call", [1, 2, 3, 5, 8])
def test_a_process_that_dies_inside_a_save_loses_nothing(where, call, tmp_path, monkeypatch):
    reference = build(Winnow, tmp_path / "reference", epochs=3)
    reference.run()
    trainer = build(Winnow, tmp_path / "killed", epochs=3)
    owner, name = {
        "save_file": (checkpoint_module, "save_file"),
        "sync": (checkpoint_module, "sync"),
        "os.replace": (checkpoint_module.os, "replace"),
        "shutil.rmtree": (checkpoint_module.shutil, "rmtree"),
        "memory.begin_log": (trainer.checkpoints.memory, "begin_log"),
    }[where]
    real, calls = getattr(owner, name), 0

    def dies(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == call:
            raise Crash
        return real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, dies)
        try:
            trainer.run()
        except Crash:
            pass
        else:
            pytest.skip(f"{where} is called less than {call} times")

    resumed = build(Winnow, tmp_path / "killed", epochs=3)
    resumed.run(resume=True)

    assert fingerprint(resumed) == fingerprint(reference)


# Row 35


def test_a_full_disk_stops_the_run_and_keeps_the_last_checkpoint(tmp_path, monkeypatch):
    script = Script(save_at=7)
    trainer = build(TwoNetworks, tmp_path, script)
    real = checkpoint_module.save_file
    saves = 0

    def full(tensors, path):
        nonlocal saves
        saves += 1
        if saves == 3:
            Path(path).write_bytes(b"half")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(tensors, path)

    monkeypatch.setattr(checkpoint_module, "save_file", full)

    with pytest.raises(MachineError, match=r"disk is full: [\d,]+ bytes or more are needed") as caught:
        trainer.run()

    assert caught.value.exit_code == 5
    assert sorted(p.name for p in (tmp_path / "checkpoint").iterdir()) == ["000000000", "000000001"]
    monkeypatch.setattr(checkpoint_module, "save_file", real)
    resumed, reference = build(TwoNetworks, tmp_path), build(TwoNetworks, tmp_path / "reference")
    resumed.run(resume=True)
    reference.run()
    assert fingerprint(resumed) == fingerprint(reference)


# Row 36


def test_an_output_that_cannot_be_written_is_refused_at_the_start():
    with pytest.raises(MachineError, match="cannot be written"):
        fit(open_source("digits"), Settings(epochs=1), Path("/proc/winnow/run"))


def test_a_folder_that_vanishes_during_the_run_is_noticed(tmp_path):
    trainer = build(CrossEntropy, tmp_path / "run")
    real = trainer.save

    def vanishing() -> None:
        if trainer.clock.cursor.total_epochs == 2:
            shutil.rmtree(tmp_path / "run")
        real()

    trainer.save = vanishing  # type: ignore[method-assign]

    with pytest.raises(MachineError, match="cannot be written"):
        trainer.run()
    assert not (tmp_path / "run").exists()


# Row 37


def damaged(path: Path, how: str) -> None:
    tensors = path / "tensors.safetensors"
    if how == "truncated":
        tensors.write_bytes(tensors.read_bytes()[:-100])
    elif how == "one bit":
        data = bytearray(tensors.read_bytes())
        data[len(data) // 2] ^= 1
        tensors.write_bytes(data)
    elif how == "no manifest":
        (path / "manifest.json").unlink()
    elif how == "manifest is text":
        (path / "manifest.json").write_text("?")
    elif how == "state gone":
        (path / "state.json").unlink()


@pytest.mark.parametrize("how", ["truncated", "one bit", "no manifest", "manifest is text", "state gone"])
def test_a_damaged_checkpoint_falls_back_to_the_one_before(how, tmp_path):
    reference = build(FreshStudent, tmp_path / "reference")
    reference.run()
    with pytest.raises(Crash):
        build(FreshStudent, tmp_path / "run", Script(save_at=9, die_at=11)).run()
    newest = max((tmp_path / "run" / "checkpoint").iterdir())
    damaged(newest, how)
    script = Tolerant()

    resumed = build(FreshStudent, tmp_path / "run", script)
    resumed.run(resume=True)

    assert newest.name in script.reasons[0]
    assert "falling back" in script.reasons[0]
    assert fingerprint(resumed) == fingerprint(reference)


def test_when_every_checkpoint_is_damaged_the_line_says_so(tmp_path):
    build(CrossEntropy, tmp_path).run()
    for path in (tmp_path / "checkpoint").iterdir():
        damaged(path, "one bit")

    with pytest.raises(InputError, match=r"no usable checkpoint .*checksum differs.*--force"):
        build(CrossEntropy, tmp_path).run(resume=True)


def rewritten(path: Path, **changes: object) -> None:
    state = json.loads((path / "state.json").read_text()) | changes
    (path / "state.json").write_text(json.dumps(state))
    manifest = {name: checkpoint_module._digest(path / name) for name in ("tensors.safetensors", "state.json")}
    (path / "manifest.json").write_text(json.dumps(manifest))


def test_a_checkpoint_of_a_newer_version_is_refused(tmp_path):
    build(CrossEntropy, tmp_path).run()
    for path in (tmp_path / "checkpoint").iterdir():
        rewritten(path, schema_version=99)

    with pytest.raises(InputError, match="another version of winnow"):
        build(CrossEntropy, tmp_path).run(resume=True)


def test_a_checkpoint_of_other_data_is_refused(tmp_path):
    build(CrossEntropy, tmp_path).run()
    trainer = build(CrossEntropy, tmp_path)
    trainer.checkpoints.identity = {"data": "others"}

    with pytest.raises(InputError, match="made with other data"):
        trainer.run(resume=True)


def test_no_checkpoint_is_ever_unpickled(tmp_path, monkeypatch):
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("torch.load was called"))
    monkeypatch.setattr("pickle.load", lambda *_, **__: pytest.fail("pickle was called"))
    build(Winnow, tmp_path).run()
    build(Winnow, tmp_path).load()


# Row 43


def test_a_second_process_is_kept_out(tmp_path):
    first = RunFolder(tmp_path / "run")

    with pytest.raises(InputError, match=rf"in use by process {os.getpid()} on "):
        RunFolder(tmp_path / "run", resume=True)
    first.close()
    RunFolder(tmp_path / "run", resume=True).close()


def test_a_folder_that_is_no_run_is_never_emptied(tmp_path):
    (tmp_path / "holiday.jpg").write_bytes(b"precious")

    with pytest.raises(InputError, match="neither empty nor a run"):
        RunFolder(tmp_path, force=True)
    assert [p.name for p in tmp_path.iterdir()] == ["holiday.jpg"]


def test_a_folder_where_no_run_came_to_be_goes_but_for_what_others_put_there(tmp_path):
    folder = RunFolder(tmp_path / "run")
    _ = folder.memory
    folder.close()
    assert not (tmp_path / "run").exists()

    folder = RunFolder(tmp_path / "run")
    (tmp_path / "run" / "note.txt").write_text("mine")
    folder.close()
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["note.txt"]


def test_what_a_process_left_that_was_killed_before_it_began_is_no_obstacle(tmp_path):
    (tmp_path / "checkpoint" / "rows").mkdir(parents=True)
    (tmp_path / "checkpoint" / "rows" / "beliefs.partial").write_bytes(b"half")
    (tmp_path / ".0123456789abcdef.tmp").write_bytes(b"half")

    run = fit(open_source("digits"), Settings("cross-entropy", epochs=1), tmp_path, resume=True)

    assert run.summary["epochs"] == 1


def test_a_short_run_whose_every_step_is_undefined_fails_too(tmp_path):
    with pytest.raises(Diverged, match="all 5 steps of an epoch"):
        build(undefined(range(1000)), tmp_path, Tolerant(), epochs=2).run()


def run_files(path):
    return {
        p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file() and p.name != ".lock"
    }


@pytest.fixture
def old_run(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.write_config({"schema_version": 1, "command": "old"})
    folder.write_json("summary.json", {"old": True})
    (folder.checkpoints / "weights").write_bytes(b"old weights")
    folder.close()
    return tmp_path / "run"


def test_force_takes_an_earlier_run_away_only_when_the_new_one_begins(old_run):
    before = run_files(old_run)

    folder = RunFolder(old_run, force=True)
    (folder.checkpoints / "weights").write_bytes(b"new weights")
    folder.close()  # something was wrong with the new command
    assert run_files(old_run) == before

    folder = RunFolder(old_run, force=True)
    folder.write_config({"schema_version": 1, "command": "new"})
    folder.close()
    assert list(run_files(old_run)) == ["config.toml"]
    assert b"new" in run_files(old_run)["config.toml"]


DIES = """
import os, sys
from pathlib import Path
from winnow.train.run_folder import RunFolder

left, rename = int(sys.argv[2]), Path.rename

def dying(self, target):
    global left
    if not left:
        os._exit(9)
    left -= 1
    return rename(self, target)

Path.rename = dying
RunFolder(Path(sys.argv[1]), force=True)
os._exit(0)
"""


@pytest.mark.parametrize("moved", [0, 1, 2, 3])
def test_a_process_that_dies_while_it_replaces_a_run_leaves_the_earlier_one(old_run, moved):
    before = run_files(old_run)

    done = subprocess.run([sys.executable, "-c", DIES, str(old_run), str(moved)], check=False)

    assert done.returncode == (9 if moved < 3 else 0)  # checkpoint, summary and configuration are moved
    RunFolder(old_run, resume=True).close()
    assert run_files(old_run) == before


def test_a_wrong_option_beside_force_costs_nothing(old_run):
    before = run_files(old_run)

    with pytest.raises(UsageError):
        fit(open_source("digits", limit=40), Settings(method="nosuch"), old_run, force=True)
    with pytest.raises(UsageError):
        fit(open_source("digits", limit=40), Settings(model="timm:nosuch"), old_run, force=True)

    assert run_files(old_run) == before
