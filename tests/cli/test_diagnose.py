"""`winnow diagnose` as a person types it."""

from __future__ import annotations

import json

import pytest

from winnow.cli import main


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


def test_says_five_things_within_80_columns_and_writes_them(tmp_path, capsys):
    out = tmp_path / "found"
    assert run("diagnose", "digits", "--limit", 150, "--out", out) == 0
    told = capsys.readouterr().out
    assert run("diagnose", "digits", "--limit", 150, "--out", out) == 4
    assert "--force" in capsys.readouterr().err

    lines = [line for line in told.splitlines() if not line.startswith(("Report", "Next"))]
    assert max(map(len, lines)) <= 80
    for name in ("accuracy", "relevance", "complexity", "samples", "frequencies"):
        assert any(line.startswith(name) for line in lines)
    assert "--blind 60" in told
    summary = json.loads((out / "summary.json").read_text())
    assert summary["num_images"] == 150
    assert (out / "report.html").exists()


def test_json_is_one_object(capsys):
    assert run("diagnose", "digits", "--limit", 150, "--json") == 0
    summary = json.loads(capsys.readouterr().out)

    assert summary["command"] == "diagnose"
    assert set(summary["diagnostics"]) == {"accuracy", "relevance", "complexity", "samples", "frequencies"}
    assert summary["sentences"]
