"""Whether `winnow diagnose` says what is true: digits with planted noise, under two minutes on one core.

    python -m benchmarks.diagnose

Six checks, each with its limit; what does not hold is recorded with its numbers. The record is `results/diagnose.json`.

(a) the accuracy behind noisy labels, within 0.03 of the true one; (b) the F statistics, and the shares of explained
variance, within 15 % of theory; (c) sizes of models rise with noise; (d) the ratio of images needed is above 1 and
rises; (e) corrected class frequencies are at most half as far off; (f) without noise, the intervals of costs hold none.
"""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from benchmarks.record import RESULTS, rounded
from winnow.audit.diagnosis.accuracy import accuracy
from winnow.audit.diagnosis.added_noise import remaining
from winnow.audit.diagnosis.complexity import MOST, QUANTITIES, degrees_of_freedom, model_sizes
from winnow.audit.diagnosis.evidence import Evidence, gathered
from winnow.audit.diagnosis.frequencies import frequencies, total_variation
from winnow.audit.diagnosis.learner import Learner, standardised
from winnow.audit.diagnosis.measure import Diagnostic
from winnow.audit.diagnosis.relevance import explained_variance, f_statistics
from winnow.audit.diagnosis.samples import samples
from winnow.bench.machine import circumstances
from winnow.data.open import open_source
from winnow.data.rows import subset
from winnow.data.source import Source
from winnow.files import atomic_write
from winnow.noise.inject import asymmetric, symmetric
from winnow.noise.matrices import CLASS_MAPS

RATES = (0.0, 0.1, 0.2, 0.3)
SEEDS = (0, 1, 2)
DRAWS = 5
CLEAN_RUNS = 20
CLEAN_SHARE = 0.8
_CLOSE, _WITHIN, _HALF, _OFTEN = 0.03, 0.15, 0.5, 0.9

Check = dict[str, Any]


def noisy(source: Source, kind: str, rate: float, seed: int) -> np.ndarray:
    """Labels of the digits with planted noise, (N,)."""
    labels, ids, classes = source.noisy_labels, source.ids, source.num_classes
    if kind == "symmetric":
        return symmetric(labels, ids, classes, rate, seed=seed).noisy_labels
    return asymmetric(labels, ids, classes, rate, CLASS_MAPS["mnist"], seed=seed).noisy_labels


def seen(source: Source, labels: np.ndarray) -> tuple[Evidence, Learner]:
    """What a diagnosis of these labels rests on."""
    evidence = gathered(replace(source, noisy_labels=labels))
    return evidence, Learner(evidence.features, evidence.fold, evidence.num_classes)


def checks_of_planted(source: Source) -> list[Check]:
    """(a), (d) and (e): diagnoses of planted noise against the truth."""
    truth = source.noisy_labels
    shares = np.bincount(truth) / len(truth)
    of_accuracy: list[Check] = []
    of_samples: list[Check] = []
    of_shares: list[Check] = []
    for kind in ("symmetric", "asymmetric"):
        for rate in RATES:
            for seed in SEEDS:
                labels = noisy(source, kind, rate, seed)
                evidence, learner = seen(source, labels)
                case: Check = {"kind": kind, "rate": rate, "seed": seed}
                found = accuracy(evidence, evidence, learner, seed=seed).measures["accuracy"]
                true = float((evidence.predicted == truth).mean())
                error = found.value - true
                of_accuracy.append(
                    case | {"true": true, "found": found.value, "error": error, "in": _holds(found, true)}
                )
                if kind == "symmetric":
                    of_samples.append(case | _ratios(samples(evidence, learner, seed=seed)))
                elif rate == RATES[-1]:
                    rows = frequencies(evidence, seed=seed).curves["classes"]
                    corrected = total_variation(np.array([row["share"].value for row in rows]), shares)
                    given = total_variation(np.bincount(labels) / len(labels), shares)
                    of_shares.append(case | {"given": given, "corrected": corrected, "ratio": corrected / given})
    worst = max(abs(case["error"]) for case in of_accuracy)
    rising = [case["0.05"] < case["0.1"] < case["0.2"] and case["0.05"] > 1 for case in of_samples]
    ratio = max(case["ratio"] for case in of_shares)
    return [
        _check("a", "accuracy found - true accuracy, largest", worst, _CLOSE, worst <= _CLOSE, of_accuracy),
        _check("d", "runs in which the ratio is above 1 and rises", np.mean(rising), 1.0, all(rising), of_samples),
        _check("e", "total variation corrected / given, largest", ratio, _HALF, ratio <= _HALF, of_shares),
    ]


