"""What a crawl is like before anything is trained: fates, types of noise, how well copies are found, examples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from winnow.bench.web_data import FATES, FLAT, FOREIGN, KEPT, TEST_COPY, Crawl
from winnow.report.cards import encode

CRAWL = "crawl"
"""Name of the part that is no training."""
_PAIRS = 24
_GAP = 2
_QUARTERS = 4


def looked_at(crawl: Crawl) -> dict[str, Any]:
    """Counts, rates and examples, as JSON can hold them."""
    calibration = crawl.calibration
    return {
        "images": len(crawl.labels),
        "num_classes": crawl.source.num_classes,
        "num_test": len(crawl.test_labels),
        "fates": {name: int((crawl.fate == code).sum()) for code, name in enumerate(FATES)},
        "chained": crawl.chained,
        "copied_test_images": int(crawl.copied.sum()),
        "class_sizes": np.bincount(crawl.labels[crawl.fate == KEPT], minlength=crawl.source.num_classes).tolist(),
        "rule": {**asdict(calibration.rule), "merging": calibration.rule.merging},
        "recall": dict(calibration.recall),
        "chance": calibration.chance,
        "made_copies": calibration.made,
        "noise": [noise_types(crawl, name, rows) for name, rows in _strata(crawl)],
        "complete": bool(crawl.checked.all()),
        "foreign_by_class": _foreign_by_class(crawl),
        "pairs": pairs(crawl),
    }


def noise_types(crawl: Crawl, name: str, rows: np.ndarray) -> dict[str, Any]:
    """Cross-domain and cross-category rates of some images, with 95 % intervals.

    Args:
        crawl: whose images they are.
        name: of the part.
        rows: which images; only those with a known truth count.
    """
    checked = rows[crawl.checked[rows]]
    foreign, wrong = int(crawl.foreign[checked].sum()), int(crawl.wrong[checked].sum())
    inside = len(checked) - foreign
    return {
        "part": name,
        "images": len(rows),
        "checked": len(checked),
        "foreign": foreign,
        "wrong": wrong,
        "cross_domain": foreign / len(checked) if len(checked) else None,
        "cross_domain_interval": clopper_pearson(foreign, len(checked)),
        "cross_category": wrong / inside if inside else None,
        "cross_category_interval": clopper_pearson(wrong, inside),
    }


def clopper_pearson(count: int, number: int, level: float = 0.95) -> list[float]:
    """The exact interval of a share, [low, high]: 0 is its lower end for no case, 1 its upper end for all."""
    from scipy.special import betaincinv

    tail = (1 - level) / 2
    low = float(betaincinv(count, number - count + 1, tail)) if count else 0.0
    high = float(betaincinv(count + 1, number - count, 1 - tail)) if count < number else 1.0
    return [low, high]


def pairs(crawl: Crawl) -> list[dict[str, Any]]:
    """Copies of test images as pictures, the least alike first: those are where a mistake would be."""
    copies = np.flatnonzero(crawl.fate == TEST_COPY)
    copies = copies[np.argsort(crawl.match.likeness[copies], kind="stable")][:_PAIRS]
    return [
        {
            "id": str(crawl.source.ids[row]),
            "label": crawl.source.class_names[crawl.labels[row]],
            "test_id": str(crawl.test_ids[crawl.of[row]]),
            "test_label": crawl.source.class_names[crawl.test_labels[crawl.of[row]]],
            "likeness": round(float(crawl.match.likeness[row]), 3),
            "bits": int(crawl.match.bits[row]),
            "picture": asdict(encode(side_by_side(crawl.images[row], crawl.test_images[crawl.of[row]]))),
        }
        for row in copies.tolist()
    ]


def side_by_side(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """Two pictures with a white gap between them."""
    gap = np.full((len(left), max(1, _GAP * len(left) // 32), left.shape[2]), 255, dtype=np.uint8)
    return np.concatenate([left, gap, right], axis=1)


def _strata(crawl: Crawl) -> Sequence[tuple[str, np.ndarray]]:
    usable = np.flatnonzero((crawl.fate != FLAT) & (crawl.fate != TEST_COPY))
    if not crawl.checked.any():
        return []
    found = [("as crawled, without copies of test images", usable), ("filtered", np.flatnonzero(crawl.fate == KEPT))]
    ranked = usable[np.isfinite(crawl.rank[usable])]
    if len(np.unique(crawl.rank[ranked])) >= _QUARTERS:
        # Each class by itself: searches differ in their depth.
        place = np.empty(len(ranked))
        for index in np.unique(crawl.labels[ranked]):
            mine = np.flatnonzero(crawl.labels[ranked] == index)
            order = mine[np.argsort(crawl.rank[ranked[mine]], kind="stable")]
            place[order] = np.arange(len(mine)) / len(mine)
        quarter = np.floor(place * _QUARTERS).astype(int)
        names = ("first", "second", "third", "last")
        found += [(f"{name} quarter by rank", ranked[quarter == number]) for number, name in enumerate(names)]
    return found


def _foreign_by_class(crawl: Crawl) -> dict[str, Any] | None:
    """Whether foreign images gather in some classes: then they are no even background any more."""
    usable = (crawl.fate != FLAT) & (crawl.fate != TEST_COPY) & crawl.checked
    total = np.bincount(crawl.labels[usable], minlength=crawl.source.num_classes)
    foreign = np.bincount(crawl.labels[usable & (crawl.truth == FOREIGN)], minlength=crawl.source.num_classes)
    if not foreign.sum():
        return None
    share = foreign / np.maximum(1, total)
    most = int(share.argmax())
    return {"class": crawl.source.class_names[most], "share": float(share[most]), "lowest": float(share.min())}
