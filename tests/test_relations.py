"""`make relations`: which grids run, what is recorded, when it fails."""

from __future__ import annotations

import json

import pytest

from benchmarks import relations
from winnow.errors import InputError, UsageError


def record(name="winnow", *, holds=True, failed=0, each=False):
    verdict = {"claim": "winnow gains", "holds": holds, "measured": 0.02, "at_least": 0.01, "differences": [0.01, 0.03]}
    verdict["each"] = each
    return {
        "relations": name,
        "date": "2026-01-01T00:00:00+00:00",
        "seeds": [0, 1],
        "cells": 4,
        "failed": failed,
        "wall_seconds": 12.3,
        "verdicts": [verdict],
    }


def test_the_oldest_are_chosen_and_those_without_a_record_come_first(tmp_path):
    names = relations.chosen([], None)
    assert {"bootstrapping", "label-smoothing", "winnow"} <= set(names)
    for number, name in enumerate(reversed(names)):
        relations.write(record(name) | {"date": f"2026-01-{10 + number}T00:00:00+00:00"}, tmp_path)
    assert relations.chosen([], 2, tmp_path) == names[::-1][:2]
    (tmp_path / f"{names[0]}.json").unlink()
    assert relations.chosen([], 2, tmp_path) == [names[0], names[-1]]
    with pytest.raises(ValueError, match="no relations are called 'winow'"):
        relations.chosen(["winow"], None)


@pytest.mark.parametrize(("holds", "failed", "code"), [(True, 0, 0), (False, 0, 1), (None, 0, 1), (True, 1, 1)])
def test_it_fails_where_a_relation_does_not_hold_or_was_not_measured(
    tmp_path, monkeypatch, capsys, holds, failed, code
):
    monkeypatch.setattr(relations, "measured", lambda name: record(name, holds=holds, failed=failed))
    assert relations.main(["winnow", "--out", str(tmp_path)]) == code
    assert json.loads((tmp_path / "winnow.json").read_text())["verdicts"][0]["holds"] is holds
    told = capsys.readouterr().out
    assert "+2.0 (at least +1.0; +1.0 +3.0)  winnow gains" in told
    assert {True: "  holds", False: "DOES NOT HOLD", None: "NOT MEASURED"}[holds] in told


def test_it_tells_where_each_seed_must_reach_the_difference():
    assert "(each at least +1.0; +1.0 +3.0)" in list(relations.lines(record(each=True)))[1]


def test_it_tells_what_a_value_must_not_exceed():
    below = record()
    below["verdicts"][0] |= {"at_least": None, "at_most": 0.65}
    assert "(at most +65.0; +1.0 +3.0)" in list(relations.lines(below))[1]


def test_only_missing_research_data_is_a_reason_not_to_run(tmp_path, monkeypatch, capsys):
    def fails(error):
        def measured(name):
            raise error

        monkeypatch.setattr(relations, "measured", measured)
        return relations.main(["winnow", "--out", str(tmp_path)])

    monkeypatch.delenv("WINNOW_DATA", raising=False)
    assert fails(InputError("mnist: not here")) == 0
    assert "not run, WINNOW_DATA names no folder: mnist: not here" in capsys.readouterr().out
    assert fails(UsageError("no such method")) == 2
    monkeypatch.setenv("WINNOW_DATA", str(tmp_path))
    assert fails(InputError("mnist: damaged")) == 4
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.slow
def test_a_grid_is_run_afresh_and_its_record_is_complete(tmp_path, monkeypatch):
    (tmp_path / "toy.toml").write_text(
        'title = "toy"\ndata = [{ data = "digits", limit = 150 }]\nmethod = ["bootstrap-hard"]\n'
        'noise = [{ kind = "symmetric", rate = 0.4 }]\nseeds = 2\ntrain = { model = "mlp", epochs = 1 }\n'
        '[[relation]]\nclaim = "loses no more than everything"\nbetter = "bootstrap-hard"\nthan = "cross-entropy"\n'
        'noise = { kind = "symmetric", rate = 0.4 }\nby = -1.0\n'
    )
    monkeypatch.setattr(relations, "GRIDS", tmp_path)
    found = relations.measured("toy")
    assert (found["cells"], found["failed"], found["seeds"]) == (4, 0, [0, 1])
    assert {"date", "commit", "cpu", "cores", "torch", "wall_seconds", "cpu_seconds"} <= set(found)
    assert relations.met(found)
    hard, plain = (
        next(row for row in found["rows"] if row["method"] == name) for name in ("bootstrap-hard", "cross-entropy")
    )
    expected = [a - b for a, b in zip(hard["test_accuracy_last"], plain["test_accuracy_last"], strict=True)]
    assert found["verdicts"][0]["differences"] == pytest.approx(expected)
    assert found["training"][0]["epochs"] == 1
