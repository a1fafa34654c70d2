"""`winnow study` as a person types it; what is found is made up."""

from __future__ import annotations

import json

import pytest

from winnow.bench import mislabel_command, web_command
from winnow.bench.mislabel_summary import summarised as mislabel_summary
from winnow.bench.runner import Outcome
from winnow.bench.study import Study
from winnow.bench.web_command import WebStudy
from winnow.bench.web_summary import summarised as web_summary
from winnow.cli import main

MISLABEL, WEB = ["study", "mislabel", "--data", "digits"], ["study", "web", "digits"]


@pytest.fixture
def told(tmp_path, monkeypatch, capsys):
    """Exit code, standard output and error of a command whose study ended in a given way, and what it was asked."""

    def told(arguments, outcome):
        asked = {}

        def run(kind, summarised):
            def run(opening, out, **chosen):
                asked.update(chosen, opening=opening, out=out)
                return kind(tmp_path, summarised([]), outcome)

            return run

        monkeypatch.setattr(mislabel_command, "run_mislabel", run(Study, mislabel_summary))
        monkeypatch.setattr(web_command, "run_web", run(WebStudy, web_summary))
        with pytest.raises(SystemExit) as stopped:
            main(arguments)
        return int(stopped.value.code or 0), capsys.readouterr(), asked

    return told


@pytest.mark.parametrize(
    ("arguments", "sentence", "files"),
    [
        (MISLABEL, "Too few trainings are finished for an answer.", ["Table", "Report"]),
        (WEB, "No training is finished yet.", ["Fates", "Table", "Report"]),
    ],
)
def test_a_study_is_told_from_the_answer_to_the_next_command(told, arguments, sentence, files):
    code, heard, _ = told(arguments, Outcome(3, [], 1200))
    lines = heard.out.splitlines()

    assert code == 0
    assert lines[0] == sentence
    assert [line.split()[0] for line in lines if line.startswith(("Fates ", "Table ", "Report "))] == files
    assert lines[-1] == "Next     the same command    for the 1,200 cells that are left"
    finished = told(arguments, Outcome(3, [], 0))[1].out.splitlines()
    assert finished[-1].startswith("Next     winnow train FOLDER ")


@pytest.mark.parametrize("arguments", [MISLABEL, WEB])
def test_quiet_leaves_the_progress_away_and_not_the_result(told, arguments):
    assert told([*arguments, "--quiet"], Outcome(3, [], 0))[1].out == told(arguments, Outcome(3, [], 0))[1].out != ""


@pytest.mark.parametrize("arguments", [MISLABEL, WEB])
def test_failed_trainings_end_in_exit_code_1_after_the_rest(told, arguments):
    code, heard, _ = told([*arguments, "--json"], Outcome(3, [{"error": "out of memory"}], 0))

    assert code == 1
    assert json.loads(heard.out)["command"] == f"winnow study {arguments[1]}"
    assert "1 cell failed, the first with: out of memory" in heard.err


def test_options_reach_the_study(told):
    common = ["--batch-size", "7", "--learning-rate", "0.3", "--weight-decay", "0.01", "--device", "cuda"]
    common += ["--precision", "bf16", "--workers", "2", "--budget", "5", "--seed", "4", "--limit", "90"]
    expected = {"batch_size": 7, "learning_rate": 0.3, "weight_decay": 0.01, "device": "cuda", "precision": "bf16"}
    expected |= {"workers": 2, "budget_minutes": 5.0, "seed": 4, "opening": {"data": "digits", "limit": 90}}
    for arguments in (MISLABEL, WEB):
        asked = told([*arguments, *common], Outcome(0, [], 1))[2]
        assert {name: asked[name] for name in expected} == expected
        assert asked["out"].name == f"{arguments[1]}-digits"


@pytest.mark.parametrize("arguments", [[*MISLABEL, "--sizes", "80,many"], [*WEB, "--caps", "few"]])
def test_numbers_must_be_numbers(told, arguments):
    code, heard, _ = told(arguments, Outcome(0, [], 1))

    assert code == 2
    assert "must be numbers with commas between them" in heard.err
