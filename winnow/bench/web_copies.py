"""Near copies in a crawl: of test images, and of each other; how well they are found is measured on made copies.

Two images are alike by the correlation of their thumbnails, over a grid of crops so that a cut copy is found too; from
32 pixels on also by their perceptual hash, which small local changes do not move.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from PIL import Image

from winnow.data.randomness import permutation, stream_key, uniforms
from winnow.functional.hashing import (
    WHOLE,
    Window,
    alike,
    both_ways,
    components,
    crops,
    hash_distances,
    middle,
    most_alike,
    near_hashes,
    perceptual_hash,
    thumbnails,
)

RECALL = 0.99
LOWEST, HIGHEST = 0.9, 0.99
"""Bounds of the calibrated likeness: below, too much is alike by chance; above, rounding decides."""
HASHED_FROM = 32
"""Side in pixels below which a hash of 64 bits says next to nothing: the image itself has hardly more."""
TEST_BITS, TRAIN_BITS = 10, 6
_HASH_LIKENESS = 0.85
"""What images with near hashes must have in common besides: smooth drawings share hashes by chance."""
LARGEST_GROUP = 200
_MADE = 300
_CROPS = (0.95, 0.9, 0.85, 0.8)
_STEP = 0.05

Images = np.ndarray


@dataclass(frozen=True)
class Rule:
    """What counts as a copy.

    Attributes:
        likeness: least correlation of thumbnails, with a test image.
        hashed: whether perceptual hashes count as well.
        mirrored: whether a mirrored image is a copy.
    """

    likeness: float
    hashed: bool
    mirrored: bool

    @property
    def merging(self) -> float:
        """Least correlation within the crawl: half as far from 1, as an image merged by mistake is lost."""
        return (1 + self.likeness) / 2


@dataclass(frozen=True)
class Match:
    """For each image the test image that it is most like.

    Attributes:
        found: whether it is a copy of it, boolean (N,).
        test_row: which one, (N,).
        likeness: correlation of their thumbnails, the best over all crops, (N,).
        bits: in which their hashes differ, (N,).
    """

    found: np.ndarray
    test_row: np.ndarray
    likeness: np.ndarray
    bits: np.ndarray


def windows(mirrored: bool) -> list[Window]:
    """The whole image, and crops of 95 to 80 % at most a twentieth apart; mirrored too where that makes a copy."""
    return both_ways([WHOLE, *(window for side in _CROPS for window in crops(side, _STEP))], mirrored)


def frames(mirrored: bool) -> list[Window]:
    """Middle parts, for copies with a border around them."""
    return both_ways([middle(side) for side in _CROPS[:-1]], mirrored)


def best_match(images: Images, tests: Images, rule: Rule) -> Match:
    """Each image of a crawl against all test images, in blocks.

    Args:
        images: uint8 (N, S, S, C).
        tests: uint8 (T, S, S, C).
        rule: what counts as a copy.
    """
    likeness = np.full(len(images), -1.0, dtype=np.float32)
    test_row = np.zeros(len(images), dtype=np.int64)
    whole, test_whole = thumbnails(images), thumbnails(tests)
    pairs = [(whole, thumbnails(tests, window)) for window in windows(rule.mirrored)]
    for ours, theirs in (*pairs, *((thumbnails(images, window), test_whole) for window in frames(rule.mirrored))):
        found, row = most_alike(ours, theirs)
        better = found > likeness
        likeness[better], test_row[better] = found[better], row[better]
    is_copy = likeness >= rule.likeness
    hashes, test_hashes = perceptual_hash(images), perceptual_hash(tests)
    if rule.hashed:
        for window in [WHOLE, Window(mirrored=True)][: 1 + rule.mirrored]:
            theirs = thumbnails(tests, window)
            for rows, columns in near_hashes(hashes, perceptual_hash(tests, window), TEST_BITS):
                near = (whole[rows] * theirs[columns]).sum(axis=1) >= _HASH_LIKENESS
                fresh = near & ~is_copy[rows]
                test_row[rows[fresh]] = columns[fresh]
                is_copy[rows[near]] = True
    return Match(is_copy, test_row, likeness, hash_distances(hashes, test_hashes[test_row]))


def near_copies(images: Images, rule: Rule) -> tuple[np.ndarray, int]:
    """For each image the first row of its group of near copies, (N,), and how many images lie in too large groups.

    A group of more than 200 is no picture with many copies but a chain of likenesses; it is left as it is.

    Args:
        images: uint8 (N, S, S, C), none twice.
        rule: what counts as a copy.
    """
    thumbs = thumbnails(images)
    pairs = list(alike(thumbs, thumbs, rule.merging))
    if rule.mirrored:
        pairs += alike(thumbs, thumbnails(images, Window(mirrored=True)), rule.merging)
    if rule.hashed:
        hashes = perceptual_hash(images)
        for rows, columns in near_hashes(hashes, hashes, TRAIN_BITS):
            near = (thumbs[rows] * thumbs[columns]).sum(axis=1) >= _HASH_LIKENESS
            pairs.append((rows[near], columns[near]))
    first = components(len(images), pairs)
    chained = np.bincount(first, minlength=len(images))[first] > LARGEST_GROUP
    return np.where(chained, np.arange(len(images)), first), int(chained.sum())


@dataclass(frozen=True)
class Calibration:
    """How a rule was chosen and what it finds.

    Attributes:
        rule: the rule.
        recall: share of the made copies that is found, by how they were made.
        chance: share of the test images that it would call a copy of another one.
        made: copies of each kind.
    """

    rule: Rule
    recall: Mapping[str, float]
    chance: float
    made: int


def calibrated(tests: Images, *, mirrored: bool, likeness: float | None = None) -> Calibration:
    """The rule under which 99 of 100 made copies of test images are found, as far as chance likeness allows.

    Recompressed and recoloured copies count, from 32 pixels on scaled ones and cuts of 90 % too; smaller images lose
    too much to either.

    Args:
        tests: uint8 (T, S, S, C).
        mirrored: whether a mirrored image is a copy.
        likeness: in place of the calibrated one.
    """
    rows = np.sort(permutation(stream_key(0, "web calibration"), np.arange(len(tests)))[:_MADE])
    originals = tests[rows]
    hashed = tests.shape[1] >= HASHED_FROM
    makers = _makers(mirrored)
    copies = {name: np.stack([make(x, row) for row, x in enumerate(originals)]) for name, make in makers.items()}
    best = {name: _likeness(made, originals, mirrored) for name, made in copies.items()}
    counted = ("recompressed", "recoloured", *(("scaled", "cut to 90 %") if hashed else ()))
    if likeness is None:
        lowest = min(float(np.quantile(best[name], 1 - RECALL)) for name in counted)
        likeness = round(min(HIGHEST, max(LOWEST, np.floor(lowest * 1000) / 1000)), 3)
    rule = Rule(likeness, hashed, mirrored)
    recall = {name: float(_is_found(made, originals, best[name], rule).mean()) for name, made in copies.items()}
    others = np.full(len(originals), -1.0)
    for window in windows(mirrored):
        products = thumbnails(originals) @ thumbnails(originals, window).T
        np.fill_diagonal(products, -1)
        others = np.maximum(others, products.max(axis=1))
    return Calibration(rule, recall, float((others >= likeness).mean()), len(rows))


def _likeness(copies: Images, originals: Images, mirrored: bool) -> np.ndarray:
    """Best correlation of each copy with its own original, (n,)."""
    whole, original = thumbnails(copies), thumbnails(originals)
    found = [(whole * thumbnails(originals, window)).sum(axis=1) for window in windows(mirrored)]
    found += [(thumbnails(copies, window) * original).sum(axis=1) for window in frames(mirrored)]
    return np.asarray(np.max(found, axis=0))


def _is_found(copies: Images, originals: Images, likeness: np.ndarray, rule: Rule) -> np.ndarray:
    found = likeness >= rule.likeness
    if rule.hashed:
        for window in [WHOLE, Window(mirrored=True)][: 1 + rule.mirrored]:
            near = hash_distances(perceptual_hash(copies), perceptual_hash(originals, window)) <= TEST_BITS
            found |= near & ((thumbnails(copies) * thumbnails(originals, window)).sum(axis=1) >= _HASH_LIKENESS)
    return np.asarray(found)


def _makers(mirrored: bool) -> dict[str, Callable[[np.ndarray, int], np.ndarray]]:
    """Ways in which copies differ from their original; the second argument is of the randomness."""
    makers: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
        "recompressed": lambda x, _: recompressed(x),
        "recoloured": lambda x, _: np.clip(x * 1.2 + 10, 0, 255).astype(np.uint8),
        "scaled": lambda x, _: resized(resized(x, max(1, len(x) // 2)), len(x)),
        "cut to 90 %": lambda x, row: cut(x, 0.9, row),
        "cut to 80 %": lambda x, row: cut(x, 0.8, row),
        "with a border": lambda x, _: bordered(x, 0.9),
    }
    return {**makers, "mirrored": lambda x, _: x[:, ::-1]} if mirrored else makers


def recompressed(image: np.ndarray, quality: int = 30) -> np.ndarray:
    """As a JPEG of low quality."""
    file = io.BytesIO()
    _picture(image).save(file, "JPEG", quality=quality)
    return _array(Image.open(file))


def resized(image: np.ndarray, side: int) -> np.ndarray:
    """Scaled."""
    return _array(_picture(image).resize((side, side), Image.Resampling.BICUBIC))


def cut(image: np.ndarray, share: float, key: int) -> np.ndarray:
    """A square part somewhere in it, scaled to its size."""
    side = len(image)
    top, left = ((1 - share) * side * uniforms(stream_key(0, "web cut"), np.array([key]), 2)[0]).tolist()
    box = (left, top, left + share * side, top + share * side)
    return _array(_picture(image).resize((side, side), Image.Resampling.BICUBIC, box=box))


def bordered(image: np.ndarray, share: float) -> np.ndarray:
    """Scaled down, with white around."""
    side, inner = len(image), max(1, round(share * len(image)))
    start = (side - inner) // 2
    framed = np.full_like(image, 255)
    framed[start : start + inner, start : start + inner] = resized(image, inner)
    return framed


def _picture(image: np.ndarray) -> Image.Image:
    return Image.fromarray(image[..., 0] if image.shape[2] == 1 else image)


def _array(picture: Image.Image) -> np.ndarray:
    array = np.asarray(picture)
    return array[..., None] if array.ndim == 2 else array
