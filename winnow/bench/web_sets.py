"""What each cell of the web study learns from: parts of a crawl, with the labels as they came or as annotated."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from winnow.bench.web_data import FLAT, KEPT, TEST_COPY, Crawl
from winnow.data.randomness import permutation, stream_key

STRATEGIES = ("random", "doubtful", "spread")
"""Whom to ask about first: nobody in particular; the least believed labels; all degrees of belief alike."""
FEWEST_NOISY = 5
"""Images of a type of noise below which it is not measured."""

Part = Mapping[str, Any]
TrainingSet = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Rows of the crawl, their labels, and the rows that annotators were asked about."""
Doubts = Callable[[np.ndarray], np.ndarray]
"""Gives the quality of the labels of some rows: how far they are believed, low is bad."""


def training_set(crawl: Crawl, part: Part, key: int, doubts: Doubts) -> TrainingSet:
    """The images and labels of a part.

    Args:
        crawl: whose images they are.
        part: `name` and what belongs to it, see `winnow.bench.web.parts`.
        key: of everything drawn: the same for all parts of a repeat.
        doubts: how far labels are believed, asked only where that decides.
    """
    kept = np.flatnonzero(crawl.fate == KEPT)
    name = part["name"]
    asked = kept[:0]
    if name == "raw":
        rows = np.flatnonzero(crawl.fate != FLAT)
    elif name == "without as many":
        rows = without_as_many(crawl, key)
    elif name == "decontaminated":
        rows = np.flatnonzero((crawl.fate != FLAT) & (crawl.fate != TEST_COPY))
    elif name == "filtered":
        rows = kept
    elif name == "cap":
        rows = capped(crawl, part["images"], part["by"], key)
    elif name == "noise":
        rows = with_noise(crawl, part["kind"], key)
    elif name == "annotated only":
        asked = chosen(crawl, "random", part["budget"], key, doubts)
        rows = asked
    else:
        asked = chosen(crawl, part["by"], part["budget"], key, doubts)
        rows = kept
    labels = crawl.labels.copy()
    labels[asked] = crawl.truth[asked]
    rows = rows[labels[rows] >= 0]  # what an annotator finds foreign goes
    return rows, labels[rows], asked


def shuffled(key: int, purpose: str, rows: np.ndarray) -> np.ndarray:
    """Rows in a random order that knows nothing of how many are there."""
    return permutation(stream_key(key, f"web {purpose}"), rows)


def without_as_many(crawl: Crawl, key: int) -> np.ndarray:
    """All images but as many as are copies of test images, none of those: the control for taking the copies out.

    What goes is of the same classes, and as far as the truth is known as often right, wrong or foreign: copies of test
    images mostly have right labels, and taking those away would cost something whatever they show.
    """
    usable = crawl.fate != FLAT
    copies = usable & (crawl.fate == TEST_COPY)
    status = np.select([~crawl.checked, crawl.foreign, crawl.wrong], [3, 2, 1], 0)
    stratum = crawl.labels * 4 + status
    order = shuffled(key, "control", np.arange(len(crawl.labels)))
    gone = np.zeros(len(usable), dtype=bool)
    for index in np.unique(stratum[copies]):
        others = order[(usable & ~copies & (stratum == index))[order]]
        gone[others[: int((copies & (stratum == index)).sum())]] = True
    return np.flatnonzero(usable & ~gone)


def capped(crawl: Crawl, most: int, by: str, key: int) -> np.ndarray:
    """At most so many kept images of every class: the first in the results, or random ones.

    Args:
        crawl: whose images they are.
        most: of one class.
        by: `rank` (images without one come last) or `random`.
        key: of the random ones.
    """
    order = shuffled(key, "cap", np.flatnonzero(crawl.fate == KEPT))
    if by == "rank":
        order = order[np.argsort(crawl.rank[order], kind="stable")]
    first = [order[crawl.labels[order] == index][:most] for index in range(crawl.source.num_classes)]
    return np.sort(np.concatenate(first))


def noise_counts(crawl: Crawl) -> tuple[int, int]:
    """How many right images stay in every part of the comparison of types of noise, and how many are added to them."""
    kept = crawl.fate == KEPT
    right = int((kept & crawl.checked & ~crawl.foreign & ~crawl.wrong).sum())
    added = min(int((kept & crawl.foreign).sum()), int((kept & crawl.wrong).sum()), right // 2)
    return right - added, added


def with_noise(crawl: Crawl, kind: str, key: int) -> np.ndarray:
    """The same right images, alone or with as many others of one type.

    Args:
        crawl: whose images they are.
        kind: `none`, `right`, `cross-domain` or `cross-category`.
        key: of the choice.
    """
    kept = crawl.fate == KEPT
    stay, added = noise_counts(crawl)
    right = shuffled(key, "right", np.flatnonzero(kept & crawl.checked & ~crawl.foreign & ~crawl.wrong))
    more = {
        "none": right[:0],
        "right": right[stay : stay + added],
        "cross-domain": shuffled(key, "foreign", np.flatnonzero(kept & crawl.foreign))[:added],
        "cross-category": shuffled(key, "wrong", np.flatnonzero(kept & crawl.wrong))[:added],
    }
    return np.sort(np.concatenate([right[:stay], more[kind]]))


def chosen(crawl: Crawl, by: str, budget: int, key: int, doubts: Doubts) -> np.ndarray:
    """Images that annotators are asked about, of those that are kept and whose truth is known.

    Args:
        crawl: whose images they are.
        by: one of `STRATEGIES`; the random ones of a smaller budget are among those of a larger one.
        budget: how many.
        key: of the random ones.
        doubts: for the other strategies.
    """
    kept = np.flatnonzero(crawl.fate == KEPT)
    quality = doubts(kept) if by != "random" else np.zeros(len(kept))
    can = crawl.checked[kept]
    rows, quality = kept[can], quality[can]
    if by == "random":
        return np.sort(shuffled(key, "annotated", rows)[:budget])
    ascending = rows[np.argsort(quality, kind="stable")]
    if by == "doubtful":
        return np.sort(ascending[:budget])
    places = np.floor((np.arange(budget) + 0.5) * len(ascending) / budget).astype(np.int64)
    return np.sort(ascending[np.unique(places[: len(ascending)])])
