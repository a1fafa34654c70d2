"""Copies among decoded images: exact by content, near by a perceptual hash or by the likeness of thumbnails.

The hash is pHash (Zauner 2010): 32 x 32 grey, its cosine transform, of that the 8 x 8 lowest frequencies, one bit each
for above their median. Everything works in blocks, so that memory does not grow with the number of pairs looked at.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

HASHED_SIDE, LOWEST = 32, 8
THUMBNAIL_SIDE = 16
_LUMA = np.array([0.299, 0.587, 0.114], dtype=np.float32)
_VALUES_AT_ONCE = 1 << 19
"""Of pixels looked at together: small enough for a processor's cache."""
_PAIRS_AT_ONCE = 1 << 22
_FLAT = 1e-3
"""Contrast, as a standard deviation of grey levels, below which an image has no likeness to anything."""


@dataclass(frozen=True)
class Window:
    """A part of an image that is looked at as if it were the whole.

    Attributes:
        top, left: where it begins, as shares of the side.
        side: as a share of the image's.
        mirrored: whether left and right change places.
    """

    top: float = 0.0
    left: float = 0.0
    side: float = 1.0
    mirrored: bool = False


WHOLE = Window()


def crops(side: float, step: float) -> list[Window]:
    """Square parts of a side all over an image, neighbouring ones at most `step` apart: both as shares of its side."""
    places = np.linspace(0, 1 - side, max(3, round((1 - side) / step) + 1)).tolist()
    return [Window(top, left, side) for top in places for left in places]


def middle(side: float) -> Window:
    """The part in the middle."""
    return Window((1 - side) / 2, (1 - side) / 2, side)


def both_ways(windows: Sequence[Window], mirrored: bool) -> list[Window]:
    """The windows, and their mirrored images too where they are wanted."""
    turned = [replace(window, mirrored=True) for window in windows] if mirrored else []
    return [*windows, *turned]


def perceptual_hash(images: np.ndarray, window: Window = WHOLE) -> np.ndarray:
    """64 bits an image, uint64 (N,): the same for scaled, slightly recoloured or recompressed copies, nearly.

    Args:
        images: uint8 (N, H, W, C), C = 1 or 3.
        window: the part to hash.
    """
    # Scaling and transform are both products from the left and from the right, so that each pair is one.
    down, across = (cosine_transform(HASHED_SIDE)[:LOWEST] @ side for side in _resamplings(images, HASHED_SIDE, window))
    found = np.empty(len(images), dtype=np.uint64)
    for start, block in _blocks(images):
        low = (down @ _grey(block) @ across.T).reshape(len(block), -1)
        ordered, middle = np.sort(low, axis=1), low.shape[1] // 2
        bits = low > (ordered[:, middle - 1 : middle] + ordered[:, middle : middle + 1]) / 2  # the median
        found[start : start + len(block)] = np.packbits(bits, axis=1).view(">u8")[:, 0]
    return found


def thumbnails(images: np.ndarray, window: Window = WHOLE) -> np.ndarray:
    """Grey 16 x 16 thumbnails of mean 0 and length 1, float32 (N, 256): their products are correlations in [-1, 1].

    An image without contrast is all zero: like nothing, itself included.

    Args:
        images: uint8 (N, H, W, C), C = 1 or 3.
        window: the part to look at.
    """
    found = np.empty((len(images), THUMBNAIL_SIDE**2), dtype=np.float32)
    for start, block in _blocks(images):
        values = scaled(block, THUMBNAIL_SIDE, window).reshape(len(block), -1)
        values -= values.mean(axis=1, keepdims=True)
        length = np.linalg.norm(values, axis=1, keepdims=True)
        flat = length <= _FLAT * THUMBNAIL_SIDE
        found[start : start + len(block)] = np.where(flat, 0, values / np.where(flat, 1, length))
    return found


def hash_distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Number of bits in which hashes differ, uint8, broadcast."""
    return np.bitwise_count(first ^ second)


def near_hashes(first: np.ndarray, second: np.ndarray, most: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (rows of first, rows of second) whose hashes differ in at most `most` bits, block by block."""
    for rows, columns in _tiles(len(first), len(second)):
        found = np.nonzero(hash_distances(first[rows, None], second[None, columns]) <= most)
        yield found[0] + rows.start, found[1] + columns.start


