"""`winnow doctor`: what it says, what it finds out, and that it does find a fault."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from PIL import features

from winnow.cli import main
from winnow.doctor import check, facts


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _no_research_data(monkeypatch):
    monkeypatch.delenv("WINNOW_DATA", raising=False)


def test_everything_works_here_and_fits_80_columns(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("WINNOW_SEDE", "1")

    assert run("doctor") == 0

    out = capsys.readouterr().out
    lines = out.splitlines()
    assert lines[-1] == "Everything works."
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if not line.startswith(" ")][:4] == [
        "winnow",
        "Parts",
        "Extras",
        "Devices",
    ]
    assert "WINNOW_SEDE (no option has this name)" in " ".join(out.split())
    assert os.listdir() == []  # nothing but the answer is left


def test_json_says_the_same_as_one_object(capsys):
    assert run("doctor", "--json") == 0

    out = capsys.readouterr().out
    found = json.loads(out)
    assert out.count("\n") == 1
    assert found["ok"] is True
    assert {
        "versions",
        "extras",
        "devices",
        "cores",
        "memory",
        "disk_free_bytes",
        "data",
        "pictures",
        "settings",
    } <= set(found)
    names = [done["name"] for done in found["checks"]]
    assert names[0] == "pictures"
    assert {"train, cpu", "resume, cpu", "predict, cpu"} <= set(names)
    assert found["data"]["collections"]["digits"] is True
    assert found["data"]["collections"]["cifar10"] is False
    assert found["devices"][0]["device"] == "cpu"


def test_a_decoder_that_gives_other_pixels_is_found_out(capsys, monkeypatch):
    from winnow.data import decode

    honest = decode.decode
    monkeypatch.setattr(decode, "decode", lambda data, **limits: honest(data, **limits)[..., ::-1])

    assert run("doctor") == 5

    captured = capsys.readouterr()
    assert captured.err.startswith("error: doctor: pictures failed: JPEG: off by ")
    assert captured.err.count("\n") == 1
    assert "Everything works" not in captured.out


def test_a_checkpoint_that_brings_back_something_else_is_found_out(tmp_path):
    check.training_learns(tmp_path / "run", "cpu")
    [newest, *_] = sorted((p for p in (tmp_path / "run/checkpoint").iterdir() if p.name.isdigit()), reverse=True)
    model = tmp_path / "run/model.safetensors"
    model.write_bytes(model.read_bytes()[:-1] + b"\0\0")  # the first run's weights were others than the checkpoint's

    assert newest.is_dir()
    with pytest.raises(check.Failed, match="other weights"):
        check.checkpoint_brings_the_run_back(tmp_path / "run")


def test_a_model_that_predicts_something_else_is_found_out(tmp_path):
    check.training_learns(tmp_path / "run", "cpu")
    summary = json.loads((tmp_path / "run/summary.json").read_text())
    (tmp_path / "run/summary.json").write_text(json.dumps(summary | {"test_accuracy_last": 0.25}))

    with pytest.raises(check.Failed, match=r"0\.25 in the run"):
        check.predictions_agree(tmp_path / "run", "cpu")


def test_every_format_checked_is_one_that_is_read():
    from winnow.data import decode

    assert set(check.FORMATS) == set(decode._OPENERS)
    assert features.check("avif")
    assert features.check("webp")


def test_missing_extras_come_with_one_line_to_add_them(monkeypatch):
    needs = ["numpy>=2", 'nosuch-a>=1; extra == "fast"', 'numpy; extra == "there"', 'nosuch-b; extra == "timm"',
             'pytest; extra == "dev"']  # fmt: skip
    monkeypatch.setattr(facts.metadata, "requires", lambda name: needs)

    found = facts.extras()

    assert found == {
        "fast": {"needs": ["nosuch-a"], "missing": ["nosuch-a"]},
        "there": {"needs": ["numpy"], "missing": []},
        "timm": {"needs": ["nosuch-b"], "missing": ["nosuch-b"]},
    }
    assert facts.install_line(found) == 'pip install "winnow-images[fast,timm]"'
    assert facts.install_line({"there": found["there"]}) is None


@pytest.mark.parametrize(
    ("files", "total", "free"),
    [
        ({}, 8000, 5000),
        ({"memory.max": "4096000", "memory.current": "1024000"}, 4000, 3000),
        ({"memory.max": "max", "memory.current": "1024000"}, 8000, 5000),
        ({"memory.limit_in_bytes": "4096000", "memory.usage_in_bytes": "4096000"}, 4000, 0),
        ({"memory.limit_in_bytes": str(2**63 - 4096), "memory.usage_in_bytes": "1"}, 8000, 5000),
    ],
)
def test_memory_is_what_the_container_has(files, total, free, tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 8000 kB\nMemFree: 1 kB\nMemAvailable: 5000 kB\nHugePages_Total: 0\n")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(facts, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(facts, "_groups", lambda: [tmp_path])

    assert facts.memory() == {"total_bytes": total * 1024, "free_bytes": free * 1024}


def test_a_system_without_meminfo_says_unknown(monkeypatch):
    from winnow.cli.doctor import _amount

    monkeypatch.setattr(facts, "_MEMINFO", Path("/nowhere/meminfo"))
    monkeypatch.setattr(facts, "_groups", list)

    assert _amount(facts.memory()) == "unknown"
