"""The summary of a run: its parts agree with each other."""

import json

import pytest

from winnow.data.open import open_source
from winnow.train.fit import Settings, fit


def test_the_accuracies_of_the_classes_are_those_of_the_last_epoch(tmp_path):
    run = fit(open_source("digits", limit=200), Settings(method="cross-entropy", epochs=3), tmp_path / "run")

    rows = run.summary["per_class"]
    right = sum(row["test_accuracy"] * row["test_images"] for row in rows)
    epochs = [json.loads(line)["test_accuracy"] for line in (run.folder / "metrics.jsonl").read_text().splitlines()]
    assert run.summary["test_accuracy_last"] == epochs[-1] != epochs[0]
    assert right / run.summary["num_test"] == pytest.approx(epochs[-1])
