"""The commands as a person types them: exit codes, one-line errors, what stands on stdout."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from winnow.cli import main


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0)


def shapes(folder: Path, classes: tuple[str, ...] = ("disc", "square"), each: int = 12, size: int = 24) -> Path:
    """Photographs of a kind: bright discs or squares on dark noise."""
    chance = np.random.default_rng(0)
    down, across = np.mgrid[:size, :size]
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(each):
            pixels = chance.integers(0, 60, (size, size, 3))
            y, x = chance.integers(8, size - 8, 2)
            inside = (
                (down - y) ** 2 + (across - x) ** 2 < 25
                if number % 2 == 0
                else np.maximum(abs(down - y), abs(across - x)) < 5
            )
            pixels[inside] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{i:03d}.png")
    return folder


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_help_answers_without_torch():
    code = (
        "import sys\n"
        "from winnow.cli import main\n"
        "try:\n"
        "    main(['--help'])\n"
        "except SystemExit:\n"
        "    pass\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def test_train_leaves_the_run_folder_of_the_design(tmp_path, capsys):
    assert run("train", "digits", "--epochs", 2, "--out", "a", "--json", "--quiet") == 0

    out = capsys.readouterr().out
    summary = json.loads(out)
    assert out.count("\n") == 1
    assert {
        "method", "run", "epochs", "seed", "test_accuracy_last", "test_accuracy_best", "given_label_agreement",
        "seconds", "images_per_second",
    } <= set(summary)  # fmt: skip
    names = {p.name for p in (tmp_path / "a").iterdir()}
    assert {
        "config.toml", "metrics.jsonl", "model.safetensors", "model.json", "checkpoint", "labels.parquet",
        "quarantine.parquet", "summary.json", "report.html",
    } <= names  # fmt: skip
    assert pq.read_table("a/labels.parquet").num_rows == 1437
    assert len(Path("a/metrics.jsonl").read_text().splitlines()) == 2
    assert json.loads(Path("a/summary.json").read_text()) == summary


def test_a_folder_of_photographs_trains_and_predicts(tmp_path, capsys):
    photos = shapes(tmp_path / "photos")
    (photos / "disc" / "zero.jpg").write_bytes(b"")

    assert run("train", photos, "--epochs", 3, "--out", "a", "--quiet", "--json") == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["class_names"] == ["disc", "square"]
    assert (summary["num_images"], summary["quarantined"]) == (25, 1)
    assert summary["test_accuracy_last"] is None
    labels = pq.read_table("a/labels.parquet").to_pylist()
    assert [row["id"] for row in labels if row["issue"] == "unreadable"] == ["disc/zero.jpg"]

    assert run("predict", "a", photos, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["num_images"], told["quarantined"]) == (25, 1)
    rows = pq.read_table("a/predictions.parquet").to_pylist()
    assert len(rows) == 25
    broken = next(row for row in rows if row["id"] == "disc/zero.jpg")
    assert broken["predicted_class"] is None
    assert broken["unreadable"].startswith("empty")
    assert sum(rows[0]["probabilities"]) == pytest.approx(1, abs=1e-5)


def test_costs_are_told_to_two_places(capsys):
    assert run("methods") == 0
    assert re.search(r"^label-refinery +any +1\.33  ", capsys.readouterr().out, flags=re.MULTILINE)
    assert run("methods", "label-refinery") == 0
    assert "1.33 times the cost of cross-entropy" in capsys.readouterr().out


def test_the_table_of_methods_fits_a_terminal(capsys):
    assert run("methods") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 15
    assert [line for line in lines if len(line) > 80] == []


def test_a_methods_own_numbers_stand_beside_their_images(tmp_path):
    (tmp_path / "mine.py").write_text(
        "from winnow.methods.cross_entropy import CrossEntropy\n\n\n"
        "class Mine(CrossEntropy):\n"
        "    def columns(self, survey):\n"
        "        return {'place': survey.indices / 2}\n"
    )
    photos = shapes(tmp_path / "photos")
    (photos / "disc" / "zero.jpg").write_bytes(b"")

    assert run("train", photos, "--method", "mine.py:Mine", "--epochs", 1, "--out", "a", "--quiet") == 0

    rows = pq.read_table("a/labels.parquet").to_pylist()
    assert [row["place"] for row in rows if row["issue"] == "unreadable"] == [None]
    assert [row["place"] for row in rows if row["issue"] != "unreadable"] == [k / 2 for k in range(24)]


def test_names_in_a_csv_are_exact_and_formulas_among_them_are_told(tmp_path, capsys):
    names = ("=cmd()", "+a", "-b", "@SUM(A1)", "plain")
    photos = shapes(tmp_path / "photos", names, each=4)
    assert run("train", photos, "--epochs", 1, "--out", "a", "--quiet") == 0
    capsys.readouterr()

    assert run("predict", "a", photos, "--out", "p.csv", "--quiet") == 0
    assert "cells begin like a formula" in capsys.readouterr().err
    assert run("noise", "photos", "--rate", 0.25, "--out", "n.csv", "--quiet") == 0
    with open("n.csv", newline="") as file:
        noisy = [row["noisy_label"] for row in csv.DictReader(file)]
    formulas = 16 + sum(label != "plain" for label in noisy)  # 4 classes of 4 images, and the noisy labels
    assert f"n.csv: {formulas} cells begin like a formula" in capsys.readouterr().err
    with open("p.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["id"] for row in rows) == sorted(f"{name}/{i:03d}.png" for name in names for i in range(4))
    assert {row["predicted_class"] for row in rows} <= set(names)
    with open("n.csv", newline="") as file:
        assert {row["label"] for row in csv.DictReader(file)} == set(names)
    # What was written trains as it is, under the same names.
    assert run("train", "n.csv", "--epochs", 1, "--out", "b", "--quiet", "--json") == 0
    assert json.loads(capsys.readouterr().out)["class_names"] == sorted(names)


def test_harmless_names_and_numbers_are_not_called_formulas(tmp_path, capsys):
    from winnow.cli.terminal import warn_of_formulas

    Path("t.csv").write_text("id,score\na,-0.5\nb,+3\n'=c,1\n")
    warn_of_formulas(Path("t.csv"))
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (("train", "nosuch"), 4, "nosuch"),
        (("train", "digits", "--method", "winow"), 2, "did you mean winnow?"),
        (("train", "digits", "--method", "bootstrap-hard", "--set", "bta=0.5"), 2, "did you mean beta?"),
        (("train", "digits", "--method", "bootstrap-hard", "--set", "beta=2"), 2, "beta must lie in [0, 1]"),
        (("train", "digits", "--method", "bootstrap-hard", "--set", "beta=high"), 2, "must be a number"),
        (("train", "digits", "--set", "beta"), 2, "NAME=VALUE"),
        (("train", "digits", "--epochs", "0"), 2, "--epochs must be at least 1"),
        (("train", "digits", "--learning-rate", "-1"), 2, "--learning-rate must be above 0"),
        (("train", "digits", "--model", "resnet"), 2, "no such network"),
        (("train", "digits", "--model", "convnet"), 2, "16 px"),
        (("train", "digits", "--device", "cuda"), 2, "--device cuda"),
        (("train", "digits", "--precision", "fp8"), 2, "--precision"),
        (("train", "digits", "--validation", "1"), 2, "--validation"),
        (("train",), 2, "data"),
        (("fly",), 2, "fly"),
        (("predict", "nosuch", "digits"), 4, "no finished run there"),
        (("methods", "dividemix"), 2, "no such method"),
        (("noise", "digits", "--rate", "2", "--out", "n.parquet"), 2, "rate"),
    ],
)
def test_a_mistake_ends_in_one_line_and_the_right_code(arguments, code, says, capsys, tmp_path):
    assert run(*arguments) == code

    captured = capsys.readouterr()
    error = captured.err.strip().splitlines()[-1]
    assert error.startswith("error: ")
    assert says in error
    assert "Traceback" not in captured.err
    assert captured.out == ""
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_an_existing_run_is_refused_resumed_or_replaced(capsys):
    assert run("train", "digits", "--epochs", 1, "--out", "a", "--quiet") == 0
    before = Path("a/labels.parquet").read_bytes()

    assert run("train", "digits", "--epochs", 1, "--out", "a", "--quiet") == 4
    assert "--resume" in capsys.readouterr().err
    assert run("train", "digits", "--epochs", 1, "--out", "a", "--quiet", "--resume") == 0
    assert run("train", "--resume", "a", "--quiet") == 0
    assert Path("a/labels.parquet").read_bytes() == before
    assert run("train", "digits", "--epochs", 2, "--out", "a", "--quiet", "--force") == 0
    assert json.loads(Path("a/summary.json").read_text())["epochs"] == 2


def test_resuming_an_empty_folder_starts(tmp_path):
    (tmp_path / "a").mkdir()

    assert run("train", "digits", "--epochs", 1, "--out", "a", "--quiet", "--resume") == 0
    assert Path("a/summary.json").exists()


def test_resuming_with_other_settings_is_refused(capsys):
    assert run("train", "digits", "--epochs", 1, "--out", "a", "--quiet") == 0
    Path("a/summary.json").unlink()

    assert run("train", "digits", "--epochs", 3, "--out", "a", "--quiet", "--resume") == 4
    assert "made with epochs = 1, not 3" in capsys.readouterr().err


def test_resuming_with_other_data_is_refused(tmp_path, capsys):
    photos = shapes(tmp_path / "photos")
    assert run("train", photos, "--epochs", 1, "--out", "a", "--quiet") == 0
    Path("a/summary.json").unlink()
    (photos / "disc" / "000.png").rename(photos / "square" / "x.png")

    assert run("train", photos, "--epochs", 1, "--out", "a", "--quiet", "--resume") == 4
    assert "other data" in capsys.readouterr().err


def test_the_truth_never_changes_what_is_learnt(tmp_path, capsys):
    assert run("noise", "digits", "--rate", 0.4, "--out", "n.npz") == 0
    capsys.readouterr()
    arrays = dict(np.load("n.npz"))
    np.savez("blind.npz", x=arrays["x"], y=arrays["noisy_label"])
    assert run("train", "n.npz", "--label-column", "noisy_label", "--clean-label-column", "y", "--test", "digits",
               "--epochs", 2, "--out", "a", "--quiet", "--json") == 0  # fmt: skip
    assert run("train", "blind.npz", "--test", "digits", "--epochs", 2, "--out", "b", "--quiet", "--json") == 0

    with_truth, without = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert "label_quality_auroc" in with_truth
    assert "label_quality_auroc" not in without
    assert Path("a/model.safetensors").read_bytes() == Path("b/model.safetensors").read_bytes()


def test_a_noise_file_trains_as_it_is_and_brings_its_truth_and_test_set(capsys):
    assert run("noise", "digits", "--rate", 0.4, "--out", "n.parquet", "--seed", 5) == 0
    capsys.readouterr()

    assert run("train", "n.parquet", "--epochs", 1, "--out", "a", "--quiet", "--json") == 0

    summary = json.loads(capsys.readouterr().out)
    assert summary["given_label_accuracy"] == pytest.approx(0.6, abs=0.005)
    assert summary["num_test"] == 360


def test_a_method_from_the_users_own_file(tmp_path, capsys):
    Path("mine.py").write_text(
        "import torch.nn.functional as F\n"
        "from winnow.methods.base import Method\n"
        "class Mine(Method):\n"
        "    def __init__(self, problem, *, scale: float = 1.0):\n"
        "        super().__init__(problem)\n"
        "        self.scale = scale\n"
        "    def loss(self, batch, moment):\n"
        "        return {'mine': self.scale * F.cross_entropy(self.classifier(batch.images), batch.noisy_labels)}\n"
    )

    code = run("train", "digits", "--method", "mine.py:Mine", "--set", "scale=0.5", "--epochs", 1, "--out", "a",
               "--quiet", "--json")  # fmt: skip

    assert code == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["method"] == "Mine"
    assert summary["hyperparameters"] == {"scale": 0.5}


@pytest.mark.parametrize("num", [1, 2])
def test_one_or_two_images_train(num, tmp_path):
    photos = shapes(tmp_path / "photos", ("disc", "square")[:num], each=1)

    assert run("train", photos, "--epochs", 1, "--out", "a", "--quiet") == 0
    assert pq.read_table("a/labels.parquet").num_rows == num


def test_no_images_and_only_broken_images_say_so(tmp_path, capsys):
    (tmp_path / "none" / "cat").mkdir(parents=True)
    (tmp_path / "broken" / "cat").mkdir(parents=True)
    (tmp_path / "broken" / "cat" / "a.jpg").write_bytes(b"")

    assert run("train", "none", "--quiet") == 4
    assert "no images" in capsys.readouterr().err
    assert run("train", "broken", "--quiet") == 4
    assert "empty" in capsys.readouterr().err


def test_images_that_are_all_alike_train(tmp_path):
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(10):
            Image.new("RGB", (20, 20), (9, 9, 9)).save(tmp_path / "photos" / name / f"{i}.png")

    assert run("train", "photos", "--epochs", 1, "--out", "run", "--quiet") == 0


def test_rows_without_a_label_are_kept_and_not_trained_on(tmp_path, capsys):
    photos = shapes(tmp_path / "photos")
    rows = sorted(photos.rglob("*.png"))
    lines = [f"{p.relative_to(tmp_path)},{'' if i % 4 == 0 else p.parent.name}" for i, p in enumerate(rows)]
    Path("t.csv").write_text("path,label\n" + "\n".join(lines) + "\n")

    assert run("train", "t.csv", "--epochs", 1, "--out", "a", "--quiet", "--json") == 0

    assert json.loads(capsys.readouterr().out)["unlabelled"] == 6
    given = pq.read_table("a/labels.parquet")["given_label"].to_pylist()
    assert given.count(None) == 6
    assert len(given) == 24


def interrupted(folder: Path, number: int) -> tuple[int, str]:
    """(exit code, stderr) of a training that gets a signal after its second epoch."""
    process = subprocess.Popen(
        [*LONG_TRAINING, "--out", folder], stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=ONE_THREAD
    )
    metrics = folder / "metrics.jsonl"
    deadline = time.monotonic() + 120
    while not (metrics.exists() and len(metrics.read_text().splitlines()) >= 2):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    return process.returncode, err


LONG_TRAINING = [sys.executable, "-m", "winnow", "train", "digits", "--epochs", "60"]
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def test_the_systems_signal_saves_and_says_how_to_go_on(tmp_path):
    code, err = interrupted(tmp_path / "a", signal.SIGTERM)

    assert code == 143
    assert err.strip().splitlines()[-1].startswith("Stopped at epoch ")
    assert not (tmp_path / "a" / "summary.json").exists()


def test_control_c_saves_and_the_run_goes_on_to_the_same_bits(tmp_path):
    code, err = interrupted(tmp_path / "a", signal.SIGINT)

    assert code == 130
    assert f"winnow train --resume {tmp_path / 'a'}" in err
    assert run("train", "--resume", "a", "--quiet") == 0
    assert run(*LONG_TRAINING[3:], "--out", "b", "--quiet", "--threads", 1) == 0
    for name in ("model.safetensors", "labels.parquet"):
        first, second = (sha256((tmp_path / run / name).read_bytes()).digest() for run in ("a", "b"))
        assert first == second, name


@pytest.mark.slow
def test_sigkill_at_random_instants_never_changes_the_result():
    script = Path(__file__).parents[2] / "scripts" / "kill_test.py"

    done = subprocess.run(
        [sys.executable, script, "--kills", "4", "--", "digits", "--epochs", "100"], capture_output=True, text=True
    )

    assert done.returncode == 0, done.stdout + done.stderr
    assert "same bits" in done.stdout


@pytest.mark.slow
def test_the_demo_favours_the_robust_method_on_every_seed(tmp_path):
    assert run("demo", "--quiet") == 0

    summary = json.loads(Path("runs/demo/summary.json").read_text())
    plain, robust = (summary["methods"][name]["test_accuracy_last"] for name in ("cross-entropy", "winnow"))
    assert all(r > p for p, r in zip(plain, robust, strict=True))
    assert Path("runs/demo/report.html").exists()
    assert run("demo", "--quiet", "--seeds", "1") == 0  # a second demo replaces the first


def test_the_demo_replaces_nothing_but_a_demo(tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("x")

    assert run("demo", "--out", "mine") == 4
    assert (tmp_path / "mine" / "thesis.txt").exists()


@pytest.mark.parametrize("beside", [("--epochs", 9), ("--seed", 4), ("--test", "digits"), ("--set", "window=3")])
def test_going_on_takes_no_other_settings(beside, capsys):
    assert run("train", "digits", "--epochs", 1, "--out", "a", "--quiet") == 0

    assert run("train", "--resume", "a", *beside) == 2
    assert "the run's own record" in capsys.readouterr().err


def test_the_run_may_not_lie_inside_its_data(tmp_path, capsys):
    photos = shapes(tmp_path / "photos")

    assert run("train", photos, "--out", photos / "run", "--quiet") == 4
    assert "would become a class" in capsys.readouterr().err
    assert sorted(p.name for p in photos.iterdir()) == ["disc", "square"]


def test_a_run_goes_on_from_another_folder(tmp_path, monkeypatch):
    shapes(tmp_path / "photos")
    assert run("train", "photos", "--epochs", 1, "--out", "a", "--quiet") == 0
    Path("a/summary.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    assert run("train", "--resume", "../a", "--quiet") == 0
    assert json.loads(Path("../a/summary.json").read_text())["command"].startswith("winnow")


def test_a_damaged_model_is_noticed(tmp_path, capsys):
    assert run("train", "digits", "--epochs", 1, "--out", "a", "--quiet") == 0
    data = bytearray(Path("a/model.safetensors").read_bytes())
    data[-5] ^= 1
    Path("a/model.safetensors").write_bytes(data)

    assert run("predict", "a", "digits") == 4
    assert "checksum differs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("def loss(self, batch, moment): return 3", "must give named terms"),
        ("def loss(self, batch, moment): raise KeyError('x')", "mine.py line 3"),
        ("def loss(self, batch, moment) return", "SyntaxError"),
    ],
)
def test_a_mistake_in_the_users_own_method_is_shown_as_theirs(body, says, capsys):
    Path("mine.py").write_text(f"from winnow.methods.base import Method\nclass Mine(Method):\n    {body}\n")

    assert run("train", "digits", "--method", "mine.py:Mine", "--epochs", 1, "--quiet") == 2
    assert says in capsys.readouterr().err
