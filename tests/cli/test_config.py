"""Options from the command line, the environment and a file: who wins, and what a mistake says."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path

import pytest

from winnow.cli import app, main

COMMANDS = sorted(command.callback.__name__ for command in app.registered_commands)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def trained(capsys, *arguments: object) -> dict:
    assert run("train", "digits", "--quiet", "--json", *arguments) == 0
    return json.loads(capsys.readouterr().out)


FILE = """
seed = 4
[train]
epochs = 2
method = "bootstrap-hard"
[predict]
device = "cpu"
[hyperparameters]
beta = 0.6
"""


def test_a_flag_goes_before_the_environment_before_the_file_before_the_default(capsys, monkeypatch):
    Path("c.toml").write_text(FILE)

    assert trained(capsys, "--epochs", 1)["seed"] == 0
    assert trained(capsys, "--config", "c.toml", "--epochs", 1)["seed"] == 4
    monkeypatch.setenv("WINNOW_SEED", "5")
    assert trained(capsys, "--config", "c.toml", "--epochs", 1)["seed"] == 5
    summary = trained(capsys, "--config", "c.toml", "--epochs", 1, "--seed", 6)
    assert summary["seed"] == 6
    assert summary["method"] == "bootstrap-hard"
    assert summary["epochs"] == 1


def test_a_commands_own_table_goes_before_data_before_the_top(capsys):
    Path("c.toml").write_text("limit = 50\nseed = 1\nepochs = 1\n[data]\nlimit = 60\nseed = 2\n[train]\nlimit = 70\n")

    summary = trained(capsys, "--config", "c.toml")

    assert summary["num_images"] == 70
    assert summary["seed"] == 2


def test_hyperparameters_are_joined_one_by_one(capsys):
    Path("c.toml").write_text(FILE + "warmup_epochs = 0\n")

    summary = trained(capsys, "--config", "c.toml", "--epochs", 1, "--set", "beta=0.9")

    assert summary["hyperparameters"] == {"beta": 0.9, "warmup_epochs": 0}


def test_hyperparameters_of_another_method_are_left_away_and_that_is_said(capsys):
    Path("c.toml").write_text(FILE)

    assert run("train", "digits", "--config", "c.toml", "--epochs", 1, "--method", "cross-entropy", "--out", "a") == 0

    assert "belong to bootstrap-hard" in capsys.readouterr().err


def test_the_environment_names_the_file_too(capsys, monkeypatch):
    Path("c.toml").write_text(FILE)
    monkeypatch.setenv("WINNOW_CONFIG", "c.toml")

    assert trained(capsys, "--epochs", 1)["seed"] == 4


def test_no_file_is_looked_for(capsys):
    # It could be somebody else's, in a folder of images, and name code to run.
    Path("winnow.toml").write_text(FILE)
    Path("config.toml").write_text(FILE)

    assert trained(capsys, "--epochs", 1)["seed"] == 0


@pytest.mark.parametrize("named", ["a/config.toml", "a"])
def test_a_runs_record_repeats_it(named, capsys):
    first = trained(capsys, "--method", "bootstrap-hard", "--set", "beta=0.7", "--limit", 300, "--seed", 3, "--epochs",
                    2, "--out", "a")  # fmt: skip

    assert run("train", "--config", named, "--out", "b", "--quiet", "--json") == 0

    second = json.loads(capsys.readouterr().out)
    for key in ("method", "hyperparameters", "seed", "epochs", "num_images", "test_accuracy_last"):
        assert second[key] == first[key]
    hashes = {sha256(Path(run, "model.safetensors").read_bytes()).hexdigest() for run in ("a", "b")}
    assert len(hashes) == 1


def test_a_runs_record_says_which_data_other_commands_read(capsys):
    trained(capsys, "--limit", 100, "--epochs", 1, "--out", "a")

    assert run("noise", "--config", "a", "--rate", 0.5, "--out", "n.npz", "--json") == 0

    assert json.loads(capsys.readouterr().out)["num_images"] == 100


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        ('[train]\nlabel_colum = "x"\n', 2, "c.toml: [train] label_colum: winnow train has no such option; did you mean label-column?"),  # noqa: E501
        ("epoch = 3\n", 2, "c.toml: epoch: no command has this option; did you mean epochs?"),
        ("[tran]\nepochs = 3\n", 2, "c.toml: [tran]: no such table; did you mean train?"),
        ("[data]\nlimits = 3\n", 2, "c.toml: [data] limits: no command has this option; did you mean limit?"),
        ('[train]\nepochs = "many"\n', 2, 'c.toml: [train] epochs = "many": '),
        ("[train]\nepochs = 2.5\n", 2, "c.toml: [train] epochs = 2.5: "),
        ("[train]\nepochs = true\n", 2, "c.toml: [train] epochs = true: must be one value"),
        ("[train]\nepochs = [1, 2]\n", 2, "c.toml: [train] epochs = [1, 2]: must be one value"),
        ('[train]\nforce = "yes"\n', 2, 'c.toml: [train] force = "yes": must be true or false'),
        ("[hyperparameters]\nbeta = [1]\n", 2, "c.toml: [hyperparameters] beta = [1]: must be one value"),
        ("config = 'd.toml'\n", 2, "c.toml: config: no command has this option"),
        ("[train\n", 4, "c.toml: not TOML: "),
        ("schema_version = 9\n", 4, "c.toml: written by another version of winnow"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_file_is_named_in_one_line(content, code, says, capsys):
    Path("c.toml").write_text(content)

    assert run("train", "digits", "--config", "c.toml") == code

    captured = capsys.readouterr()
    assert captured.err.startswith(f"error: {says}")
    assert captured.err.count("\n") == 1
    assert captured.out == ""


def test_a_missing_file_and_a_bad_variable_are_named(capsys, monkeypatch):
    assert run("train", "digits", "--config", "nosuch.toml") == 4
    assert "--config nosuch.toml: No such file" in capsys.readouterr().err
    monkeypatch.setenv("WINNOW_EPOCHS", "many")
    assert run("train", "digits") == 2
    assert 'WINNOW_EPOCHS = "many": ' in capsys.readouterr().err
    monkeypatch.setenv("WINNOW_EPOCHS", "")
    monkeypatch.setenv("WINNOW_QUIET", "perhaps")
    assert run("train", "digits") == 2
    assert 'WINNOW_QUIET = "perhaps": must be true or false' in capsys.readouterr().err


def test_help_is_given_whatever_the_file_says(capsys, monkeypatch):
    monkeypatch.setenv("WINNOW_CONFIG", "nosuch.toml")

    assert run("train", "--help") == 0


def test_a_file_beside_resume_is_refused(capsys):
    trained(capsys, "--epochs", 1, "--out", "a")
    Path("c.toml").write_text("seed = 3\n")

    assert run("train", "--resume", "a", "--config", "c.toml") == 2
    assert "leave --config away" in capsys.readouterr().err


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_takes_a_file_and_shows_where_errors_come_from(command, capsys):
    assert run(command, "--help") == 0

    out = capsys.readouterr().out
    assert "--config " in out
    assert "--debug " in out


@pytest.mark.parametrize("command", COMMANDS)
def test_debug_shows_the_traceback(command, capsys):
    assert run(command, "--config", "nosuch.toml", "--debug") == 4

    err = capsys.readouterr().err
    assert err.startswith("Traceback")
    assert err.splitlines()[-1] == "error: --config nosuch.toml: No such file or directory"
