"""How near estimated transition matrices come to the counted one: CIFAR-10N `worse`, the mistakes of people.

    python -m benchmarks.transition                  # one training of 10,000 images, minutes on one core

One cross-entropy training with the default network; the matrix is estimated on its training images, and on as many
unseen ones as a run holds out. The counted matrix is that of all 50,000 images. Needs WINNOW_DATA. The record is
`results/transition.json`.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS
from winnow.bench.machine import circumstances
from winnow.data.open import open_source
from winnow.data.rows import limited_rows, subset
from winnow.data.source import Source
from winnow.files import atomic_write
from winnow.methods.transition import ESTIMATORS
from winnow.noise.checked_matrix import matrix_health
from winnow.noise.estimate import anchor_transition_matrix, joint_transition_matrix
from winnow.train.examples import MAX_HELD_OUT
from winnow.train.fit import fit
from winnow.train.settings import Settings


def counted(source: Source) -> np.ndarray:
    """The transition matrix of labels whose truth is known, (K, K)."""
    assert source.clean_labels is not None
    return joint_transition_matrix(source.clean_labels.confusion(source.noisy_labels, source.num_classes).T)


def estimates(source: Source, probs: np.ndarray) -> dict[str, np.ndarray]:
    """Every estimate of a source's matrix; `verified` lets a person check all of its labels."""
    assert source.clean_labels is not None
    labels = source.noisy_labels
    checked = source.clean_labels.checked(labels, np.arange(len(labels)))
    found = {name: rule(probs, checked if name == "verified" else labels) for name, rule in ESTIMATORS.items()}
    return found | {"anchor, one image": anchor_transition_matrix(probs, single=True)}


def compared(estimate: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """Mean absolute error of the entries, that of the diagonal, and the mean diagonal itself."""
    return {
        "mean_absolute_error": float(np.abs(estimate - truth).mean()),
        "diagonal_error": float(np.abs((estimate - truth).diagonal()).mean()),
        "mean_diagonal": float(estimate.diagonal().mean()),
    }


def measured(data: str, images: int, epochs: int, seed: int) -> dict[str, Any]:
    """Trains once and gives the record."""
    everything = open_source(data)
    rows = np.random.default_rng(0).permutation(limited_rows(everything.ids, images + MAX_HELD_OUT))
    seen, unseen = subset(everything, rows[:images]), subset(everything, rows[images:])
    settings = Settings(method="cross-entropy", epochs=epochs, seed=seed, threads=1, validation=0.0)
    with tempfile.TemporaryDirectory(prefix="transition-") as folder:
        run = fit(seen, settings, Path(folder) / "run", test=everything.test() if everything.test else None)
        views = {
            "unseen images": (unseen, run.predict(unseen).probs),
            "training images": (seen, run.predict(seen).probs),
        }
    truth = counted(everything)
    health = matrix_health(truth)
    return {
        "data": data,
        "images": images,
        "unseen": len(unseen),
        "epochs": epochs,
        "seed": seed,
        "model": run.summary["model"],
        "test_accuracy_last": run.summary["test_accuracy_last"],
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **circumstances(),
        "counted": {"mean_diagonal": health.mean_diagonal, "condition_number": health.condition_number},
        "estimates": {
            "identity": compared(np.eye(len(truth)), truth),
            **{
                f"{name}, {where}": compared(estimate, truth)
                for where, (source, probs) in views.items()
                for name, estimate in estimates(source, probs).items()
            },
        },
    }


def table(record: Mapping[str, Any]) -> str:
    """The record for the terminal."""
    lines = [f"{'':<36}{'mean |error|':>14}{'of diagonal':>14}{'diagonal':>10}"]
    for name, values in record["estimates"].items():
        lines.append(
            f"{name:<36}{values['mean_absolute_error']:>14.4f}{values['diagonal_error']:>14.4f}"
            f"{values['mean_diagonal']:>10.3f}"
        )
    return "\n".join([*lines, f"{'counted':<64}{record['counted']['mean_diagonal']:>10.3f}"])


def main() -> None:
    """Measures, prints, records."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="cifar10n:worse")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    record = measured(given.data, given.images, given.epochs, given.seed)
    print(table(record))
    atomic_write(RESULTS / "transition.json", (json.dumps(record, indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
