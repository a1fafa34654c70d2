"""Accuracy of `NoisyLabelClassifier` over features against the same classifier fitted to the noisy labels.

    python -m benchmarks.estimator run                         # ten seeds, three minutes on one core
    python -m benchmarks.estimator table                       # what is recorded, as Markdown

Data: what scikit-learn carries or makes, and 1,500 pictures of MNIST at 14 x 14 pixels where WINNOW_DATA is set. 30 %
of the rows are the test set, with true labels; both split and noise follow the seed. Seeds 0 to 2 chose the method's
form; the recorded ones are others. A cell goes to `results/estimator.jsonl` as a line and is not run again.
`CleanLearning` is cleanlab's, where that is installed, around the same classifier.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.datasets import load_breast_cancer, load_digits, load_wine, make_classification
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.model_selection import train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.planted import planted
from winnow import NoisyLabelClassifier

RESULTS = Path(__file__).parent / "results" / "estimator.jsonl"
CASES = ("clean", "symmetric 0.2", "symmetric 0.4", "pair 0.2", "pair 0.4", "by difficulty 0.2")
PLAIN, PLAIN_1, WINNOW, CLEANLAB = "plain", "plain, C = 1", "winnow", "CleanLearning"

Table = tuple[np.ndarray, np.ndarray]


def mnist(seed: int) -> Table:
    archive = np.load(Path(os.environ["WINNOW_DATA"]) / "mnist_train.npz")
    rows = np.random.default_rng(seed).choice(len(archive["y"]), 1500, replace=False)
    pixels = archive["x"][rows].reshape(1500, 14, 2, 14, 2).mean(axis=(2, 4))
    return pixels.reshape(1500, -1) / 255, archive["y"][rows].astype(np.int64)


DATA: dict[str, Callable[[int], Table]] = {
    "digits": lambda seed: load_digits(return_X_y=True),
    "mnist": mnist,
    "made": lambda seed: make_classification(2000, 20, n_informative=10, n_classes=4, class_sep=1.5, random_state=seed),
    "breast cancer": lambda seed: load_breast_cancer(return_X_y=True),
    "wine": lambda seed: load_wine(return_X_y=True),
}


def classifier(strength: float = 0.1) -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=strength, max_iter=1000))


def noisy(features: np.ndarray, labels: np.ndarray, case: str, seed: int) -> np.ndarray:
    """Labels with an exact share of wrong ones; `by difficulty`: where a classifier hesitates, to its second class."""
    kind, _, rate = case.rpartition(" ")
    if not kind:
        return labels
    return planted(features, labels, kind, float(rate), seed, classifier(1.0))


def cell(data: str, case: str, method: str, seed: int) -> dict[str, Any]:
    """One fit: test accuracy and, of the robust ones, how well wrong labels were found."""
    features, labels = DATA[data](seed)
    train, test = train_test_split(np.arange(len(labels)), test_size=0.3, random_state=seed, stratify=labels)
    given = noisy(features[train], labels[train], case, seed)
    truth = given != labels[train]
    started = time.process_time()
    result: dict[str, Any] = {}
    if method == CLEANLAB:
        from cleanlab.classification import CleanLearning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = CleanLearning(classifier(), seed=seed, find_label_issues_kwargs={"n_jobs": 1})
            model.fit(features[train], given)
        issues = model.get_label_issues()
        result = found(truth, issues["is_label_issue"].to_numpy(), issues["label_quality"].to_numpy())
    elif method == WINNOW:
        model = NoisyLabelClassifier(random_state=seed).fit(features[train], given)
        result = found(truth, model.is_issue_, model.label_quality_) | {"noise_rate": model.noise_rate_}
    else:
        model = classifier(1.0 if method == PLAIN_1 else 0.1).fit(features[train], given)
    seconds = time.process_time() - started
    accuracy = float((model.predict(features[test]) == labels[test]).mean())
    return {"accuracy": accuracy, "seconds": round(seconds, 3)} | result


def found(truth: np.ndarray, flagged: np.ndarray, quality: np.ndarray) -> dict[str, float]:
    """F1 of the flags and average precision of the ranking, where labels are wrong."""
    if not truth.any():
        return {"flagged": float(flagged.mean())}
    f1 = 2 * np.sum(truth & flagged) / (np.sum(truth) + np.sum(flagged))
    return {"f1": float(f1), "average_precision": float(average_precision_score(truth, -quality))}


def recorded() -> list[dict[str, Any]]:
    return [json.loads(line) for line in RESULTS.read_text().splitlines()] if RESULTS.exists() else []


def methods() -> list[str]:
    try:
        import cleanlab  # noqa: F401
    except ImportError:
        return [PLAIN, PLAIN_1, WINNOW]
    return [PLAIN, PLAIN_1, WINNOW, CLEANLAB]


def possible(data: str, case: str) -> bool:
    """With two classes pair noise is symmetric noise."""
    return not (case.startswith("pair") and data == "breast cancer") and (
        data != "mnist" or "WINNOW_DATA" in os.environ
    )


def run(seeds: list[int]) -> None:
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    done = {(r["data"], r["case"], r["method"], r["seed"]) for r in recorded()}
    for key in [(d, c, m, s) for s in seeds for d in DATA for c in CASES for m in methods() if possible(d, c)]:
        if key in done:
            continue
        measured = cell(*key)
        line = dict(zip(("data", "case", "method", "seed"), key, strict=True)) | {"commit": commit} | measured
        with RESULTS.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(", ".join(map(str, key)), f"{100 * measured['accuracy']:.1f} %", flush=True)


def table() -> str:
    """Mean accuracies over the seeds; winnow's gain on plain, seed by seed: mean, smallest and largest."""
    rows = recorded()
    columns = ["data", "labels", PLAIN_1, PLAIN, CLEANLAB, WINNOW, "gain on plain (from, to)", "F1", "AP", "seconds"]
    lines = [f"| {' | '.join(columns)} |", "|---" * len(columns) + "|"]
    for data, case in [(d, c) for d in DATA for c in CASES]:
        chosen = {m: {r["seed"]: r for r in rows if (r["data"], r["case"], r["method"]) == (data, case, m)} for m in (
            PLAIN_1, PLAIN, CLEANLAB, WINNOW)}  # fmt: skip
        ours, plain = chosen[WINNOW], chosen[PLAIN]
        if not ours:
            continue
        gains = [100 * (ours[seed]["accuracy"] - plain[seed]["accuracy"]) for seed in ours]
        cells = [_mean(chosen[m], "accuracy", 100, 1) for m in (PLAIN_1, PLAIN, CLEANLAB, WINNOW)]
        gain = f"{statistics.mean(gains):+.1f} ({min(gains):+.1f}, {max(gains):+.1f})"
        scores = [_mean(ours, "f1", 1, 3), _mean(ours, "average_precision", 1, 3), _mean(ours, "seconds", 1, 2)]
        lines.append(f"| {' | '.join([data, case, *cells, gain, *scores])} |")
    return "\n".join(lines)


def _mean(cells: dict[int, dict[str, Any]], key: str, factor: float, digits: int) -> str:
    values = [cell[key] for cell in cells.values() if key in cell]
    return f"{factor * statistics.mean(values):.{digits}f}" if values else "-"


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["run", "table"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(10, 20)))
    options = parser.parse_args()
    if options.what == "run":
        run(options.seeds)
    print(table())


if __name__ == "__main__":
    main()
