"""`winnow export`: what is refused, what is replaced, what is left after a failure."""

import errno
import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.export.audits import fates, png, write_audit
from winnow.cli import main
from winnow.data.open import open_source
from winnow.errors import InputError, Interrupted, MachineError, UsageError
from winnow.export import content
from winnow.export.fates import Rule
from winnow.export.run import FORMATS, export


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def test_a_person_reads_the_counts_and_where_to_go_on(audited, tmp_path, capsys):
    assert run("export", audited, "--to", "folder", "--out", tmp_path / "clean") == 0

    said, told = capsys.readouterr()
    assert said.splitlines()[0] == f"6 of 12 images exported to {tmp_path / 'clean'} (folder)."
    assert "  wrong_label                    1  left out: its label looks wrong" in said
    assert said.splitlines()[-1] == f"Next     winnow train {tmp_path / 'clean'}"
    assert told.startswith("Data     12 images, 3 classes, judged in ")


def test_json_is_one_object_whose_counts_add_up(audited, tmp_path, capsys):
    code = run("export", audited, "--to", "parquet", "--out", tmp_path / "a.parquet", "--apply-suggestions",
               "--keep-outliers", "--keep-duplicates", "--json")  # fmt: skip

    said, told = capsys.readouterr()
    summary = json.loads(said)
    assert code == 0
    assert told == ""
    assert summary["fates"] == {"kept": 10, "relabelled": 1, "unreadable": 1}
    assert summary["exported"] == 11
    assert len(open_source(tmp_path / "a.parquet")) == 11


def test_quiet_says_nothing(audited, tmp_path, capsys):
    assert run("export", audited, "--to", "csv", "--out", tmp_path / "a.csv", "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_the_command_names_every_format():
    from winnow.cli.export import _FORMATS

    assert tuple(FORMATS) == _FORMATS


def test_a_finished_run_is_exported_too(photos, tmp_path):
    audited = tmp_path / "audit"
    write_audit(audited, photos, found={"wrong_label": [4], "unreadable": [0]}, suggested={4: 2})
    for name in ("findings.parquet", "source.json"):
        (audited / name).unlink()
    record = [
        "schema_version = 1",
        'command = "winnow train"',
        "[data]",
        f'address = "{photos}"',
        "max_pixels = 50000000",
    ]
    (audited / "config.toml").write_text("\n".join([*record, "[train]", "seed = 0"]))

    summary = export(audited, "folder", tmp_path / "out")

    assert summary["fates"] == {"kept": 10, "unreadable": 1, "wrong_label": 1}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"to": "folders"}, "unknown; the formats are folder, csv"),
        ({"to": "csv", "out": "a.txt"}, "must end in .csv"),
        ({"to": "cleanlab", "out": "a.csv", "rule": Rule(keep_outliers=True)}, "leave the options that choose away"),
        ({"to": "parquet", "out": "a.parquet", "link": True}, "--link: --to parquet places no image files; folder"),
    ],
)
def test_options_that_do_not_fit_are_refused(audited, tmp_path, arguments, said):
    arguments = {"out": "out", **arguments}
    arguments["out"] = tmp_path / arguments["out"]
    with pytest.raises(UsageError, match=said):
        export(audited, **arguments)


@pytest.mark.parametrize(("to", "name"), [("folder", "out"), ("parquet", "out.parquet")])
def test_only_an_earlier_export_is_replaced_and_only_if_wanted(audited, tmp_path, to, name):
    out = tmp_path / name
    export(audited, to, out)
    with pytest.raises(InputError, match="is there already"):
        export(audited, to, out)

    export(audited, to, out, Rule(keep_outliers=True), force=True)
    assert len(open_source(out)) == 7
    assert not list(tmp_path.glob(".*"))

    foreign = tmp_path / f"foreign-{name}"
    foreign.write_text("mine") if to == "parquet" else foreign.mkdir() or (foreign / "mine").write_text("mine")
    with pytest.raises(InputError, match="no earlier export, so it is not replaced"):
        export(audited, to, foreign, force=True)
    assert foreign.exists()


def test_an_empty_folder_is_filled(audited, tmp_path):
    (tmp_path / "out").mkdir()
    assert export(audited, "folder", tmp_path / "out")["exported"] == 6


@pytest.mark.parametrize("out", ["photos/clean", "audit/clean"])
def test_the_source_and_the_audit_are_never_written_to(audited, tmp_path, out):
    with pytest.raises(InputError, match="must not be, hold or lie in"):
        export(audited, "folder", tmp_path / out)
    assert not (tmp_path / out).exists()


