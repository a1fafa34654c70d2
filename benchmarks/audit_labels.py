"""Wrong labels among digits: winnow's audit beside cleanlab's, on the same data.

    python -m benchmarks.audit_labels                     # seeds 0 to 4, as recorded
    python -m benchmarks.audit_labels --seeds 5 6 7 8 9 --out DIR

Scikit-learn's 1,797 digits, 64 pixels each; exactly 10 or 20 % of the labels are made wrong: any other class
(`sym`), the next class (`pair`), or, of pictures that a classifier finds hard, its second choice (`inst`). winnow and
Datalab see the pixels, `find_label_issues` sees 5-fold probabilities of a logistic regression, which are not counted
in its time. Exit code 1 if a goal is missed.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import sys
import time
import warnings
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score, roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

from benchmarks.planted import planted
from benchmarks.record import RESULTS, circumstances
from winnow.audit.wrong_labels import judge
from winnow.files import atomic_write

CASES = ("sym 10", "sym 20", "pair 10", "pair 20", "inst 10", "inst 20")
GOALS = {
    "f1": dict(zip(CASES, (0.95, 0.975, 0.95, 0.97, 0.93, 0.915), strict=True)),
    "ap": dict(zip(CASES, (0.995, 0.997, 0.995, 0.995, 0.965, 0.98), strict=True)),
    "rate_error": dict(zip(CASES, (0.012, 0.012, 0.012, 0.015, 0.01, 0.02), strict=True)),
}
MOST_SECONDS = 3.0
CLASSES = 10


def corrupted(features: np.ndarray, labels: np.ndarray, case: str, seed: int) -> np.ndarray:
    """Labels of which an exact share is wrong."""
    kind, percent = case.split()
    name = {"sym": "symmetric", "pair": "pair", "inst": "by difficulty"}[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return planted(features, labels, name, int(percent) / 100, seed, LogisticRegression(max_iter=1000))


def measured(truth: np.ndarray, flagged: np.ndarray, suspicion: np.ndarray) -> dict[str, float]:
    """How well wrong labels were found."""
    hits = float((truth & flagged).sum())
    ranked = np.argsort(-suspicion, kind="stable")[: truth.sum()]
    return {
        "flagged": float(flagged.mean()),
        "precision": hits / max(flagged.sum(), 1),
        "recall": hits / truth.sum(),
        "f1": 2 * hits / float(truth.sum() + flagged.sum()),
        "auroc": float(roc_auc_score(truth, suspicion)),
        "ap": float(average_precision_score(truth, suspicion)),
        "p_at_k": float(truth[ranked].mean()),
    }


def winnow(features: np.ndarray, given: np.ndarray, clean: np.ndarray, seed: int) -> dict[str, Any]:
    truth = given != clean
    began = time.process_time()
    found = judge(features, given, CLASSES)
    seconds = time.process_time() - began
    joint = np.zeros((CLASSES, CLASSES))
    np.add.at(joint, (clean, given), 1)
    low, high = found.noise_rate_interval
    result = measured(truth, found.is_issue, 1 - found.label_quality)
    return result | {
        "rate": found.noise_rate,
        "rate_error": abs(found.noise_rate - float(truth.mean())),
        "interval": [low, high],
        "covered": float(low <= truth.mean() <= high),
        "precision_error": found.precision - result["precision"],
        "matrix_error": float(np.abs(found.transition_matrix - joint / joint.sum(axis=1, keepdims=True)).mean()),
        "seconds": seconds,
    }


def cleanlab_probs(features: np.ndarray, given: np.ndarray, clean: np.ndarray, seed: int) -> dict[str, Any]:
    from cleanlab.filter import find_label_issues
    from cleanlab.rank import get_label_quality_scores

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folds = StratifiedKFold(5, shuffle=True, random_state=seed)
        probs = cross_val_predict(LogisticRegression(max_iter=1000), features, given, cv=folds, method="predict_proba")
        began = time.process_time()
        flagged = find_label_issues(given, probs, n_jobs=1)
        seconds = time.process_time() - began
    return measured(given != clean, flagged, 1 - get_label_quality_scores(given, probs)) | {"seconds": seconds}


def datalab(features: np.ndarray, given: np.ndarray, clean: np.ndarray, seed: int) -> dict[str, Any]:
    from cleanlab import Datalab

    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        began = time.process_time()
        lab = Datalab({"label": given}, label_name="label", verbosity=0)
        lab.find_issues(features=features, issue_types={"label": {}})
        issues = lab.get_issues("label")
        seconds = time.process_time() - began
    flagged, score = issues["is_label_issue"].to_numpy(), issues["label_score"].to_numpy()
    return measured(given != clean, flagged, 1 - score) | {"seconds": seconds}


TOOLS: dict[str, Callable[..., dict[str, Any]]] = {
    "winnow": winnow,
    "cleanlab find_label_issues": cleanlab_probs,
    "Datalab": datalab,
}


def record_of(seeds: Sequence[int], tools: Sequence[str]) -> dict[str, Any]:
    """Every tool on every case and seed."""
    features, clean = load_digits(return_X_y=True)
    features, clean = features / 16, clean.astype(np.int64)
    rows = []
    for case in CASES:
        for seed in seeds:
            given = corrupted(features, clean, case, seed)
            for tool in tools:
                rows.append({"case": case, "tool": tool, "seed": seed} | TOOLS[tool](features, given, clean, seed))
    return {
        "benchmark": "audit-labels",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **circumstances(),
        "seeds": list(seeds),
        "missed": missed(rows),
        "rows": rows,
    }


def average(rows: Sequence[dict[str, Any]], case: str, tool: str, name: str) -> float:
    """Over the seeds."""
    return mean(row[name] for row in rows if row["case"] == case and row["tool"] == tool)


def missed(rows: Sequence[dict[str, Any]]) -> list[str]:
    """The goals that the means of winnow do not reach, as sentences."""
    found = []
    for name, goals in GOALS.items():
        for case, goal in goals.items():
            value = average(rows, case, "winnow", name)
            if value > goal if name == "rate_error" else value < goal:
                found.append(f"{case}: {name} {value:.4f}, goal {goal}")
    slowest = max(average(rows, case, "winnow", "seconds") for case in CASES)
    return found + ([f"{slowest:.1f} s of CPU, goal {MOST_SECONDS}"] if slowest > MOST_SECONDS else [])


def table(record: dict[str, Any]) -> str:
    """Means over the seeds as Markdown; goals in brackets."""
    rows = record["rows"]
    tools = list(dict.fromkeys(row["tool"] for row in rows))
    lines = ["| | | " + " | ".join(CASES) + " |", "|---|---|" + "---:|" * len(CASES)]
    for title, name in (("F1", "f1"), ("average precision", "ap"), ("precision", "precision"), ("recall", "recall")):
        for tool in tools:
            cells = [
                f"{average(rows, case, tool, name):.3f}"
                + (f" ({GOALS[name][case]:g})" if tool == "winnow" and name in GOALS else "")
                for case in CASES
            ]
            lines.append(f"| {title} | {tool} | {' | '.join(cells)} |")
    for title, name in (
        ("error of the noise rate", "rate_error"),
        ("error of the estimated precision", "precision_error"),
        ("mean error of the matrix", "matrix_error"),
        ("CPU seconds", "seconds"),
    ):
        cells = [
            f"{average(rows, case, 'winnow', name):.4f}" + (f" ({GOALS[name][case]:g})" if name in GOALS else "")
            for case in CASES
        ]
        lines.append(f"| {title} | winnow | {' | '.join(cells)} |")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """1 if a goal is missed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(range(5)))
    parser.add_argument("--only-winnow", action="store_true", help="without the other tools")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the record")
    given = parser.parse_args(arguments)
    tools = list(TOOLS)
    if given.only_winnow or importlib.util.find_spec("cleanlab") is None:
        tools = tools[:1]
        print("winnow alone: " + ("as asked" if given.only_winnow else "cleanlab is not installed"), file=sys.stderr)
    record = record_of(given.seeds, tools)
    given.out.mkdir(parents=True, exist_ok=True)
    atomic_write(given.out / "audit-labels.json", (json.dumps(record, indent=1) + "\n").encode())
    print(table(record))
    print("\n".join(record["missed"]) or "all goals are reached")
    return 1 if record["missed"] else 0


if __name__ == "__main__":
    sys.exit(main())
