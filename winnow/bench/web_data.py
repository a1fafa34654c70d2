"""A crawl as the web study sees it: what a search brought for each class, and what becomes of every image.

After Krause et al., "The unreasonable effectiveness of noisy data for fine-grained recognition", ECCV 2016: near copies
of test images out first, images returned for several classes out, copies merged. Every image has one fate.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from winnow.bench.mislabel_data import readable
from winnow.bench.shared import Data, opened
from winnow.bench.web_columns import Columns, read_columns
from winnow.bench.web_copies import Calibration, Match, best_match, calibrated, near_copies
from winnow.data.fitting import with_channels
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.functional.hashing import exact_groups
from winnow.labels.truth import CleanLabels

KEPT, FLAT, TEST_COPY, SEVERAL, MERGED = range(5)
FATES = ("kept", "one colour", "copy of a test image", "returned for several classes", "copy within its class")
"""What may become of an image that can be read and has a label; the first of the reasons counts."""
UNKNOWN, FOREIGN = -1, -2
"""Beside class indices, what the truth may be: nobody looked; of none of the classes."""


@dataclass(frozen=True)
class Crawl:
    """Images of a crawl, and what becomes of each.

    Attributes:
        source: the images that can be read and have a label; the label is the class that they were returned for.
        images: uint8 (N, S, S, C).
        rank: in the results of the search, 0 is the first; NaN where unknown, (N,).
        truth: class indices, `UNKNOWN` or `FOREIGN`, (N,); only simulated annotators and evaluation see it.
        fate: see `FATES`, (N,).
        of: for a copy the row that it is one of, in the test set or in the crawl; else -1, (N,).
        match: the nearest test image of each.
        calibration: how copies are told.
        chained: images in groups too large to be one picture.
        test_images: uint8 (T, S, S, C).
        test_labels: the truth, (T,).
        test_ids: their names.
    """

    source: Source
    images: np.ndarray
    rank: np.ndarray
    truth: np.ndarray
    fate: np.ndarray
    of: np.ndarray
    match: Match
    calibration: Calibration
    chained: int
    test_images: np.ndarray
    test_labels: np.ndarray
    test_ids: Sequence[str]

    @property
    def labels(self) -> np.ndarray:
        """The class that each image was returned for, (N,)."""
        return self.source.noisy_labels

    @property
    def checked(self) -> np.ndarray:
        """Whose truth is known, boolean (N,)."""
        return self.truth != UNKNOWN

    @property
    def foreign(self) -> np.ndarray:
        """Of none of the classes (cross-domain), boolean (N,)."""
        return self.truth == FOREIGN

    @property
    def wrong(self) -> np.ndarray:
        """Of another class (cross-category), boolean (N,)."""
        return (self.truth >= 0) & (self.truth != self.labels)

    @property
    def copied(self) -> np.ndarray:
        """Test images that have a copy in the crawl, boolean (T,)."""
        found = np.zeros(len(self.test_labels), dtype=bool)
        found[self.match.test_row[self.match.found]] = True
        return found

    @property
    def mirror(self) -> bool:
        """Whether a mirrored picture keeps its class."""
        return keeps_class_mirrored(self.source, self.images)


def keeps_class_mirrored(source: Source, images: np.ndarray) -> bool:
    """Whether a mirrored picture keeps its class; by default where it has colours."""
    return images.shape[3] == 3 if source.mirror is None else source.mirror


def crawl_of(data: Data, columns: Columns, likeness: float | None = None) -> Crawl:
    """Decides the fate of every image.

    Args:
        data: the crawl, and its test set.
        columns: what the table says besides.
        likeness: what counts as a copy; by default calibrated on made copies of test images.

    Raises:
        UsageError: there is no test set.
        InputError: the images cannot be used.
    """
    if data.test is None:
        raise UsageError(f"{data.train.address}: a crawl is measured on a test set of its own: name it with --test")
    source, images = readable(data.train)
    if source.num_classes < 2:
        raise InputError(f"{source.address}: there is one class only, so that nothing can be mistaken")
    test, test_images = readable(data.test, size=images.shape[1])
    test_images = with_channels(test_images, images.shape[3])
    calibration = calibrated(test_images, mirrored=keeps_class_mirrored(source, images), likeness=likeness)
    match = best_match(images, test_images, calibration.rule)
    fate, of, chained = fates(images, source.noisy_labels, source.ids, match, calibration)
    rank = np.array([columns.rank.get(name, np.nan) for name in source.ids])
    truth = known_truth(source.clean_labels, len(source), source.num_classes)
    foreign = np.array([name in columns.foreign for name in source.ids], dtype=bool)
    truth = np.where(foreign, FOREIGN, truth)
    return Crawl(
        source,
        images,
        rank,
        truth,
        fate,
        of,
        match,
        calibration,
        chained,
        test_images,
        test.noisy_labels,
        test.ids,
    )


def fates(
    images: np.ndarray, labels: np.ndarray, ids: Sequence[str], match: Match, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray, int]:
    """The fate of every image, the row that a copy is one of, and the number of images in chains.

    Copies of copies are followed through the whole crawl, those of test images included, so that an image does not
    become unambiguous because its other copy went first. Of a group within one class the smallest id stays.

    Args:
        images: uint8 (N, S, S, C).
        labels: class indices, (N,).
        ids: names of the images, (N,).
        match: against the test images.
        calibration: how copies are told.
    """
    # In the order of their names nothing depends on the order of the rows.
    order = np.array(sorted(range(len(ids)), key=lambda row: ids[row]), dtype=np.int64)
    first = exact_groups(images[order])
    unique, place = np.unique(first, return_inverse=True)
    near, chained = near_copies(images[order[unique]], calibration.rule)
    group = unique[near][place]
    head = np.empty(len(ids), dtype=np.int64)
    head[order] = order[group]
    flat = images.reshape(len(images), -1).min(axis=1) == images.reshape(len(images), -1).max(axis=1)
    fate = np.full(len(ids), KEPT)
    of = np.full(len(ids), -1, dtype=np.int64)
    lowest, highest = labels.copy(), labels.copy()
    np.minimum.at(lowest, head, labels)
    np.maximum.at(highest, head, labels)
    several = lowest[head] != highest[head]
    # A test copy or a flat image must not stand for the others of its group.
    candidates = ~(several | match.found | flat)
    stays: dict[int, int] = {}
    for row in order[candidates[order]].tolist():
        keeper = stays.setdefault(int(head[row]), row)
        if keeper != row:
            fate[row], of[row] = MERGED, keeper
    fate[several] = SEVERAL
    of[several] = head[several]
    fate[match.found] = TEST_COPY
    of[match.found] = match.test_row[match.found]
    fate[flat], of[flat] = FLAT, -1
    return fate, of, chained


def known_truth(clean: CleanLabels | None, number: int, num_classes: int) -> np.ndarray:
    """The truth as annotators would find it, class by class: is it one of these? `UNKNOWN` where nobody can say, (N,).

    Raises:
        InputError: the truth has another length.
    """
    truth = np.full(number, UNKNOWN, dtype=np.int64)
    if clean is None:
        return truth
    refused = [clean.wrong(np.full(number, index)) for index in range(num_classes)]
    known = refused[0] | refused[1]
    for index, wrong in enumerate(refused):
        truth[known & ~wrong] = index
    return truth


@lru_cache(maxsize=1)
def shared_crawl(text: str) -> Crawl:
    """In a cell: the crawl of `crawl_config` as JSON, looked at once in each process."""
    config: Mapping[str, Any] = json.loads(text)
    data = opened(config["data"])
    columns = read_columns(data.train, config["data"], config["rank_column"], config["foreign_column"])
    return crawl_of(data, columns, config["likeness"])
