"""Near copies of three strengths among pictures that are not copies: which are found, and what is taken for one.

    python -m benchmarks.audit_copies

900 pictures of 48 pixels, five seeds. `digits`: handwritten, enlarged. `scenes`: discs and boxes on smooth backgrounds,
each scene once. `same place`: a third of the scenes belongs to three with one background, which are no copies.
`bursts`: a third belongs to three whose objects moved by a pixel.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from io import BytesIO
from typing import Any

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits

from benchmarks import record
from benchmarks.record import Finding
from winnow.audit.copies import find_copies, find_leaks
from winnow.audit.findings import Found
from winnow.data.facts import Facts
from winnow.data.pixels import ArrayPixels

SIDE, NUMBER, TESTS, SEEDS = 48, 900, 300, range(100, 105)
PLANTED = 10
"""Copies of each strength."""
STRENGTHS = ("light", "medium", "strong")
_SERIES = 0.15
_BICUBIC = Image.Resampling.BICUBIC


Thing = tuple[np.ndarray, float, np.ndarray, bool]
"""Middle, half width, colour, and whether it is a disc."""


def copy(picture: np.ndarray, strength: str, random: np.random.Generator) -> np.ndarray:
    """Darker and compressed; cut by a pixel and compressed more; cut, duller, noisy and compressed strongly."""
    if strength == "light":
        return _compressed(picture * 0.9, 70)
    cut = (1, 1, SIDE - 1, SIDE - 1) if strength == "medium" else (2, 1, SIDE - 1, SIDE - 2)
    found = np.asarray(Image.fromarray(picture).crop(cut).resize((SIDE, SIDE), _BICUBIC)).astype(np.float64)
    if strength == "medium":
        return _compressed(found, 40)
    return _compressed(0.8 * found + 20 + random.normal(0, 12, picture.shape), 30)


def _compressed(pixels: np.ndarray, quality: int) -> np.ndarray:
    file = BytesIO()
    Image.fromarray(pixels.clip(0, 255).astype(np.uint8)).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))


def digits(random: np.random.Generator, number: int) -> np.ndarray:
    """Handwritten digits, grey as three channels."""
    levels = np.rint(load_digits().images * 255 / 16).astype(np.uint8)
    chosen = random.permutation(len(levels))[:number]
    large = [np.asarray(Image.fromarray(levels[row]).resize((SIDE, SIDE), _BICUBIC)) for row in chosen]
    return np.repeat(np.stack(large)[..., None], 3, axis=3)


def scenes(random: np.random.Generator, number: int, series: float, jitter: float | None) -> np.ndarray:
    """Generated scenes.

    Args:
        random: where they come from.
        number: how many.
        series: share of the places that are seen three times.
        jitter: how far objects have moved when a place is seen again, in pixels; None gives it other objects.
    """
    found: list[np.ndarray] = []
    while len(found) < number:
        coarse = random.normal(0, 45, (int(random.choice((3, 4, 6, 8))),) * 2 + (3,)).astype(np.float32)
        layers = [np.asarray(Image.fromarray(coarse[..., c]).resize((SIDE, SIDE), _BICUBIC)) for c in range(3)]
        place, objects = 128 + np.stack(layers, axis=2), _objects(random)
        for _ in range(3 if random.random() < series else 1):
            objects = _objects(random) if jitter is None else objects
            found.append(_drawn(random, place, objects, jitter or 0.0))
    return np.stack(found[:number])


def _objects(random: np.random.Generator) -> list[Thing]:
    return [
        (random.uniform(8, SIDE - 8, 2), random.uniform(4, 10), random.uniform(0, 255, 3), random.random() < 0.5)
        for _ in range(random.integers(1, 4))
    ]


def _drawn(random: np.random.Generator, place: np.ndarray, objects: list[Thing], far: float) -> np.ndarray:
    picture = place.copy()
    down, across = np.mgrid[:SIDE, :SIDE]
    for middle, half, colour, is_disc in objects:
        y, x = middle + random.normal(0, far, 2)
        apart = np.hypot(down - y, across - x) if is_disc else np.maximum(abs(down - y), abs(across - x))
        picture[apart < half] = colour
    return (picture + random.normal(0, 4, picture.shape)).clip(0, 255).astype(np.uint8)


SETS: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "digits": digits,
    "scenes": lambda random, number: scenes(random, number, 0.0, None),
    "same place": lambda random, number: scenes(random, number, _SERIES, None),
    "bursts": lambda random, number: scenes(random, number, _SERIES, 1.0),
}


def measured(name: str, planted: int) -> dict[str, Any]:
    """Over the seeds: copies found by strength, pictures that are none and were taken for one, likeness of both."""
    found, wrong = dict.fromkeys(STRENGTHS, 0), []
    alike: dict[bool, list[float]] = {True: [], False: []}
    leaks_found, leaks_wrong = 0, 0
    for seed in SEEDS:
        random = np.random.default_rng(seed)
        images = SETS[name](random, NUMBER + TESTS)
        images, tests = images[:NUMBER], images[NUMBER:]
        rows = random.permutation(NUMBER)[: planted * len(STRENGTHS)]
        of = [STRENGTHS[place % len(STRENGTHS)] for place in range(len(rows))]
        copies = [copy(images[row], strength, random) for row, strength in zip(rows, of, strict=True)]
        leaks = [copy(tests[row], "medium", random) for row in range(planted)]
        whole = np.stack([*images, *copies])
        near = next(part for part in _copies(whole, name) if part.kind == "near_duplicate")
        origin = np.concatenate([np.arange(NUMBER), rows])
        assert near.others is not None
        assert near.similarity is not None
        is_copy = origin[near.rows] == origin[near.others]
        for row, right, likeness in zip(near.rows.tolist(), is_copy.tolist(), near.similarity.tolist(), strict=True):
            alike[right].append(likeness)
            if right:
                found[of[row - NUMBER]] += 1
        wrong.append(int((~is_copy).sum()))
        leaky = np.stack([*images, *leaks])
        told = find_leaks(ArrayPixels(leaky), ArrayPixels(tests), facts=_facts(leaky), test_facts=_facts(tests))
        assert told.others is not None
        right = (told.rows >= NUMBER) & (told.rows - NUMBER == told.others)
        leaks_found, leaks_wrong = leaks_found + int(right.sum()), leaks_wrong + int((~right).sum())
    quartiles = {
        "similarity of copies": _quartiles(alike[True]),
        "similarity of others": _quartiles(alike[False]),
    }
    of_each = {f"found, {strength}": found[strength] for strength in STRENGTHS} if planted else {}
    return {
        "planted of each": planted * len(SEEDS),
        **of_each,
        "others taken for copies": sum(wrong),
        "others by seed": wrong,
        **quartiles,
        "leaks planted": planted * len(SEEDS),
        "leaks found": leaks_found,
        "others taken for leaks": leaks_wrong,
    }


def _copies(images: np.ndarray, name: str) -> tuple[Found, ...]:
    labels = np.zeros(len(images), dtype=np.int64)
    return find_copies(ArrayPixels(images), labels, facts=_facts(images), mirrored=name != "digits").found


def _facts(images: np.ndarray) -> Facts:
    return Facts.of_array(len(images), SIDE, SIDE)


def _quartiles(values: list[float]) -> list[float]:
    return [round(float(value), 3) for value in np.quantile(values, [0.25, 0.5, 0.75])] if values else []


def main() -> int:
    """Measures, tells and records."""
    torch.set_num_threads(1)
    findings = []
    for name in SETS:
        for planted in (0, PLANTED):
            told = measured(name, planted)
            print(name, told, flush=True)
            what = f"{name}: pictures that are no copies and were taken for near ones, {planted} copies of each planted"
            findings.append(Finding(what, told["others taken for copies"], unit="pictures", details=told))
    record.write("audit-copies", findings, threads=1, rounds=len(SEEDS))
    return 0


if __name__ == "__main__":
    sys.exit(main())
