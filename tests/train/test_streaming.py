"""Training from disk gives the model that training from memory gives, to the bit, also after an interruption."""

import hashlib
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from winnow.cli import app
from winnow.data import pixels
from winnow.data.open import open_source
from winnow.train.device import Device
from winnow.train.fit import Settings, fit
from winnow.train.predictor import Predictor
from winnow.train.trainer import Trainer


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Pictures of mixed sizes, so that the file is laid out anew, some of them unreadable."""
    folder = tmp_path_factory.mktemp("data") / "photos"
    generator = np.random.default_rng(0)
    for name, level in (("dark", 60), ("light", 180)):
        (folder / name).mkdir(parents=True)
        for number in range(30):
            side = 12 if number < 3 else 14
            values = generator.integers(level, level + 60, (side, side, 3), dtype=np.uint8)
            Image.fromarray(values).save(folder / name / f"{number:02d}.png")
        (folder / name / "empty.png").touch()
    return folder


def settings(**options):
    return Settings(method="cross-entropy", epochs=3, batch_size=16, device="cpu", threads=1, model="mlp", **options)


def digests(folder):
    names = ("model.safetensors", "labels.parquet", "quarantine.parquet")
    return [hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names]


@pytest.fixture(scope="module")
def in_memory(photos, tmp_path_factory):
    source = open_source(photos)
    return fit(source, settings(), tmp_path_factory.mktemp("runs") / "memory", test=source)


def test_a_streamed_run_is_the_same_to_the_bit_and_leaves_no_file(photos, in_memory, tmp_path):
    source = open_source(photos)

    run = fit(source, settings(stream=True), tmp_path / "run", test=source)

    assert digests(run.folder) == digests(in_memory.folder)
    assert run.summary["test_accuracy_last"] == in_memory.summary["test_accuracy_last"]
    assert sorted(entry.name for entry in run.folder.iterdir()) == sorted(
        entry.name for entry in in_memory.folder.iterdir()
    )


def test_what_does_not_fit_in_memory_is_streamed_unasked(photos, in_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(pixels, "free_memory", lambda: 1000)
    made = []
    original = pixels.FilePixels.__init__

    def noted(self, folder, picture):
        made.append(folder)
        original(self, folder, picture)

    monkeypatch.setattr(pixels.FilePixels, "__init__", noted)
    source = open_source(photos)

    run = fit(source, settings(), tmp_path / "run", test=source)

    assert set(made) == {tmp_path / "run"}
    assert digests(run.folder) == digests(in_memory.folder)


@pytest.mark.parametrize("streams", [(True, True), (True, False), (False, True)])
def test_an_interrupted_run_goes_on_to_the_same_bits_from_either_place(
    photos, in_memory, tmp_path, monkeypatch, streams
):
    source = open_source(photos)
    end_epoch = Trainer._end_epoch

    def fail(self, phase):
        end_epoch(self, phase)
        self.save()
        if self.clock.cursor.total_epochs == 2:
            raise RuntimeError("the machine stopped")

    with monkeypatch.context() as patched:
        patched.setattr(Trainer, "_end_epoch", fail)
        with pytest.raises(RuntimeError, match="the machine stopped"):
            fit(source, settings(stream=streams[0]), tmp_path / "run", test=source)
    run = fit(source, settings(stream=streams[1]), tmp_path / "run", test=source, resume=True)

    assert digests(run.folder)[0] == digests(in_memory.folder)[0]


def test_a_prediction_in_parts_is_the_prediction_at_once(photos, in_memory, monkeypatch):
    from winnow.data import collection

    source, device = open_source(photos), Device.choose("cpu", threads=1)
    whole = Predictor.load(in_memory.folder).predict(source, device)
    monkeypatch.setattr(collection, "_PART_BYTES", 25 * 64 * 64 * 3)
    found = Predictor.load(in_memory.folder).predict(source, device)

    assert len(found.rows) == 60
    assert found.rows.tolist() == whole.rows.tolist()
    assert [item.row for item in found.quarantined] == [item.row for item in whole.quarantined] == [30, 61]
    np.testing.assert_allclose(found.probs, whole.probs, atol=1e-3)


def test_the_command_line_streams(photos, tmp_path):
    def run(name, *options):
        arguments = ["train", str(photos), "--method", "cross-entropy", "--epochs", "1", "--model", "mlp", "--json"]
        arguments += ["--device", "cpu", "--threads", "1", "--out", str(tmp_path / name), *options]
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.output
        return json.loads(done.stdout[done.stdout.index("{") :])

    assert run("a")["epochs"] == run("b", "--stream")["epochs"] == 1
    assert digests(tmp_path / "a") == digests(tmp_path / "b")
    resumed = CliRunner().invoke(app, ["train", str(tmp_path / "b"), "--resume", "--stream", "--quiet"])
    assert resumed.exit_code == 0, resumed.output
