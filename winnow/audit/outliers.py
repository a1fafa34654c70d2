"""Outliers: pictures unlike anything else in the collection.

Three things are asked of each picture: how far its neighbours are; how far they are for where it lies, as some classes
are spread wider than others; and how unusual its pixels are as a whole (levels, contrast, colour, detail), to which an
embedding may be blind. Each is measured in robust spreads above the collection's median and the lengths are added as
at right angles. How many are reported follows from the body of the collection: its tail between the median and the
highest twentieth is continued as an exponential, and pictures count while at most a fifth of them is expected by it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from winnow.audit.findings import Found
from winnow.data.pixels import Pixels, blocks
from winnow.functional.hashing import scaled
from winnow.functional.neighbours import Neighbours
from winnow.functional.robust import deviations

LEAST_IMAGES = 20
"""Among fewer, none is called an outlier: there is no rule that it could break."""
FALSE_SHARE = 0.2
TRAITS = ("brightness", "contrast", "colour", "fine detail", "darkest tenth", "brightest tenth")
_FLOORS = (0.01, 0.01, 0.01, 0.05, 0.01, 0.01)
"""Least spreads of the traits, about three grey levels: in a collection of one shade everything else would be far."""
_DISTANCE_FLOOR = 0.02
"""Least spread of the logarithms of distances."""
_MOST = 20.0
"""Spreads, above which further is not more unusual: one trait alone must not outweigh all others."""
_SIDE = 32
"""Of the scaled pictures that the traits are taken from."""
_PLAIN = 0.002
"""About half a grey level, added to the detail before its logarithm is taken."""


@dataclass(frozen=True)
class Outliers:
    """How unlike the rest each of n images is.

    Attributes:
        score: 0 for an image like the others, above 0.5 where it is reported, towards 1.
        found: of kind `outlier`, the least like the rest first.
    """

    score: Float[np.ndarray, " n"]
    found: Found


def find_outliers(graph: Neighbours, images: Pixels) -> Outliers:
    """Scores every image and reports those that the body of the collection does not explain.

    Args:
        graph: nearest images of each in an embedding, itself left out. Outliers that lie together are seen as long as
            they are fewer than its columns.
        images: the pixels.
    """
    number = len(graph.indices)
    nothing = Found("outlier", np.empty(0, dtype=np.int64), np.empty(0), [])
    if number < LEAST_IMAGES or not graph.indices.shape[1]:
        return Outliers(np.zeros(number), nothing)
    distance = graph.distances.mean(axis=1, dtype=np.float64)
    smallest = max(float(np.median(distance)) * 1e-6, np.finfo(np.float64).tiny)
    here = np.log(np.maximum(distance, smallest))
    surroundings = np.log(np.maximum(distance[graph.indices].mean(axis=1), smallest))
    traits = _traits(images)
    unlike = np.stack([deviations(trait, floor) for trait, floor in zip(traits.T, _FLOORS, strict=True)], axis=1)
    pixels = np.sqrt(np.square(np.clip(unlike, -_MOST, _MOST)).mean(axis=1))
    far = np.clip(deviations(here, _DISTANCE_FLOOR), 0, _MOST)
    locally = np.clip(deviations(here - surroundings, _DISTANCE_FLOOR), 0, _MOST)
    unusual = np.sqrt(pixels**2 + far**2 + locally**2)
    rows, probability, bound = _beyond_the_body(unusual)
    usual = np.median(distance)
    reasons = [
        _reason(distance[row] / usual if usual > 0 else 1.0, unlike[row], traits[row], np.median(traits, axis=0))
        for row in rows
    ]
    middle = np.median(unusual)
    score = 1 - 0.5 ** (np.maximum(unusual - middle, 0) / max(bound - middle, np.finfo(np.float64).tiny))
    return Outliers(score, Found("outlier", rows, probability, reasons))


def _beyond_the_body(
    unusual: Float[np.ndarray, " n"],
) -> tuple[Int[np.ndarray, " m"], Float[np.ndarray, " m"], float]:
    """(rows, the furthest first; probability that each is none of the body; the value that one had to exceed)."""
    number = len(unusual)
    middle, high = np.quantile(unusual, (0.5, 0.95))
    # From the median to the highest twentieth, an exponential falls to a tenth.
    scale = max((high - middle) / np.log(10), 1e-9)
    order = np.argsort(-unusual, kind="stable")
    expected = number * 0.05 * np.exp(-(unusual[order] - high) / scale)
    share = np.where(unusual[order] > high, expected / np.arange(1, number + 1), 1.0)
    # The most that can be reported; probabilities then fall with the rank.
    count = int(np.flatnonzero(share <= FALSE_SHARE)[-1]) + 1 if (share <= FALSE_SHARE).any() else 0
    probability = 1 - np.maximum.accumulate(share[:count])
    allowed = FALSE_SHARE * max(count, 1)
    bound = high + scale * np.log(number * 0.05 / allowed)
    return order[:count], np.clip(probability, 0, 1), float(max(bound, middle))


def _traits(images: Pixels) -> Float[np.ndarray, "n traits"]:
    found = [_traits_of(block) for block in blocks(images)]
    return np.concatenate(found).astype(np.float64)


def _traits_of(pictures: UInt8[np.ndarray, "m height width channels"]) -> Float[np.ndarray, "m traits"]:
    grey = scaled(pictures, _SIDE) / 255
    down, across = (np.abs(np.diff(grey, axis=axis)).mean(axis=(1, 2)) for axis in (1, 2))
    levels = grey.reshape(len(grey), -1)
    tenth = levels.shape[1] // 10
    ends = np.partition(levels, (tenth, levels.shape[1] - 1 - tenth), axis=1)
    step = max(1, pictures.shape[1] // _SIDE)
    sparse = pictures[:, ::step, ::step]
    colour = (sparse.max(axis=3) - sparse.min(axis=3)).mean(axis=(1, 2)) / 255
    return np.stack(
        [
            levels.mean(axis=1),
            levels.std(axis=1),
            colour,
            np.log(down + across + _PLAIN),
            ends[:, tenth],
            ends[:, levels.shape[1] - 1 - tenth],
        ],
        axis=1,
    )


def _reason(
    times: float,
    unlike: Float[np.ndarray, " traits"],
    own: Float[np.ndarray, " traits"],
    usual: Float[np.ndarray, " traits"],
) -> str:
    trait = int(np.abs(unlike).argmax())
    place, typical = (np.exp(each[trait]) if TRAITS[trait] == "fine detail" else each[trait] for each in (own, usual))
    return (
        f"Its nearest pictures are {times:.1f} times as far away as usual; "
        f"most unusual of its pixels is the {TRAITS[trait]}: {place:.2f}, in the middle picture {typical:.2f} (0 to 1)."
    )
