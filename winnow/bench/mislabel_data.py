"""Who learns from what in the mislabelling study: the split, the nested subsets, the nested wrong labels.

Everything is a function of (seed, repeat, row). The subset of a smaller size is the beginning of that of a larger one,
and a label that is wrong at some rate is wrong in the same way at every higher rate: differences between cells of one
repeat are paired.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from winnow.bench.shared import Data, opened
from winnow.data.collection import load
from winnow.data.fitting import with_channels
from winnow.data.randomness import permutation, sample_keys, stream_key
from winnow.data.rows import subset
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.noise.kinds import make_noise

CLEAN, UNBIASED, BIASED = "clean", "unbiased", "biased"
LARGEST_VALIDATION = 5000
"""Of MNIST's 60,000 images, which leaves the study's 55,000."""
_VALIDATION_SHARE = 12
_TEST_SHARE = 5


@dataclass(frozen=True)
class Pool:
    """A labelled collection, divided once for all cells.

    Attributes:
        source: the images that can be read and have a label; the labels are taken for the truth.
        images: uint8 (N, size, size, channels), row by row those of `source`.
        train_rows: what subsets are drawn from.
        validation_rows: for choosing a best step on wrong labels, in an order whose every beginning is balanced.
        test_images: uint8 (T, size, size, channels).
        test_labels: the truth, (T,).
    """

    source: Source
    images: np.ndarray
    train_rows: np.ndarray
    validation_rows: np.ndarray
    test_images: np.ndarray
    test_labels: np.ndarray

    @property
    def labels(self) -> np.ndarray:
        """The truth, (N,)."""
        return self.source.noisy_labels

    @property
    def mirror(self) -> bool:
        """Whether a mirrored picture keeps its class."""
        return self.images.shape[3] == 3 if self.source.mirror is None else self.source.mirror


def pool_of(data: Data) -> Pool:
    """Divides a collection; a fifth of it becomes the test set if none was given.

    Raises:
        InputError: the data cannot be used.
    """
    source, images = readable(data.train)
    if source.num_classes < 2:
        raise InputError(f"{source.address}: there is one class only, so that no label can be wrong")
    rows = stratified_order(source.noisy_labels, stream_key(0, "mislabel split"))
    if data.test is None:
        number = len(rows) // _TEST_SHARE
        test_images, test_labels = images[rows[:number]], source.noisy_labels[rows[:number]]
        rows = rows[number:]
    else:
        test, test_images = readable(data.test, size=images.shape[1])
        test_images = with_channels(test_images, images.shape[3])
        test_labels = test.noisy_labels
    held_out = min(LARGEST_VALIDATION, len(rows) // _VALIDATION_SHARE)
    return Pool(source, images, np.sort(rows[held_out:]), rows[:held_out], test_images, test_labels)


@lru_cache(maxsize=1)
def shared_pool(opening: str) -> Pool:
    """In a cell: the pool of data opened as said in JSON, divided once in each process."""
    return pool_of(opened(json.loads(opening)))


def readable(source: Source, size: int | None = None) -> tuple[Source, np.ndarray]:
    """The images that can be read and have a label, and their pixels, uint8 (N, size, size, channels).

    Raises:
        InputError: there are none.
    """
    collection = load(source, size=size)
    labelled = source.noisy_labels[collection.rows] >= 0
    if not labelled.any():
        raise InputError(f"{source.address}: no image that can be read has a label")
    rows = collection.rows[labelled]
    images = collection.images if labelled.all() else collection.images[labelled]
    return (source if len(rows) == len(source) else subset(source, rows)), images


def subset_rows(pool: Pool, size: int, seed: int, repeat: int) -> np.ndarray:
    """Rows of the pool that a cell trains on, (size,): the beginning of an order that knows no size.

    Raises:
        UsageError: there are not so many.
    """
    if size > len(pool.train_rows):
        raise UsageError(
            f"--sizes {size}: {pool.source.address} has {len(pool.train_rows):,} images to train on, "
            f"beside {len(pool.validation_rows):,} for validation"
        )
    order = stratified_order(pool.labels[pool.train_rows], stream_key(seed, "mislabel subset", repeat))
    return pool.train_rows[order[:size]]


def stratified_order(labels: np.ndarray, key: int) -> np.ndarray:
    """An order whose every beginning holds the classes in the proportions of the whole, (N,).

    Args:
        labels: class indices, (N,).
        key: names the order.
    """
    rank, count, keys = _ranks(labels, key)
    return np.lexsort((keys, (rank + 0.5) / count))


def wrong_labels(pool: Pool, rows: np.ndarray, kind: str, rate: float, class_map: str | None, seed: int) -> np.ndarray:
    """Labels of some rows, a share of them wrong, (n,).

    Args:
        pool: whose labels are the truth.
        rows: of the pool.
        kind: `clean`; `unbiased`: any other class, all equally often; `biased`: always the same other class; or a kind
            of `winnow noise`, whose wrong labels need not be nested.
        rate: share of wrong labels, in [0, 1]; of the classes in the map, if there is one.
        class_map: for `biased`, as in `winnow noise --kind asymmetric`; by default each class is taken for the next.
        seed: of the wrong labels; the rate plays no part in it.
    """
    labels = pool.labels[rows]
    if kind == CLEAN:
        return labels
    if kind not in (UNBIASED, BIASED):
        return make_noise(subset(pool.source, rows), kind, rate, class_map=class_map, seed=seed).noisy_labels
    key = stream_key(seed, f"mislabel {kind}")
    if kind == UNBIASED:
        return mislabelled_unbiased(labels, rows, pool.source.num_classes, rate, key)
    return mislabelled_biased(labels, rows, biased_map(pool, class_map), rate, key)


def biased_map(pool: Pool, class_map: str | None) -> dict[int, int]:
    """Which class is taken for which.

    Raises:
        UsageError: the map names no such class, or sends one to itself.
    """
    classes = pool.source.num_classes
    if class_map is None:
        return {index: (index + 1) % classes for index in range(classes)}
    return dict(make_noise(pool.source, "asymmetric", 0.0, class_map=class_map).mapping or {})


def mislabelled_unbiased(labels: np.ndarray, names: np.ndarray, num_classes: int, rate: float, key: int) -> np.ndarray:
    """Labels of which every class loses its share to all others in equal parts, (n,).

    Args:
        labels: the truth, (n,).
        names: a number for each image that stays the same in every subset, (n,).
        num_classes: K.
        rate: share of wrong labels.
        key: of the randomness.
    """
    flipped, rank = _flipped(labels, names, rate, key)
    wrong = labels.copy()
    for index in np.unique(labels[flipped]):
        others = permutation(stream_key(key, "targets", int(index)), np.delete(np.arange(num_classes), index))
        members = flipped & (labels == index)
        wrong[members] = others[rank[members] % len(others)]
    return wrong


def mislabelled_biased(
    labels: np.ndarray, names: np.ndarray, mapping: Mapping[int, int], rate: float, key: int
) -> np.ndarray:
    """Labels of which every class of the map loses its share to its target, see `mislabelled_unbiased`."""
    flipped, _ = _flipped(labels, names, rate, key)
    wrong = labels.copy()
    for index, target in mapping.items():
        wrong[flipped & (labels == index)] = target
    return wrong


def _flipped(labels: np.ndarray, names: np.ndarray, rate: float, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Which labels are wrong, and their rank within their class, (n,) each.

    Image j of the n_c of its class is wrong where (j + u_c) / n_c < rate: nested in the rate, and within one image of
    rate * n_c. The offsets u_c are spread evenly over the classes, so that what is rounded up in some is rounded down
    in others: of 10 classes of 8 images, 20 % are 16 wrong labels and not 20.
    """
    rank, count, _ = _ranks(labels, key, names)
    classes = np.unique(labels)
    offsets = np.zeros(int(labels.max(initial=0)) + 1)
    offsets[permutation(stream_key(key, "offsets"), classes)] = (np.arange(len(classes)) + 0.5) / len(classes)
    # Rounded, or 0.3 * 10 would be less than 3.
    return np.round((rank + offsets[labels]) / count, 12) < round(rate, 12), rank


def _ranks(labels: np.ndarray, key: int, names: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rank of each image within its class by its key, size of that class, the keys, (n,) each."""
    keys = sample_keys(key, np.arange(len(labels)) if names is None else names)
    order = np.lexsort((keys, labels))
    counts = np.bincount(labels)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(labels), dtype=np.int64)
    rank[order] = np.arange(len(labels)) - starts[labels[order]]
    return rank, counts[labels], keys
