"""Completion in the shells: the right names, without torch, at once."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from winnow.cli import completion


def asked(shell: str, line: str, **more: str) -> subprocess.CompletedProcess[str]:
    """What winnow answers a shell that completes `line`."""
    words = line.split(" ")
    environment = {
        **os.environ,
        "_WINNOW_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(words) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        **more,
    }
    code = (
        "import sys; from winnow.cli import main\n"
        "try: main([])\n"
        "finally: print('torch' in sys.modules, file=sys.stderr)"
    )
    return subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)


def test_names_are_those_of_the_program(tmp_path, monkeypatch):
    from winnow.data.builtin import builtin_names
    from winnow.methods import METHODS
    from winnow.models import MODELS

    monkeypatch.chdir(tmp_path)
    assert sorted(completion.method_names("")) == sorted(METHODS)
    assert set(completion.model_names("")) == set(MODELS)
    assert {"digits", "mnist", "cifar10"} <= set(
        completion.data_names("di") + completion.data_names("mn") + completion.data_names("ci")
    )
    assert set(completion.data_names("c")) <= set(builtin_names())


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize(
    ("line", "there", "not_there"),
    [
        ("winnow tra", "train", "predict"),
        ("winnow train --meth", "--method", "--model"),
        ("winnow train digits --method boots", "bootstrap-hard", "cross-entropy"),
        ("winnow train digits --model con", "convnet", "speednet"),
        ("winnow train dig", "digits", "mnist"),
        ("winnow methods lab", "label-smoothing", "winnow"),
    ],
)
def test_a_word_is_completed_without_torch(shell, line, there, not_there):
    done = asked(shell, line)

    assert there in done.stdout
    assert not_there not in done.stdout.replace("winnow train", "")
    assert done.stderr.strip() == "False"


def test_files_stay_possible_where_a_collection_is_named_alike(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "digital").mkdir()

    assert completion.data_names("dig") == ["digits", "digits:test", "digital"]
    assert completion.data_names("photos/") == []  # the shell's own completion of files takes over
    assert completion.data_names("") == []


def test_an_answer_comes_at_once():
    # Computing time, which other work on the machine does not change.
    before = os.times()
    asked("bash", "winnow train digits --method b")
    after = os.times()
    assert after.children_user + after.children_system - before.children_user - before.children_system < 0.5


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_script_is_shown_and_installed_for_every_shell(shell, tmp_path):
    environment = {**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1", "HOME": str(tmp_path)}
    shown = subprocess.run(
        [sys.executable, "-m", "winnow", "--show-completion", shell],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "_WINNOW_COMPLETE=complete_" + shell in shown.stdout
    subprocess.run(
        [sys.executable, "-m", "winnow", "--install-completion", shell],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert any("_WINNOW_COMPLETE" in p.read_text() for p in tmp_path.rglob("*") if p.is_file())


def test_the_script_works_in_a_real_bash(tmp_path):
    # The shell itself asks, as it does for a key press.
    script = (
        f'eval "$({sys.executable} -c \'from winnow.cli import main; main(["--show-completion", "bash"])\')"\n'
        f'winnow() {{ {sys.executable} -m winnow "$@"; }}\n'
        "COMP_WORDS=(winnow train digits --method boots); COMP_CWORD=4\n"
        "_winnow_completion winnow; printf '%s\\n' \"${COMPREPLY[@]}\"\n"
    )
    bin_folder = tmp_path / "winnow"
    bin_folder.write_text(f'#!/bin/sh\nexec {sys.executable} -m winnow "$@"\n')
    bin_folder.chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1",
    }
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert "bootstrap-soft" in done.stdout.split()
