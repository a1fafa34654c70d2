"""What the commands that read DATA say and do about labels, duplicates, more images and downloads."""

import json
import tarfile
import tomllib
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from winnow.cli import main
from winnow.data import builtin
from winnow.data.layouts import Published


def run(*arguments):
    with pytest.raises(SystemExit) as caught:
        main([str(argument) for argument in arguments])
    return int(caught.value.code or 0)


def png(level):
    buffer = BytesIO()
    Image.fromarray(np.full((16, 16, 3), level, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture(autouse=True)
def table(tmp_path, monkeypatch):
    """Twelve pictures; one name of a class ends in a blank, one is the same animal as another."""
    monkeypatch.chdir(tmp_path)
    rows = ["path,label,checked"]
    for number in range(12):
        name = ("cat", "kitten", "dog", "dog ")[number % 4]
        Path(f"{number}.png").write_bytes(png(20 * number))
        rows.append(f"{number}.png,{name},{'cat' if number == 2 else ''}")
    Path("photos.csv").write_text("\n".join(rows) + "\n")


def one_line(capsys):
    text = capsys.readouterr().err.strip()
    assert "\n" not in text
    assert "Traceback" not in text
    return text


def test_doubtful_labels_stop_the_training_unless_they_are_mapped(capsys):
    assert run("train", "photos.csv", "--quiet") == 4
    assert "'dog ' (blanks around it) at line 5 (3.png)" in one_line(capsys)
    assert not Path("runs").exists()

    code = run("train", "photos.csv", "--map-labels", "dog=dog,kitten=cat", "--method", "cross-entropy",
               "--epochs", 1, "--out", "a", "--quiet")  # fmt: skip

    assert code == 0
    assert json.loads(Path("a/model.json").read_text())["class_names"] == ["cat", "dog"]


def test_a_run_goes_on_with_the_data_as_it_was_read(tmp_path, monkeypatch):
    Path("map.csv").write_text("old,new\ndog,dog\nkitten,cat\n")
    with tarfile.open("more-0.tar", "w") as archive:
        info = tarfile.TarInfo("x.png")
        info.size = len(png(9))
        archive.addfile(info, BytesIO(png(9)))
    reading = ("--map-labels", "map.csv", "--verified", "checked", "--unlabelled", "more-*.tar")
    reading = (*reading, "--on-duplicate", "first")

    assert (
        run("train", "photos.csv", *reading, "--method", "cross-entropy", "--epochs", 1, "--out", "a", "--quiet") == 0
    )
    recorded = tomllib.loads(Path("a/config.toml").read_text())["data"]
    assert recorded["map_labels"] == str(tmp_path / "map.csv")
    assert recorded["unlabelled"] == str(tmp_path / "more-*.tar")
    assert (recorded["verified"], recorded["on_duplicate"]) == ("checked", "first")
    given = pq.read_table("a/labels.parquet")["given_label"].to_pylist()
    # Classes cat and dog; row 2 was checked to be a cat, the last is not labelled.
    assert given == [0, 0, 0, 1, 0, 0, 1, 1, 0, 0, 1, 1, None]

    Path("a/summary.json").unlink()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run("train", "--resume", tmp_path / "a", "--quiet") == 0
    assert pq.read_table(tmp_path / "a/labels.parquet")["given_label"].to_pylist() == given


def test_an_option_that_is_misspelt_is_a_mistake_of_usage(capsys):
    assert run("train", "photos.csv", "--on-duplicate", "last", "--quiet") == 2
    assert "--on-duplicate must be first or conflict, got last" in capsys.readouterr().err


def test_a_download_that_fails_is_the_machines_failure(capsys, tmp_path, monkeypatch):
    nowhere = tuple(Published(f"MNIST/raw/{name}.gz", f"http://127.0.0.1:9/{name}", "0" * 32) for name in "abcd")
    monkeypatch.setattr(builtin, "MNIST", nowhere)

    assert run("train", "mnist", "--root", tmp_path, "--quiet") == 4
    assert "or fetch them: --download" in one_line(capsys)
    assert run("train", "mnist", "--root", tmp_path, "--download", "--quiet") == 5
    assert "cannot be fetched" in one_line(capsys)
    assert not list(Path("MNIST").rglob("*.*"))


def test_noise_and_predictions_read_the_same_way():
    assert run("train", "photos.csv", "--map-labels", "dog=dog,kitten=cat", "--method", "cross-entropy",
               "--epochs", 1, "--out", "a", "--quiet") == 0  # fmt: skip

    assert run("noise", "photos.csv", "--map-labels", "dog=dog", "--rate", 0.5, "--out", "n.parquet", "--quiet") == 0
    assert run("predict", "a", "photos.csv", "--map-labels", "dog=dog,kitten=cat", "--quiet") == 0

    assert pq.read_table("n.parquet").num_rows == 12
    assert pq.read_table("a/predictions.parquet").num_rows == 12