def alike(first: np.ndarray, second: np.ndarray, least: float) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Pairs (rows of first, rows of second) of thumbnails whose correlation is at least `least`, block by block."""
    for rows, columns in _tiles(len(first), len(second)):
        found = np.nonzero(first[rows] @ second[columns].T >= least)
        yield found[0] + rows.start, found[1] + columns.start


def most_alike(first: np.ndarray, second: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each thumbnail of the first its largest correlation with one of the second, and the row of that one.

    Args:
        first: (N, 256).
        second: at least one, (T, 256).
    """
    likeness = np.full(len(first), -np.inf, dtype=np.float32)
    row = np.zeros(len(first), dtype=np.int64)
    for rows, columns in _tiles(len(first), len(second)):
        products = first[rows] @ second[columns].T
        place = products.argmax(axis=1)
        best = products[np.arange(len(products)), place]
        better = best > likeness[rows]
        likeness[rows] = np.where(better, best, likeness[rows])
        row[rows] = np.where(better, place + columns.start, row[rows])
    return likeness, row


def exact_groups(images: np.ndarray) -> np.ndarray:
    """For each image the first row with the very same pixels, int64 (N,)."""
    return first_rows(content_hash(image) for image in images)


def content_hash(image: np.ndarray) -> bytes:
    """128 bits of an image's pixels."""
    return blake2b(np.ascontiguousarray(image).data, digest_size=16).digest()


def first_rows(contents: Iterable[Hashable]) -> np.ndarray:
    """For each thing the first place of an equal one, int64 (N,)."""
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(content, row) for row, content in enumerate(contents)], dtype=np.int64)


def components(number: int, pairs: Iterable[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """For each of some things the smallest one that a chain of pairs leads to, int64 (N,)."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = [(np.asarray(left, dtype=np.int64), np.asarray(right, dtype=np.int64)) for left, right in pairs]
    left = np.concatenate([each for each, _ in ends]) if ends else np.empty(0, dtype=np.int64)
    right = np.concatenate([each for _, each in ends]) if ends else np.empty(0, dtype=np.int64)
    graph = coo_array((np.ones(len(left), dtype=bool), (left, right)), shape=(number, number))
    _, label = connected_components(graph, directed=False)
    _, smallest = np.unique(label, return_index=True)
    return np.asarray(smallest[label], dtype=np.int64)


def scaled(images: np.ndarray, side: int, window: Window = WHOLE) -> np.ndarray:
    """Grey images scaled by a triangle filter that covers every pixel, float32 (N, side, side)."""
    down, across = _resamplings(images, side, window)
    result: np.ndarray = down @ _grey(images) @ across.T
    return result


def _grey(images: np.ndarray) -> np.ndarray:
    values = images.astype(np.float32)
    return values[..., 0] if images.shape[3] == 1 else values @ _LUMA


def _resamplings(images: np.ndarray, side: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
    """Weights of the rows and of the columns of pixels, (side, H) and (side, W)."""
    down = resampling(images.shape[1], side, window.top, window.side)
    across = resampling(images.shape[2], side, window.left, window.side)
    return down, across[::-1] if window.mirrored else across


def resampling(size: int, side: int, start: float = 0.0, share: float = 1.0) -> np.ndarray:
    """Weights that scale a row of pixels to a side, float32 (side, size); each row sums to one.

    Args:
        size: number of pixels.
        side: number that is wanted.
        start: where to begin, as a share of the pixels.
        share: how much of them to take.
    """
    step = size * share / side
    centres = size * start + (np.arange(side) + 0.5) * step
    reach = max(1.0, step)
    weights = np.maximum(0.0, 1 - np.abs(centres[:, None] - np.arange(size) - 0.5) / reach)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def cosine_transform(size: int) -> np.ndarray:
    """The matrix of the discrete cosine transform (type II), float32 (size, size).

    Entry (k, n) is cos(pi k (n + 1/2) / size).
    """
    steps = np.arange(size)
    return np.cos(np.pi / size * np.outer(steps, steps + 0.5)).astype(np.float32)


def _blocks(images: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    step = max(1, _VALUES_AT_ONCE // max(1, math.prod(images.shape[1:])))
    for start in range(0, len(images), step):
        yield start, images[start : start + step]


def _tiles(first: int, second: int) -> Iterator[tuple[slice, slice]]:
    side = int(_PAIRS_AT_ONCE**0.5)
    for top in range(0, first, side):
        for left in range(0, second, side):
            yield slice(top, top + side), slice(left, left + side)
