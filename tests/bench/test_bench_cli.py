"""`winnow bench` as a person types it."""

from __future__ import annotations

import json

import pytest

from winnow.bench import command
from winnow.cli import main

FLAGS = ["bench", "--data", "digits", "--noise", "pair:0.3", "--seeds", "1", "--epochs", "1", "--workers", "1",
         "--limit", "200"]  # fmt: skip


def exits(arguments) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code)


@pytest.mark.slow
def test_flags_make_a_grid_and_a_second_call_runs_nothing_again(tmp_path, capsys):
    arguments = [*FLAGS, "--method", "cross-entropy", "--out", tmp_path / "out", "--json"]
    assert exits(arguments) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["failed"], told["left"]) == (1, 0, 0)
    assert told["rows"][0]["method"] == "cross-entropy"
    results = tmp_path / "out" / "results.jsonl"
    before = results.read_bytes()
    assert exits([*arguments[:-1], "--quiet"]) == 0
    assert results.read_bytes() == before
    assert {path.name for path in results.parent.iterdir()} == {
        "results.jsonl", ".results.jsonl.lock", "results.csv", "report.html"
    }  # fmt: skip
    heard = capsys.readouterr()
    assert "cross-entropy reaches" in heard.out
    assert heard.err == ""


@pytest.mark.slow
def test_a_failing_cell_ends_in_exit_code_1_after_the_rest(tmp_path, capsys):
    mine = tmp_path / "mine.py"
    mine.write_text(
        "from winnow.methods.cross_entropy import CrossEntropy\n"
        "class Mine(CrossEntropy):\n"
        "    name = 'mine'\n"
        "    def loss(self, batch, moment):\n"
        "        raise RuntimeError('too bad')\n"
    )
    assert exits([*FLAGS, "--method", f"{mine}:Mine", "--out", tmp_path / "out"]) == 1
    heard = capsys.readouterr()
    assert "1 cell of 2 failed, the first with: RuntimeError: too bad" in heard.err
    assert "Only cross-entropy has a result" in heard.out
    assert "1 of 2 cells have a result, none of " in heard.out


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["bench"], 2, "name a grid or --data"),
        (["bench", "--data", "digits", "--method", "winow"], 2, "did you mean winnow?"),
        (["bench", "--data", "digits", "--method", "winnow windo=2"], 2, "did you mean window?"),
        (["bench", "--data", "digits", "--noise", "symetric:0.2"], 2, "did you mean symmetric?"),
        (["bench", "--data", "digts"], 4, "did you mean digits?"),
        (["bench", "no-such.toml"], 4, "no such file"),
        (["bench", "--data", "digits", "--workers", "0"], 2, "--workers must be at least 1"),
    ],
)
def test_mistakes_end_in_one_line_before_anything_runs(tmp_path, capsys, arguments, code, told):
    out = tmp_path / "out"
    assert exits([*arguments, "--out", out]) == code
    heard = capsys.readouterr()
    assert told in heard.err
    assert heard.err.count("error:") == 1
    assert not out.exists()


def test_a_grid_that_comes_along_is_found_by_its_name():
    name = next(iter(command.shipped()))
    wanted = command.wanted_grid(
        name, data=[], noise=[], methods=[], seeds=1, size="cpu", training={"epochs": 2}, reading={}
    )
    assert wanted.name == name
    assert wanted.seeds == [0]
    assert {part.train["epochs"] for part in wanted.parts} == {2}


def test_results_inside_the_data_are_refused(tmp_path, capsys):
    from PIL import Image

    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.new("RGB", (16, 16)).save(tmp_path / "photos" / name / "0.png")
    assert exits(["bench", "--data", tmp_path / "photos", "--out", tmp_path / "photos" / "out"]) == 4
    assert "would become a class" in capsys.readouterr().err
    assert not (tmp_path / "photos" / "out").exists()
