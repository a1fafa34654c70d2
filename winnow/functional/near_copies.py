"""Near copies among thumbnails: pairs that are far more alike than unrelated neighbours of this collection are.

Digits all look alike and photographs do not, so no fixed likeness tells a copy. What tells it is a ratio: the distance
of a pair over the distance to the k-th neighbour of either. Among unrelated points that lie locally like a Poisson
process in m dimensions, P(d_1 / d_k < t) = 1 - (1 - t^m)^(k-1), about (k - 1) t^m for small t; m is read off the ratios
d_2 / d_k of the collection, which a single copy of an image leaves alone. The bound t is such that a stated number of
false pairs is expected in all.

Distances are tangent distances (Simard et al. 1993): what is left of a difference after the best small shift and zoom,
so that a slight cut is as near as a new compression. They are taken between nearest neighbours only, which are searched
in cells around images picked by a hash of their content: the answer does not depend on the order of the images.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from jaxtyping import Float, Int

NEIGHBOURS = 5
MOST_DIMENSIONS = 14.0
"""Photographs spread in about 20 directions, plain ones (a sky, the sea) in fewer, and those give the chance pairs."""
_CANDIDATES = 20
"""Taken by correlation; the nearest of them by tangent distance are kept, or the last of these would lie too far."""
SEARCHED_WHOLE = 4096
"""Number of points below which all are compared with all."""
_PROBED = 8
_SCALE_QUANTILE, _RATIO_QUANTILE = 0.01, 0.1
_STEADY = 1e-3
_ROWS = 1024


@dataclass(frozen=True)
class Nearest:
    """Nearest thumbnails of some queries, the most alike first.

    Attributes:
        indices: rows of the thumbnails searched; -1 where there are no more.
        distances: tangent distances in [0, 1], of a point from what the query becomes by small moves, ascending;
            infinite where there are no more.
    """

    indices: Int[np.ndarray, "queries k"]
    distances: Float[np.ndarray, "queries k"]


def nearest(
    points: Float[np.ndarray, "n pixels"],
    queries: Float[np.ndarray, "queries pixels"] | None = None,
    k: int = NEIGHBOURS,
) -> Nearest:
    """The k nearest thumbnails of each query by tangent distance, among the 20 of largest correlation.

    Up to 4,096 points are compared with all queries. More are divided into cells, and a query is compared with
    those of the eight nearest cells: copies are found, of remote neighbours some are missed.

    Args:
        points: see `hashing.thumbnails`; those without contrast are like nothing.
        queries: from where; None = from each of the points, itself left out.
        k: how many.
    """
    asked = points if queries is None else queries
    indices = _most_correlated(points, asked, max(k, _CANDIDATES), without_self=queries is None)
    distances = np.full(indices.shape, np.inf, dtype=np.float32)
    for start in range(0, len(asked), _ROWS):
        part = slice(start, start + _ROWS)
        distances[part] = _one_sided(asked[part], points[indices[part]])
    distances[indices < 0] = np.inf
    order = np.argsort(distances, axis=1, kind="stable")[:, :k]
    return Nearest(np.take_along_axis(indices, order, axis=1), np.take_along_axis(distances, order, axis=1))


def scales(found: Nearest) -> Float[np.ndarray, " n"]:
    """How far away the neighbours of each point are: the distance of the last one, infinite without any.

    No scale is below the lowest hundredth of the collection: where all neighbours are copies, the last one tells
    nothing.
    """
    has = np.isfinite(found.distances)
    last = np.where(has, found.distances, 0).max(axis=1, initial=0)
    some = has.any(axis=1)
    floor = np.quantile(last[some], _SCALE_QUANTILE) if some.any() else 0
    return np.where(some, np.maximum(last, floor), np.inf)


@dataclass(frozen=True)
class Chance:
    """How many unrelated pairs are near by chance.

    Attributes:
        trials: neighbours looked at, of all queries in all searches.
        dimensions: m, how many directions the collection locally spreads in; 0 where there are too few points to tell.
    """

    trials: int
    dimensions: float

    def bound(self, false_pairs: float) -> float:
        """The ratio t below which so many unrelated pairs are expected, trials * t^m of them; 0 where there are too
        few points to tell.
        """
        if self.dimensions <= 0:
            return 0.0
        return float(min(false_pairs / self.trials, 1.0) ** (1 / self.dimensions))


def chance(found: Nearest, scale: Float[np.ndarray, " n"], looks: int = 1) -> Chance:
    """Reads off the ratios of a collection how often unrelated pairs are near.

    Args:
        found: the neighbours of each query.
        scale: see `scales`.
        looks: how many searches like this one there are in all.
    """
    full = np.isfinite(found.distances).all(axis=1) & (scale > 0)
    k = found.distances.shape[1]
    if k < 3 or not full.any():
        return Chance(0, 0.0)
    ratio = np.quantile(found.distances[full, 1] / scale[full], _RATIO_QUANTILE)
    # For the second of k - 1 points within the last, P(ratio < t) = 1 - (1 - p)^(k-1) - (k-1) p (1 - p)^(k-2), p = t^m.
    dimensions = np.log(_share_within(k - 1, _RATIO_QUANTILE)) / np.log(ratio) if 0 < ratio < 1 else 0.0
    return Chance(looks * int(full.sum()) * (k - 1), min(float(dimensions), MOST_DIMENSIONS))


def _share_within(count: int, probability: float) -> float:
    """p such that two of `count` uniform numbers lie below p with a probability."""
    low, high = 0.0, 1.0
    for _ in range(60):
        p = (low + high) / 2
        reached = 1 - (1 - p) ** count - count * p * (1 - p) ** (count - 1)
        low, high = (p, high) if reached < probability else (low, p)
    return (low + high) / 2


def _most_correlated(
    points: Float[np.ndarray, "n pixels"], queries: Float[np.ndarray, "queries pixels"], k: int, without_self: bool
) -> Int[np.ndarray, "queries k"]:
    """Rows of the k points of largest positive correlation, as far as the cells of a query hold them; -1 = none."""
    found = np.full((len(queries), k), -1, dtype=np.int64)
    best = np.zeros((len(queries), k), dtype=np.float32)
    for rows, members in _meetings(points, queries):
        products = queries[rows] @ points[members].T
        if without_self:
            products[rows[:, None] == members] = -1
        values = np.concatenate([best[rows], products], axis=1)
        names = np.concatenate([found[rows], np.broadcast_to(members, products.shape)], axis=1)
        top = np.argpartition(-values, min(k, values.shape[1] - 1), axis=1)[:, :k]
        best[rows], found[rows] = np.take_along_axis(values, top, 1), np.take_along_axis(names, top, 1)
    return found


def _meetings(
    points: Float[np.ndarray, "n pixels"], queries: Float[np.ndarray, "queries pixels"]
) -> Iterator[tuple[Int[np.ndarray, " some"], Int[np.ndarray, " others"]]]:
    """Rows of queries and the rows of points that they are compared with."""
    everything = np.arange(len(points))
    if len(points) <= SEARCHED_WHOLE:
        for start in range(0, len(queries), _ROWS):
            yield np.arange(start, min(start + _ROWS, len(queries))), everything
        return
    centres = points[_by_content(points)[: int(len(points) ** 0.5)]]
    home = _cells(points, centres, 1)[:, 0]
    visited = _cells(queries, centres, _PROBED)
    members = _grouped(home, len(centres))
    visitors = _grouped(visited.ravel(), len(centres))
    for inside, places in zip(members, visitors, strict=True):
        rows = places // _PROBED
        for start in range(0, len(rows), _ROWS):
            yield rows[start : start + _ROWS], inside


def _by_content(points: Float[np.ndarray, "n pixels"]) -> Int[np.ndarray, " n"]:
    """Rows in an order that only depends on what the points are."""
    digests = [blake2b(point.tobytes(), digest_size=8).digest() for point in points]
    return np.argsort(np.array(digests), kind="stable")


def _cells(
    points: Float[np.ndarray, "n pixels"], centres: Float[np.ndarray, "cells pixels"], count: int
) -> Int[np.ndarray, "n count"]:
    found = np.empty((len(points), count), dtype=np.int64)
    for start in range(0, len(points), _ROWS):
        products = points[start : start + _ROWS] @ centres.T
        found[start : start + _ROWS] = np.argpartition(-products, count - 1, axis=1)[:, :count]
    return found


def _grouped(cells: Int[np.ndarray, " m"], count: int) -> list[Int[np.ndarray, " part"]]:
    """Places of each cell, ascending."""
    order = np.argsort(cells, kind="stable")
    return np.split(order, np.cumsum(np.bincount(cells, minlength=count))[:-1])


def _one_sided(
    first: Float[np.ndarray, "rows pixels"], second: Float[np.ndarray, "rows k pixels"]
) -> Float[np.ndarray, "rows k"]:
    """Length of what first and its tangents leave of second, for unit vectors of mean zero."""
    tangents = _tangents(first)
    product = np.einsum("rkd,rd->rk", second, first)
    along = np.einsum("rkd,rtd->rkt", second, tangents)
    gram = tangents @ tangents.transpose(0, 2, 1)
    gram += np.eye(3) * (_STEADY * np.trace(gram, axis1=1, axis2=2)[:, None, None] / 3 + 1e-9)
    explained = (np.linalg.solve(gram[:, None], along[..., None])[..., 0] * along).sum(axis=2)
    left = np.maximum(1 - product**2 - explained, 0)
    return np.asarray(np.where(product > 0, np.sqrt(left), 1), dtype=np.float32)


def _tangents(thumbs: Float[np.ndarray, "rows pixels"]) -> Float[np.ndarray, "rows 3 pixels"]:
    """How a picture changes when it is shifted across, shifted down, and zoomed: orthogonal to it and to brightness."""
    side = int(thumbs.shape[1] ** 0.5)
    square = thumbs.reshape(-1, side, side)
    down, across = np.gradient(square, axis=(1, 2))
    place = (np.arange(side, dtype=np.float32) - (side - 1) / 2) / (side / 2)
    zoom = place[:, None] * down + place * across
    found = np.stack([across, down, zoom], axis=1).reshape(len(thumbs), 3, -1)
    found -= found.mean(axis=2, keepdims=True)
    found -= (found @ thumbs[:, :, None]) * thumbs[:, None, :]
    return found
