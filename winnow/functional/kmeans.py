"""k-means: Lloyd's iterations from a k-means++ start (Arthur & Vassilvitskii 2007), in blocks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.functional.neighbours import check_finite, tensor_of

BLOCK_BYTES = 2**26


@dataclass(frozen=True)
class Clusters:
    """What k-means found.

    Attributes:
        centroids: in the features' precision.
        members: the cluster of each point; of equally near ones the lower index.
        inertia: sum of squared distances of the points to their centroids.
    """

    centroids: Float[np.ndarray, "clusters dim"]
    members: Int[np.ndarray, " n"]
    inertia: float


def kmeans(
    features: Float[np.ndarray, "n dim"],
    clusters: int,
    *,
    seed: int,
    iterations: int = 50,
    tolerance: float = 1e-4,
    restarts: int = 1,
) -> Clusters:
    """The best of some runs of Lloyd's iterations; a function of the features and the seed.

    A cluster that loses all its points starts again at the point furthest from its centroid, so that none is empty
    while distinct points are left. Copies of fewer distinct points than clusters leave some clusters empty; their
    centroids stand on points.

    Args:
        features: the points.
        clusters: how many; where there are fewer points, one for each point.
        seed: of the starts.
        iterations: at most.
        tolerance: a run ends when the centroids' squared moves add up to less than this times the features' variance
            (the mean over their dimensions).
        restarts: runs, of which the one of least inertia counts, the first of equal ones.

    Raises:
        InvalidInput: a feature is NaN or infinite.
        ValueError: an option lies outside its range.
    """
    for name, value in (("clusters", clusters), ("iterations", iterations), ("restarts", restarts)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if tolerance < 0:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    check_finite(features, "features")
    if not len(features):
        return Clusters(features.copy(), np.empty(0, dtype=np.int64), 0.0)
    points = tensor_of(features).to("cuda" if torch.cuda.is_available() else "cpu")
    # Around the mean, products lose least.
    mean = points.mean(dim=0, keepdim=True)
    points = points - mean
    enough = tolerance * points.var(dim=0, correction=0).mean().item()
    random = np.random.default_rng(seed)
    count = min(clusters, len(points))
    runs = [_lloyd(points, _start(points, count, random), iterations, enough) for _ in range(restarts)]
    centroids, members, inertia = min(runs, key=lambda run: run[2])
    return Clusters((centroids + mean).cpu().numpy(), members.cpu().numpy(), inertia)


def _start(points: Tensor, count: int, random: np.random.Generator) -> Tensor:
    """k-means++: each next centroid is drawn in proportion to the squared distance to the nearest one so far."""
    chosen = [int(random.integers(len(points)))]
    nearest = torch.full((len(points),), torch.inf, dtype=torch.float64, device=points.device)
    while len(chosen) < count:
        nearest = torch.minimum(nearest, (points - points[chosen[-1]]).double().square().sum(dim=1))
        upto = np.cumsum(nearest.cpu().numpy())
        if upto[-1] > 0:
            # `right`: a point of weight zero, such as one chosen before, is never drawn.
            drawn = int(np.searchsorted(upto, random.random() * upto[-1], side="right"))
        else:
            drawn = int(random.integers(len(points)))
        chosen.append(min(drawn, len(points) - 1))
    return points[chosen]


def _lloyd(points: Tensor, centroids: Tensor, iterations: int, enough: float) -> tuple[Tensor, Tensor, float]:
    """(centroids, members, inertia)."""
    for _ in range(iterations):
        members, squares = _assigned(points, centroids)
        moved = _means(points, members, squares, centroids)
        step = (moved - centroids).square().sum().item()
        centroids = moved
        if step <= enough:
            break
    members, squares = _assigned(points, centroids)
    return centroids, members, squares.sum(dtype=torch.float64).item()


def _assigned(points: Tensor, centroids: Tensor) -> tuple[Int[Tensor, " n"], Float[Tensor, " n"]]:
    """(nearest centroid, squared distance to it)."""
    half_squares = centroids.square().sum(dim=1) / 2
    members = [
        torch.addmm(half_squares, block, centroids.T, alpha=-1).argmin(dim=1)
        for block in points.split(max(1, BLOCK_BYTES // (8 * len(centroids))))
    ]
    found = torch.cat(members)
    squares = [
        (block - centroids[mine]).square().sum(dim=1)
        for block, mine in zip(points.split(_rows(points)), found.split(_rows(points)), strict=True)
    ]
    return found, torch.cat(squares)


def _means(points: Tensor, members: Tensor, squares: Tensor, centroids: Tensor) -> Tensor:
    """Of the points of each cluster; an empty one gets the furthest point that no other empty one got."""
    sums = torch.zeros_like(centroids)
    counts = torch.bincount(members, minlength=len(centroids))
    rows = max(1, BLOCK_BYTES // (8 * len(centroids)))
    for block, mine in zip(points.split(rows), members.split(rows), strict=True):
        # A product, not `index_add_`, whose order of summation changes from run to run on an accelerator.
        sums += torch.nn.functional.one_hot(mine, len(centroids)).to(points.dtype).T @ block
    means = torch.where(counts[:, None] > 0, sums / counts.clamp_min(1)[:, None], centroids)
    empty = (counts == 0).nonzero()[:, 0]
    furthest = squares.sort(descending=True, stable=True).indices[: len(empty)]
    apart = squares[furthest] > 0
    means[empty[apart]] = points[furthest[apart]]
    return means


def _rows(points: Tensor) -> int:
    return max(1, BLOCK_BYTES // (8 * points.shape[1]))
