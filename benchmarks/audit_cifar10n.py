"""Wrong labels of people, found from the images alone: CIFAR-10N beside cleanlab on the same network.

    python -m benchmarks.audit_cifar10n                       # 50,000 images, `worse` and `aggre`; hours on two cores
    python -m benchmarks.audit_cifar10n worse --limit 20000 --minutes 4 --folds 1

Ours: `embed` without pretrained weights, within the budget, then `judge`. Theirs: cleanlab's `find_label_issues` and
`self_confidence`, with default settings, on out-of-fold probabilities of the same network trained by cross-entropy in
five folds; the network of each fold sees as many epochs as ours, so that theirs takes three times as long. Both are
held against the truth column, which nothing before sees. With `--folds 1` theirs is measured on one of the five folds
and ours on the same images, at a fifth of its time. Needs WINNOW_DATA and cleanlab. With `--cache` whatever was trained
is kept, so that a run that was stopped goes on, and a changed label step is measured at once; the seconds of what was
kept are then those of reading it. The record is `results/audit-cifar10n.jsonl`, a line a run.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import RESULTS
from winnow.audit.embedding import embed
from winnow.audit.seen import seen
from winnow.audit.training import Plan, planned
from winnow.audit.wrong_labels import judge
from winnow.bench.machine import circumstances
from winnow.data.collection import Collection, load
from winnow.data.open import open_source
from winnow.data.rows import limited_rows, subset
from winnow.data.source import Source
from winnow.functional.cross_fitting import stratified_folds
from winnow.train.device import Device
from winnow.train.fit import fit
from winnow.train.predictor import Predictor
from winnow.train.progress import Progress
from winnow.train.settings import Settings

LABELS = ("worse", "aggre")
FOLDS = 5
GOALS = {"worse": {"average_precision": 0.03, "f1": 0.05}}
"""By how much ours must be ahead."""


class Said(Progress):
    """Tells what was chosen, in lines."""

    def understood(self, label: str, text: str) -> None:
        """Printed."""
        print(f"  {label}: {text}", flush=True)


def out_of_fold(
    source: Source, collection: Collection, column: str, plan: Plan, folds: int, seed: int, cache: Path
) -> np.ndarray:
    """Probabilities of each image in the first `folds` from a network trained on the other four, (N, K); else NaN.

    Those of a fold that lie in `cache` are not made again.
    """
    labels = source.noisy_labels
    cache.mkdir(parents=True, exist_ok=True)
    fold = stratified_folds(labels, FOLDS, seed)
    probs = np.full((len(labels), source.num_classes), np.nan, dtype=np.float32)
    device = Device.choose()
    for number in range(folds):
        held = np.flatnonzero(fold == number)
        file = cache / f"{column}-{len(labels)}-{plan.model}-{plan.epochs}-{seed}-fold-{number}.npy"
        if file.exists():
            probs[held] = np.load(file)
            continue
        told = np.where(fold == number, -1, labels)
        settings = Settings(method="cross-entropy", model=plan.model, epochs=plan.epochs, seed=seed, validation=0.0)
        with tempfile.TemporaryDirectory(prefix="winnow-cleanlab-") as work:
            fit(replace(source, noisy_labels=told, test=None), settings, Path(work) / "run")
            predictor = Predictor.load(Path(work) / "run")
        plain = replace(predictor.preprocessing, mirror=False)
        _, found = seen(predictor.networks, predictor.task, plain, [collection.pixels], len(labels), device, Progress())
        probs[held] = found[held]
        np.save(file, probs[held])
        print(f"  fold {number + 1} of {folds}", flush=True)
    return probs


def by_cleanlab(labels: np.ndarray, probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Suspicion, flags) with cleanlab's default settings, (N,) each."""
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    return 1 - get_label_quality_scores(labels, probs), find_label_issues(labels, probs, n_jobs=1)