def checks_of_theory(source: Source) -> list[Check]:
    """(b) and (c): single features and sizes of models under planted symmetric noise."""
    truth, classes = source.noisy_labels, source.num_classes
    evidence, learner = seen(source, truth)
    clean = explained_variance(evidence.features, truth, classes)
    rows = np.sort(np.random.default_rng(0).permutation(len(truth))[:MOST])
    values = standardised(evidence.features)
    features: list[Check] = []
    sizes: list[Check] = []
    for rate in RATES:
        theory = float(remaining(rate, classes)) ** 2
        explained, strength, found = [], [], []
        for draw in range(DRAWS):
            labels = noisy(source, "symmetric", rate, draw)
            now = explained_variance(evidence.features, labels, classes)
            explained.append(now.mean() / clean.mean() / theory)
            ratio = f_statistics(now, len(truth), classes).mean() / f_statistics(clean, len(truth), classes).mean()
            strength.append(ratio / theory)
            found.append((*model_sizes(values[rows], labels[rows]), degrees_of_freedom(learner, learner.fit(labels))))
        features.append({"rate": rate, "explained": float(np.mean(explained)), "f": float(np.mean(strength))})
        sizes.append({"rate": rate, **dict(zip(QUANTITIES, np.mean(found, axis=0).tolist(), strict=True))})
    checks = []
    for name, what in (("f", "F statistics"), ("explained", "explained variance")):
        off = max(abs(case[name] - 1) for case in features)
        checks.append(
            _check("b", f"{what} against theory, largest relative error", off, _WITHIN, off <= _WITHIN, features)
        )
    for name in QUANTITIES:
        steps = np.diff([case[name] for case in sizes])
        what = f"{name.replace('_', ' ')}: smallest rise between rates"
        checks.append(_check("c", what, steps.min(), 0.0, bool((steps > 0).all()), sizes))
    return checks


def check_of_clean(source: Source) -> Check:
    """(f): diagnoses of random parts of the digits as they are."""
    runs = []
    for run in range(CLEAN_RUNS):
        rows = np.random.default_rng(run).permutation(len(source))[: int(CLEAN_SHARE * len(source))]
        part = subset(source, np.sort(rows))
        evidence, learner = seen(part, part.noisy_labels)
        shares = frequencies(evidence, seed=run)
        holds = {
            "accuracy_lost": _holds(accuracy(evidence, evidence, learner, seed=run).measures["accuracy_lost"], 0),
            "images_ratio": _holds(samples(evidence, learner, seed=run).measures["images_ratio_present"], 1),
            "total_variation": _holds(shares.measures["total_variation"], 0),
            "overcounts": all(_holds(row["overcount"], 0) for row in shares.curves["classes"]),
        }
        low, high = evidence.noise_rate_interval
        runs.append({"run": run, "rate": evidence.noise_rate, "low": low, "high": high, **holds})
    share = min(
        float(np.mean([run[name] for run in runs]))
        for name in ("accuracy_lost", "images_ratio", "total_variation", "overcounts")
    )
    return _check("f", "clean runs whose interval of a cost holds none, fewest", share, _OFTEN, share >= _OFTEN, runs)


def _holds(measure: Any, value: float) -> bool:
    low, high = measure.interval
    return bool(low <= value <= high)


def _ratios(diagnostic: Diagnostic) -> dict[str, float]:
    return {
        name.rsplit("_", 1)[1]: m.value for name, m in diagnostic.measures.items() if name.startswith("images_ratio")
    }


def _check(name: str, what: str, measured: float, limit: float, holds: bool, cases: list[Check]) -> Check:
    return {
        "check": name,
        "what": what,
        "measured": float(measured),
        "limit": limit,
        "holds": bool(holds),
        "cases": cases,
    }


def main() -> None:
    """Measures, prints, records."""
    started = time.process_time()
    source = open_source("digits")
    checks = [*checks_of_planted(source), *checks_of_theory(source), check_of_clean(source)]
    checks.sort(key=lambda check: check["check"])
    for check in checks:
        verdict = "holds" if check["holds"] else "DOES NOT HOLD"
        print(f"({check['check']}) {check['what']:<64}{check['measured']:>9.3f}{check['limit']:>7g}  {verdict}")
    record = {
        "benchmark": "diagnose",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        **circumstances(),
        "cpu_seconds": time.process_time() - started,
        "data": source.address,
        "checks": checks,
    }
    print(f"{record['cpu_seconds']:.0f} s of CPU time")
    atomic_write(RESULTS / "diagnose.json", (json.dumps(rounded(record), indent=1) + "\n").encode())


if __name__ == "__main__":
    main()