def test_a_source_that_changed_is_refused_in_one_line(audited, photos, tmp_path):
    (photos / "cat/0.png").rename(photos / "cat/00.png")
    with pytest.raises(InputError, match=r"image 1 is 'cat/00.png', in .*audit 'cat/0.png': it has changed since"):
        export(audited, "csv", tmp_path / "a.csv")
    (photos / "cat/00.png").unlink()
    with pytest.raises(InputError, match=r"11 images, but .*audit is about 12: it has changed since"):
        export(audited, "csv", tmp_path / "a.csv")


def test_a_picture_that_vanishes_meanwhile_is_left_out_and_counted(audited, photos, tmp_path, monkeypatch):
    original = content.encoded

    def vanishing(pictures, row):
        if row == 0:
            (photos / "cat/0.png").unlink()
        return original(pictures, row)

    monkeypatch.setattr(content, "encoded", vanishing)
    summary = export(audited, "folder", tmp_path / "out")

    assert (summary["exported"], summary["fates"]["unreadable"]) == (5, 2)
    assert fates(tmp_path / "out/fates.parquet")[0]["file"] is None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda folder: (folder / "labels.parquet").unlink(), "not finished, it has no labels.parquet"),
        (lambda folder: (folder / "labels.parquet").write_bytes(b"no"), "damaged: labels.parquet cannot be read"),
        (lambda folder: (folder / "source.json").write_text("{"), "not readable as the record of an audit"),
        (lambda folder: (folder / "source.json").write_text('{"schema_version": 2}'), "damaged"),
        (lambda folder: (folder / "source.json").unlink(), "holds no audit and no run"),
    ],
)
def test_a_damaged_folder_ends_in_one_line(audited, tmp_path, damage, said):
    damage(audited)
    with pytest.raises(InputError, match=said) as caught:
        export(audited, "csv", tmp_path / "a.csv")
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there(tmp_path, capsys):
    assert run("export", tmp_path / "none", "--to", "csv", "--out", tmp_path / "a.csv") == 4
    assert "no such folder" in capsys.readouterr().err


@pytest.mark.parametrize(("to", "name"), [("folder", "out"), ("parquet", "out.parquet"), ("coco", "coco")])
def test_a_full_disk_ends_with_the_bytes_needed_and_leaves_the_old_one(audited, tmp_path, monkeypatch, to, name):
    out = tmp_path / name
    export(audited, to, out)
    before = {path: path.read_bytes() for path in [out, *out.rglob("*")] if path.is_file()}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("winnow.export.tables._columns", full)
    with pytest.raises(MachineError, match=r"the disk is full: [0-9,]+ bytes or more are needed") as caught:
        export(audited, to, out, force=True)

    assert caught.value.exit_code == 5
    assert {path: path.read_bytes() for path in before} == before
    assert not list(tmp_path.glob(".*"))


def test_a_disk_that_is_too_small_is_told_before_anything_is_copied(audited, tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    needed = sum((tmp_path / "photos" / name).stat().st_size for name in
                 ("cat/0.png", "dog/1.png", "dog/7.png", "fox/11.png", "fox/5.png", "fox/8.png"))  # fmt: skip

    with pytest.raises(MachineError, match=f"too small: {needed:,} bytes or more are needed, 10 are free"):
        export(audited, "folder", tmp_path / "out")
    export(audited, "csv", tmp_path / "out.csv")


def test_who_stops_it_finds_nothing_half_written(audited, tmp_path, monkeypatch):
    original = content.encoded

    def interrupting(pictures, row):
        signal.raise_signal(signal.SIGINT)
        return original(pictures, row)

    monkeypatch.setattr(content, "encoded", interrupting)
    with pytest.raises(Interrupted, match="nothing was written") as caught:
        export(audited, "folder", tmp_path / "out")

    assert caught.value.exit_code == 130
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit", "photos"]


@pytest.mark.slow
def test_memory_does_not_grow_with_the_pictures(tmp_path):
    """600 pictures of 1 MB as Parquet: about ten groups of rows, of which one is in memory."""
    (tmp_path / "photos/cat").mkdir(parents=True)
    for number in range(600):
        (tmp_path / f"photos/cat/{number}.png").write_bytes(png(number % 256) + bytes(2**20))
    write_audit(tmp_path / "audit", tmp_path / "photos")
    code = (
        "import resource, sys; from pathlib import Path; from winnow.export.run import export\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "export(Path(sys.argv[1]), 'parquet', Path(sys.argv[2]))\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)"
    )
    started = time.monotonic()
    found = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "audit", tmp_path / "a.parquet"],
        capture_output=True,
        text=True,
        check=True,
    )

    assert float(found.stdout) < 350, f"MiB after {time.monotonic() - started:.0f} s"