def measured(wrong: np.ndarray, suspicion: np.ndarray, flagged: np.ndarray) -> dict[str, float]:
    """How well suspicion ranks the wrong labels, and flags name them."""
    from sklearn.metrics import average_precision_score, f1_score, precision_score, recall_score, roc_auc_score

    return {
        "auroc": float(roc_auc_score(wrong, suspicion)),
        "average_precision": float(average_precision_score(wrong, suspicion)),
        "f1": float(f1_score(wrong, flagged)),
        "precision": float(precision_score(wrong, flagged, zero_division=0.0)),
        "recall": float(recall_score(wrong, flagged)),
        "flagged": float(flagged.mean()),
    }


def compared(column: str, limit: int | None, minutes: float, folds: int, seed: int, cache: Path) -> dict[str, Any]:
    """Both on one label column; the line of the record."""
    source = replace(open_source(f"cifar10n:{column}"), test=None)
    if limit is not None:
        source = subset(source, limited_rows(source.ids, limit))
    assert source.clean_labels is not None
    wrong = source.clean_labels.wrong(source.noisy_labels)
    collection = load(source)
    plan = planned(source, collection, minutes, Device.choose())
    begun = time.monotonic()
    embedding = embed(source, collection, budget_minutes=minutes, seed=seed, cache=cache, progress=Said())
    embedded = time.monotonic()
    labels = source.noisy_labels
    beliefs = judge(
        embedding.features, labels, source.num_classes, probs=embedding.probs, memory=embedding.memory, seed=seed
    )
    ours = 1 - beliefs.label_quality, beliefs.is_issue
    judged = time.monotonic()
    probs = out_of_fold(source, collection, column, plan, folds, seed, cache)
    rows = np.flatnonzero(np.isfinite(probs).all(axis=1))
    theirs = by_cleanlab(labels[rows], probs[rows])
    results = {
        "winnow": measured(wrong[rows], *(each[rows] for each in ours)),
        "cleanlab on five folds": measured(wrong[rows], *theirs),
    }
    ended = time.monotonic()
    return {
        "labels": column,
        "images": len(labels),
        "wrong": float(wrong.mean()),
        "budget_minutes": minutes,
        "seed": seed,
        "features": embedding.description,
        "estimated_noise_rate": beliefs.noise_rate,
        "judged": len(rows),
        "results": results,
        "seconds": {"embed": embedded - begun, "judge": judged - embedded, "five folds": ended - judged},
        **circumstances(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def lines(found: Mapping[str, Any]) -> list[str]:
    """A table of one run for the person."""
    told = [f"{found['labels']}: {found['images']:,} images, {100 * found['wrong']:.1f} % wrong; {found['features']}"]
    told.append(f"{'':<28}{'AUROC':>8}{'AP':>8}{'F1':>8}{'flagged':>9}")
    for name, row in found["results"].items():
        told.append(
            f"{name:<28}{row['auroc']:>8.3f}{row['average_precision']:>8.3f}{row['f1']:>8.3f}{row['flagged']:>9.3f}"
        )
    ours, theirs = found["results"]["winnow"], found["results"]["cleanlab on five folds"]
    for measure, goal in GOALS.get(found["labels"], {}).items():
        ahead = ours[measure] - theirs[measure]
        told.append(f"{measure}: {ahead:+.3f} against cleanlab, goal {goal:+.2f}: {'yes' if ahead >= goal else 'no'}")
    return told


def main() -> None:
    """Measures, prints, and adds to the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", nargs="*", choices=LABELS, default=list(LABELS))
    parser.add_argument("--limit", type=int, help="so many images, a fixed choice")
    parser.add_argument("--minutes", type=float, default=15.0, help="budget of our training")
    parser.add_argument(
        "--folds", type=int, choices=range(1, FOLDS + 1), default=FOLDS, help="of theirs, to measure on"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cache", type=Path, help="folder that keeps what was trained, ours and theirs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="winnow-cifar10n-") as work:
        cache = options.cache or Path(work)
        for column in options.labels:
            found = compared(column, options.limit, options.minutes, options.folds, options.seed, cache)
            print("\n".join(lines(found)), flush=True)
            with (RESULTS / "audit-cifar10n.jsonl").open("a", encoding="utf-8") as record:
                record.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
