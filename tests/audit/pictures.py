"""Sources of small pictures in which the class can be seen, for tests of the audit."""

from __future__ import annotations

import numpy as np

from winnow.data.collection import load
from winnow.data.pictures import ArrayPictures
from winnow.data.source import Source

CLASSES = ("dark left", "dark right")


def halves(num=120, side=20, seed=0, **options) -> Source:
    """Noise that is darker in one half, which is the class; every fifth label is wrong."""
    random = np.random.default_rng(seed)
    truth = np.arange(num) % 2
    images = random.integers(60, 200, (num, side, side), dtype=np.uint8)
    images[truth == 0, :, : side // 2] //= 2
    images[truth == 1, :, side // 2 :] //= 2
    labels = truth.copy()
    labels[::5] = 1 - labels[::5]
    return of_pictures(images, labels, **options)


def of_pictures(images, labels, class_names=CLASSES, **options) -> Source:
    """A source of arrays."""
    ids = [f"{row:04d}" for row in range(len(images))]
    given = {"mirror": False, **options}
    return Source("halves", ids, class_names, np.asarray(labels, dtype=np.int64), ArrayPictures(images), **given)


def opened(source):
    """(source, its collection)."""
    return source, load(source)
