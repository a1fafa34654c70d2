"""Odd files: pictures that show nothing, hardly anything, or differ in kind from the rest of the collection.

What is odd depends on the collection: a thumbnail among photographs, a grey picture among coloured ones. So everything
but a blank picture and the decoder's remarks is compared with the others, robustly, and nothing that a twentieth of
them shares is odd.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from jaxtyping import Bool, Float, UInt8

from winnow.audit.findings import Found
from winnow.data.collection import REMARKS, Collection
from winnow.data.facts import LAYOUTS
from winnow.data.pixels import blocks
from winnow.functional.hashing import scaled
from winnow.functional.robust import deviations

LEAST_IMAGES = 10
"""Among fewer there is no usual size, shape, mode, brightness or sharpness."""
FAR, DIM = 5.0, 3.0
"""Robust spreads from the median: of size, shape and sharpness; of light, which has an absolute bound besides."""
DARK, BRIGHT = 0.2, 0.8
"""A dark picture has nearly nothing above the first, a bright one nearly nothing below the second; 0 black, 1 white."""
RARE = 0.01
"""Largest share of a mode that is odd; a single picture always may be."""
_ONE_COLOUR = 3
"""Largest difference of levels in a blank picture: what a JPEG file makes of one colour."""
_LEAST_AREA_FACTOR, _LEAST_SHAPE_FACTOR = 4.0, 2.0
_SMALLEST_SIDE = 16
"""In pixels, below which sharpness cannot be told."""
_SIDE = 32
_ENDS = 200
_GREY = 1.5
"""Mean difference of the largest and the smallest channel, in levels, below which a picture has no colour to see."""
_LEVEL_FLOOR, _SIZE_FLOOR, _SHARPNESS_FLOOR = 0.02, 0.1, 0.3
"""Least spreads; sizes and sharpness in natural logarithms."""


def find_odd(collection: Collection) -> tuple[Found, ...]:
    """Everything odd, by kind: blank, dark, bright, blurred, odd_size, odd_shape, odd_mode and odd_file.

    All are facts: without a probability. A blank picture is neither dark, bright nor blurred.

    Args:
        collection: pictures with what the decoder knew of them.
    """
    number = len(collection.rows)
    looks = _Looks.of(collection)
    found = [_of("blank", looks.blank, looks.brightest, lambda row: _blank_sentence(looks.brightest[row]))]
    if number >= LEAST_IMAGES:
        found += [*_by_light(looks), _blurred(collection, looks), *_by_size(collection), _by_mode(collection, looks)]
    return (*found, _remarked(collection))


class _Looks:
    """Numbers on each picture.

    Attributes:
        blank: whether it is of one colour.
        coloured: whether it has colour to see.
        darkest, brightest: levels that one in 200 of its pixels lies below, above; 0 to 1. A thin stroke is more.
        sharpness: logarithm of the variance of its Laplacian over that of its levels.
    """

    def __init__(self, number: int):
        self.blank = np.zeros(number, dtype=bool)
        self.coloured = np.zeros(number, dtype=bool)
        self.darkest, self.brightest, self.sharpness = (np.zeros(number) for _ in range(3))

    @classmethod
    def of(cls, collection: Collection) -> _Looks:
        looks, start = cls(len(collection.rows)), 0
        for block in blocks(collection.pixels):
            looks._add(start, block)
            start += len(block)
        return looks

    def _add(self, start: int, pictures: UInt8[np.ndarray, "m height width channels"]) -> None:
        part = slice(start, start + len(pictures))
        flat = pictures.reshape(len(pictures), -1, pictures.shape[3])
        self.blank[part] = (flat.max(axis=1) - flat.min(axis=1) <= _ONE_COLOUR).all(axis=1)
        self.coloured[part] = (pictures.max(axis=3) - pictures.min(axis=3)).mean(axis=(1, 2)) > _GREY
        grey = scaled(pictures, min(pictures.shape[1], _SIDE)) / 255
        levels = grey.reshape(len(grey), -1)
        few = levels.shape[1] // _ENDS
        ends = np.partition(levels, (few, levels.shape[1] - 1 - few), axis=1)
        self.darkest[part], self.brightest[part] = ends[:, few], ends[:, levels.shape[1] - 1 - few]
        inner = grey[:, 1:-1, 1:-1]
        beside = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
        rounding = 1e-6  # as if there were a little noise: a picture without contrast is not blurred
        self.sharpness[part] = np.log(
            ((4 * inner - beside).var(axis=(1, 2)) + 20 * rounding) / (levels.var(axis=1) + rounding)
        )


def _by_light(looks: _Looks) -> list[Found]:
    dark = (looks.brightest < DARK) & (deviations(looks.brightest, _LEVEL_FLOOR) < -DIM) & ~looks.blank
    bright = (looks.darkest > BRIGHT) & (deviations(looks.darkest, _LEVEL_FLOOR) > DIM) & ~looks.blank
    usual = np.median(looks.brightest), np.median(looks.darkest)
    return [
        _of("dark", dark, looks.brightest, lambda row: _light_sentence("above", looks.brightest[row], usual[0])),
        _of("bright", bright, -looks.darkest, lambda row: _light_sentence("below", looks.darkest[row], usual[1])),
    ]


def _blurred(collection: Collection, looks: _Looks) -> Found:
    blurred = (deviations(looks.sharpness, _SHARPNESS_FLOOR) < -FAR) & ~looks.blank
    if collection.size < _SMALLEST_SIDE:
        blurred[:] = False
    usual = np.median(looks.sharpness)
    return _of(
        "blurred",
        blurred,
        looks.sharpness,
        lambda row: (
            f"Its sharpness (variance of the Laplacian over that of the levels) is "
            f"{np.exp(looks.sharpness[row] - usual):.2g} of the usual one."
        ),
    )


def _by_size(collection: Collection) -> list[Found]:
    height, width = np.maximum(collection.facts.sizes, 1).T.astype(np.float64)
    area, shape = np.log(height * width), np.log(width / height)
    found = []
    for kind, values, factor in (("odd_size", area, _LEAST_AREA_FACTOR), ("odd_shape", shape, _LEAST_SHAPE_FACTOR)):
        away = np.abs(values - np.median(values))
        odd = (np.abs(deviations(values, _SIZE_FLOOR)) > FAR) & (away >= np.log(factor))
        middle = np.argsort(values, kind="stable")[len(values) // 2]
        usual = f"{width[middle]:.0f} x {height[middle]:.0f}"
        found.append(_of(kind, odd, -away, _size_sentence(width, height, usual)))
    return found


def _size_sentence(width: Float[np.ndarray, " n"], height: Float[np.ndarray, " n"], usual: str) -> Callable[[int], str]:
    return lambda row: f"It is {width[row]:.0f} x {height[row]:.0f} pixels, in the middle are {usual}."


def _by_mode(collection: Collection, looks: _Looks) -> Found:
    """Grey or coloured, and how pixels are stored."""
    most = max(1, int(RARE * len(collection.rows)))
    layouts = collection.facts.layouts
    counts = np.bincount(layouts, minlength=len(LAYOUTS))
    odd = counts[layouts] <= most
    colour = looks.coloured[~looks.blank]
    share = {True: int(colour.sum()), False: int((~colour).sum())}
    odd_colour = np.array([share[bool(is_coloured)] <= most for is_coloured in looks.coloured]) & ~looks.blank
    number = len(collection.rows)

    def sentence(row: int) -> str:
        if odd[row]:
            return (
                f"Its pixels are stored as {LAYOUTS[layouts[row]]}, as in {counts[layouts[row]]:,} of {number:,} files."
            )
        is_coloured = bool(looks.coloured[row])
        return f"It is {'coloured' if is_coloured else 'grey'}, as {share[is_coloured]:,} of {number:,} pictures are."

    return _of("odd_mode", odd | odd_colour, np.where(odd, counts[layouts], number), sentence)


def _remarked(collection: Collection) -> Found:
    notes = collection.facts.notes
    rows = np.array(sorted(notes), dtype=np.int64)
    reasons = [
        "The file is " + "; ".join(f"{REMARKS[code]} ({code})" for code in notes[row]) + "." for row in rows.tolist()
    ]
    return Found("odd_file", rows, np.full(len(rows), np.nan), reasons)


def _of(kind: str, odd: Bool[np.ndarray, " n"], rank: Float[np.ndarray, " n"], sentence: Callable[[int], str]) -> Found:
    """The odd ones, the smallest rank first."""
    rows = np.flatnonzero(odd)
    rows = rows[np.argsort(rank[rows], kind="stable")]
    return Found(kind, rows, np.full(len(rows), np.nan), [sentence(row) for row in rows.tolist()])


def _blank_sentence(level: float) -> str:
    return f"All its pixels have one colour, of brightness {level:.2f} (0 black, 1 white)."


def _light_sentence(side: str, level: float, usual: float) -> str:
    return f"Only 1 in {_ENDS} of its pixels is {side} {level:.2f} (0 black, 1 white); usually that is {usual:.2f}."
