"""Loggers hear what the run folder gets; TensorBoard's files hold the same numbers."""

from __future__ import annotations

import builtins
import json
from importlib.util import find_spec

import pytest

import winnow
from winnow.cli import main
from winnow.train.loggers import TensorBoard

needs_tensorboard = pytest.mark.skipif(find_spec("tensorboard") is None, reason="the extra tensorboard is not here")


class Heard:
    def __init__(self):
        self.calls = []

    def started(self, config):
        self.calls.append(("started", config))

    def epoch(self, line):
        self.calls.append(("epoch", dict(line)))

    def finished(self, summary):
        self.calls.append(("finished", summary))


def lines_of(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def exits(arguments) -> int:
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return int(stopped.value.code)


def test_a_logger_hears_settings_every_epoch_and_the_summary_in_this_order(tmp_path):
    heard = Heard()
    source = winnow.open_source("digits", limit=150)
    run = winnow.fit(source, "cross-entropy", out=tmp_path / "run", epochs=3, model="mlp", loggers=[heard])
    assert [name for name, _ in heard.calls] == ["started", "epoch", "epoch", "epoch", "finished"]
    assert heard.calls[0][1]["train"]["epochs"] == 3
    assert [line for name, line in heard.calls if name == "epoch"] == lines_of(tmp_path / "run")
    assert heard.calls[-1][1] == run.summary


def test_what_a_logger_raises_stops_the_run(tmp_path):
    class Refuses(Heard):
        def epoch(self, line):
            raise ConnectionError("the service is away")

    with pytest.raises(ConnectionError, match="away"):
        winnow.fit("digits", "cross-entropy", out=tmp_path / "run", epochs=2, model="mlp", loggers=[Refuses()])
    assert not (tmp_path / "run" / "summary.json").exists()


def curves(folder):
    """By name the (epoch, value) of every point that TensorBoard shows."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder))
    found.Reload()
    return {tag: [(point.step, point.value) for point in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


@needs_tensorboard
def test_tensorboard_shows_the_numbers_of_metrics_jsonl(tmp_path):
    run = tmp_path / "run"
    arguments = ["train", "digits", "--limit", "150", "--model", "mlp", "--epochs", "2", "--method", "cross-entropy"]
    assert exits([*arguments, "--quiet", "--out", run, "--log", "tensorboard"]) == 0
    shown = curves(run / "tensorboard")
    lines = lines_of(run)
    for name in ("loss", "learning_rate", "given_label_agreement", "test_accuracy"):
        assert shown[name] == [(line["epoch"], pytest.approx(line[name], rel=1e-6)) for line in lines]
    assert {f"terms/{term}" for term in lines[0]["terms"]} <= set(shown)


@needs_tensorboard
def test_epochs_that_come_again_take_the_place_of_the_earlier_ones(tmp_path):
    first = TensorBoard(tmp_path)
    first.started({})
    for number, loss in ((1, 3.0), (2, 2.0), (3, 9.0), (2, 1.5)):
        first.epoch({"epoch": number, "loss": loss, "test_accuracy": None})
    second = TensorBoard(tmp_path)  # another process, which goes on
    second.started({})
    second.epoch({"epoch": 3, "loss": 1.0})
    second.finished({})
    first.finished({})
    assert curves(tmp_path) == {"loss": [(1, 3.0), (2, 1.5), (3, 1.0)]}


@pytest.mark.parametrize(("log", "code", "told"), [("wandb", 2, "--log must be tensorboard, got wandb")])
def test_another_log_is_refused_before_any_work(tmp_path, capsys, log, code, told):
    assert exits(["train", "digits", "--out", tmp_path / "run", "--log", log]) == code
    assert told in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_a_missing_extra_is_named_in_one_line_before_any_work(tmp_path, capsys, monkeypatch):
    real = builtins.__import__

    def without(name, *arguments, **named):
        if name.startswith("torch.utils.tensorboard"):
            raise ImportError(name)
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", without)
    assert exits(["train", "digits", "--out", tmp_path / "run", "--log", "tensorboard"]) == 4
    heard = capsys.readouterr().err
    assert heard.count("\n") == 1
    assert 'needs an extra: pip install "winnow-images[tensorboard]"' in heard
    assert not (tmp_path / "run").exists()
