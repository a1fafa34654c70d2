"""Wrong labels planted in exact number, for benchmarks on feature rows."""

from __future__ import annotations

from typing import Any

import numpy as np


def planted(features: np.ndarray, labels: np.ndarray, kind: str, rate: float, seed: int, hesitant: Any) -> np.ndarray:
    """Labels of which round(rate * N) are wrong.

    Args:
        features: (N, D), read by `by difficulty` alone.
        labels: the truth, (N,), classes counted from 0.
        kind: `symmetric`, any other class; `pair`, the next class; `by difficulty`, drawn where a classifier hesitates,
            its most probable other class.
        rate: in [0, 1].
        seed: of the draw.
        hesitant: an unfitted classifier with `predict_proba`, which is fitted to the truth.
    """
    random = np.random.default_rng(seed)
    count, classes, wrong = round(rate * len(labels)), int(labels.max()) + 1, labels.copy()
    if kind == "by difficulty":
        probs = hesitant.fit(features, labels).predict_proba(features)
        weights = 1 - probs[np.arange(len(labels)), labels] + 0.001
        rows = random.choice(len(labels), count, replace=False, p=weights / weights.sum())
        probs[np.arange(len(labels)), labels] = -1
        wrong[rows] = probs[rows].argmax(axis=1)
        return wrong
    rows = random.choice(len(labels), count, replace=False)
    shift = random.integers(1, classes, count) if kind == "symmetric" else 1
    wrong[rows] = (labels[rows] + shift) % classes
    return wrong
