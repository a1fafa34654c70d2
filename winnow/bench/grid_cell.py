"""One cell of a grid: data made noisy, one training, what it found."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from winnow.bench import shared
from winnow.bench.cells import canonical
from winnow.data.source import Source
from winnow.labels.truth import CleanLabels
from winnow.noise.donors import MADE
from winnow.noise.kinds import make_noise
from winnow.noise.noisy_source import noisy_source, with_checked
from winnow.train.fit import Settings, fit

_KEPT = (
    "test_accuracy_last",
    "test_accuracy_best",
    "best_epoch",
    "given_label_agreement",
    "given_label_accuracy",
    "label_quality_auroc",
    "corrected_label_accuracy",
    "outlier_auroc",
    "num_doubted",
    "num_images",
    "num_classes",
    "num_test",
    "held_out",
    "model",
    "image_size",
    "epochs",
    "device",
    "precision",
    "threads",
)
_CURVES = ("given_label_agreement", "validation_agreement", "test_accuracy")


def run(config: Mapping[str, Any]) -> dict[str, Any]:
    """Trains one method once.

    Args:
        config: as `winnow.bench.grid` makes it: `data` (see `shared.prepare`), `noise` (arguments of `make_noise`, or
            the kind `none`), `method`, `options`, `train` (of `Settings`), `seed`.

    Returns:
        Accuracies as fractions, the noise as it came out with its convention, the curves over the epochs and, under
        `times`, the seconds of training and the images a second.
    """
    source, noise = _noisy(canonical([config["data"], config["noise"]]))
    settings = Settings(
        method=config["method"], seed=config["seed"], hyperparameters=config["options"], **config["train"]
    )
    with shared.run_folder() as folder:
        trained = fit(source, settings, folder, test=shared.opened(config["data"]).test, command="winnow bench")
        epochs = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    summary = trained.summary
    return {
        **{name: summary.get(name) for name in _KEPT},
        "batch_size": summary["settings"]["batch_size"],
        "learning_rate": summary["settings"]["learning_rate"],
        "noise": noise,
        "curves": {
            "epoch": [line["epoch"] for line in epochs],
            **{name: [_rounded(line[name]) for line in epochs] for name in _CURVES},
        },
        "times": {
            "training_seconds": summary["seconds"],
            "images_per_second": summary["images_per_second"],
            **_accelerator(summary["device"]),
        },
    }


def donor_of(noise: Mapping[str, Any]) -> str | None:
    """The collection that foreign images come from; None if there are none, or they are made."""
    donor = noise.get("donor")
    return None if donor in MADE else donor


def with_noise(source: Source, noise: Mapping[str, Any], donor: Source | None = None) -> tuple[Source, dict[str, Any]]:
    """A source with labels made wrong, its own kept as the truth; and the noise as it came out.

    Args:
        source: the collection.
        noise: `kind`, and what else `make_noise` takes; the kind `none` leaves the labels as they stand. Of either,
            `verified` is the number of labels that a person checked, see `with_checked`.
        donor: the collection that `donor_of` names.

    Raises:
        UsageError, InputError: see `make_noise`.
    """
    if "verified" in noise:
        others = {name: value for name, value in noise.items() if name != "verified"}
        noisy, told = with_noise(source, others, donor)
        checked = with_checked(noisy, noise["verified"], noise.get("seed", 0))
        assert checked.clean_labels is not None
        wrong = 1 - checked.clean_labels.accuracy(checked.noisy_labels)
        convention = f"{told['convention']}; {noise['verified']:,} labels checked"
        return checked, {**told, "realised_rate": wrong, "convention": convention}
    if noise["kind"] == "none":
        truth, labels = source.clean_labels, source.noisy_labels
        if truth is None:
            # Without a column of the truth the labels are the best that is known of it.
            return replace(source, clean_labels=CleanLabels(labels)), {"convention": "labels as given"}
        return source, {"realised_rate": 1 - truth.accuracy(labels), "convention": "labels as given"}
    if donor is not None:
        # As the grid names it: what a record says must not tell where somebody's files lie.
        noise = {**noise, "donor": replace(donor, address=noise["donor"])}
    made = make_noise(source, **noise)
    return noisy_source(source, made), {"realised_rate": made.realised_rate, "convention": made.convention}


@lru_cache(maxsize=2)
def _noisy(text: str) -> tuple[Source, dict[str, Any]]:
    """The methods of a condition follow each other, and learn from the same labels."""
    data, noise = json.loads(text)
    donor = donor_of(noise)
    donors = shared.opened(shared.donor_opening(donor)).train if donor is not None else None
    return with_noise(shared.opened(data).train, noise, donors)


def _accelerator(device: str) -> dict[str, Any]:
    if not device.startswith("cuda"):
        return {}
    found = {"accelerator": torch.cuda.get_device_name(), "peak_accelerator_bytes": torch.cuda.max_memory_allocated()}
    torch.cuda.reset_peak_memory_stats()
    return found


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 5)
