"""One cell of the web study: a training on a part of the crawl, or the look at the crawl itself."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import lru_cache, partial
from typing import Any

import numpy as np

from winnow.bench.cells import canonical
from winnow.bench.mislabel_cell import PlainTraining
from winnow.bench.web_crawl import CRAWL, looked_at
from winnow.bench.web_data import Crawl, shared_crawl
from winnow.bench.web_sets import training_set
from winnow.data.randomness import permutation, stream_key
from winnow.train.trainer import EpochEnd

FOLDS = 3
_OF_CRAWL = ("data", "rank_column", "foreign_column", "likeness")
_OF_LEARNER = (
    "method",
    "model",
    "schedule",
    "length",
    "batch_size",
    "learning_rate",
    "weight_decay",
    "device",
    "precision",
)


def run_cell(config: Mapping[str, Any]) -> dict[str, Any]:
    """Trains on a part and measures, or looks at the crawl.

    Args:
        config: see `winnow.bench.web.Design.cell`.

    Returns:
        What was found, the same every time, and `times`; accuracies are fractions.

    Raises:
        UsageError: method or network are not possible.
        InputError: the data cannot be used, or the loss is not finite.
    """
    begun = time.process_time()
    of_crawl = canonical({name: config[name] for name in _OF_CRAWL})
    crawl = shared_crawl(of_crawl)
    part = config["part"]
    if part["name"] == CRAWL:
        return looked_at(crawl)
    key = stream_key(config["seed"], "web study", config["repeat"]) >> 1
    learner = canonical({name: config[name] for name in _OF_LEARNER})
    rows, labels, asked = training_set(crawl, part, key, partial(_believed, of_crawl, learner, key))
    probs = trained(crawl, rows, labels, crawl.test_images, config, key)
    right = probs.argmax(axis=1) == crawl.test_labels
    copied = crawl.copied
    truth = crawl.truth[rows]
    return {
        "images": len(rows),
        "smallest_class": int(np.bincount(labels, minlength=crawl.source.num_classes).min()),
        "asked": len(asked),
        "asked_wrong": int((crawl.wrong | crawl.foreign)[asked].sum()),
        "noise_left": float((truth != labels)[crawl.checked[rows]].mean()) if crawl.checked[rows].any() else None,
        "test_accuracy_last": float(right.mean()),
        "accuracy_copied": float(right[copied].mean()) if copied.any() else None,
        "accuracy_others": float(right[~copied].mean()) if not copied.all() else None,
        "num_test": len(right),
        "num_classes": crawl.source.num_classes,
        "times": {"cpu_seconds": round(time.process_time() - begun, 3)},
    }


def trained(
    crawl: Crawl, rows: np.ndarray, labels: np.ndarray, asked: np.ndarray, config: Mapping[str, Any], key: int
) -> np.ndarray:
    """Class probabilities of some images by a network trained on others, (n, K).

    Args:
        crawl: whose images are learnt from.
        rows: which.
        labels: theirs, (len(rows),).
        asked: the images to be told, uint8 (n, S, S, C).
        config: of the learner.
        key: of first weights and batches.
    """
    training = PlainTraining(crawl.images[rows], labels, crawl.source.class_names, crawl.mirror, config, key)
    training.trainer(_Deaf()).run()
    return training.probs(training.views(asked))


def _believed(of_crawl: str, learner: str, key: int, rows: np.ndarray) -> np.ndarray:
    """Probability of each label, told by a network that did not see it, (n,)."""
    return _out_of_fold(of_crawl, learner, key, rows.tobytes())


@lru_cache(maxsize=2)
def _out_of_fold(of_crawl: str, learner: str, key: int, rows: bytes) -> np.ndarray:
    """The strategies and budgets of a repeat follow each other, and doubt alike."""
    crawl, config = shared_crawl(of_crawl), json.loads(learner)
    wanted = np.frombuffer(rows, dtype=np.int64)
    labels = crawl.labels[wanted]
    fold = np.empty(len(wanted), dtype=np.int64)
    order = permutation(stream_key(key, "web folds"), np.arange(len(wanted)))
    order = order[np.argsort(labels[order], kind="stable")]  # every fold has its share of every class
    fold[order] = np.arange(len(wanted)) % FOLDS
    quality = np.empty(len(wanted))
    for held_out in range(FOLDS):
        mine = fold == held_out
        probs = trained(crawl, wanted[~mine], labels[~mine], crawl.images[wanted[mine]], config, key)
        quality[mine] = probs[np.arange(len(probs)), labels[mine]]
    return quality


class _Deaf:
    """Hears of a training and does nothing."""

    def step_ended(self, phase: str, fraction: float, images_per_second: float) -> None: ...

    def epoch_ended(self, end: EpochEnd, is_last: bool) -> None: ...

    def went_back(self, reason: str) -> None: ...

    def warned(self, text: str) -> None: ...

    def state(self) -> dict[str, Any]:
        return {}

    def load_state(self, state: dict[str, Any]) -> None: ...
