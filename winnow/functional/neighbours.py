"""The exact k nearest neighbours, in blocks: one graph for outliers, duplicates and votes of neighbours.

A matrix product in float32 (or faiss, the extra `faiss`) names a few candidates more than are wanted; distances to
those are then taken directly, in float64, and rows whose candidates do not prove the answer are searched directly. So
the answer does not depend on who named the candidates.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from winnow.errors import InvalidInput

METRICS = ("euclidean", "cosine")
SEARCHES = ("torch", "faiss")
BLOCK_ROWS, TILE_COLUMNS = 1024, 16_384
BLOCK_BYTES = 2**26
CANDIDATE_BYTES = 2**24
"""Of candidates compared directly: gathered and read at once, so they should stay in a processor's cache."""
SPARE = 8
GROUP = 16


@dataclass(frozen=True)
class Neighbours:
    """The nearest points of each query, nearest first; of equally near ones, the lower index first.

    Attributes:
        indices: rows of the features searched, int64.
        distances: to them, in the features' precision; Euclidean, or 1 - cosine.
    """

    indices: Int[np.ndarray, "queries k"]
    distances: Float[np.ndarray, "queries k"]


def neighbours(
    features: Float[np.ndarray, "n dim"],
    k: int,
    *,
    queries: Float[np.ndarray, "queries dim"] | None = None,
    metric: str = "euclidean",
    search: str | None = None,
) -> Neighbours:
    """The k nearest points of each query among the features, exactly.

    Distances are taken in float64 and given in the features' precision; the two searches give the same answer. Only
    where many points are copies of each other does it take long: each copy is then compared with every point.
    Working memory is a few blocks of 64 MiB and one more copy of the features.

    Args:
        features: the points searched.
        k: how many; where there are fewer points (without itself), all of them: the answer has fewer columns.
        queries: from where; None = from each of the features, itself left out (copies of it are not).
        metric: `euclidean` or `cosine`. Under the cosine a zero vector is at distance 1 from all but zero vectors.
        search: `torch`, on the accelerator where there is one, or `faiss`, on the CPU; None = faiss where it is
            installed and there is no accelerator.

    Raises:
        InvalidInput: a feature is NaN or infinite.
        ValueError: an option lies outside its range.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    if metric not in METRICS:
        raise ValueError(f"metric must be {' or '.join(METRICS)}, got {metric}")
    if search not in (*SEARCHES, None):
        raise ValueError(f"search must be {' or '.join(SEARCHES)}, got {search}")
    check_finite(features, "features")
    if queries is not None:
        check_finite(queries, "queries")
    device = _device(search)
    points = tensor_of(features).to(device)
    asked = points if queries is None else tensor_of(queries).to(device)
    if metric == "cosine":
        points, asked = _directions(points), _directions(asked)
    available = max(0, len(points) - (queries is None))
    found = _Search(points, asked, min(k, available), queries is None, search or _preferred(device)).run()
    indices, distances = (part.cpu().numpy() for part in found)
    if metric == "cosine":
        distances = distances**2 / 2  # of unit vectors
    return Neighbours(indices, distances.astype(features.dtype))


def check_finite(features: Float[np.ndarray, "n dim"], name: str) -> None:
    """Refuses what no distance is defined for.

    Raises:
        InvalidInput: a number is NaN or infinite.
    """
    # A sum is NaN or infinite if a number is, and costs no second array; large sums are looked at again.
    with np.errstate(invalid="ignore", over="ignore"):
        if np.isfinite(features.sum(dtype=np.float64)):
            return
    bad = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(bad):
        raise InvalidInput(f"{name}: NaN or infinite in {len(bad)} of {len(features)} rows, the first is row {bad[0]}")


def tensor_of(features: Float[np.ndarray, "n dim"]) -> Float[Tensor, "n dim"]:
    """The same memory as a tensor, where torch can use it: writeable and contiguous."""
    return torch.from_numpy(np.require(features, requirements=["C", "W"]))


class _Search:
    """One search; distances are Euclidean."""

    def __init__(self, points: Tensor, queries: Tensor, k: int, without_self: bool, search: str):
        self.points, self.queries, self.k = points, queries, k
        self.without_self = without_self
        self.candidates = k + SPARE + without_self
        # Where much is wanted, the detour over candidates costs more than it saves.
        self.direct = 4 * self.candidates >= len(points)
        if self.direct:
            return
        # Around the mean, products in float32 lose least.
        mean = points.mean(dim=0, dtype=torch.float64)
        self.rough_points, self.rough_queries = ((part - mean.to(part.dtype)).float() for part in (points, queries))
        self.half_squares = self.rough_points.square().sum(dim=1) / 2
        self.name = self._named_by_faiss if search == "faiss" else self._named_by_torch

    def run(self) -> tuple[Int[Tensor, "queries k"], Float[Tensor, "queries k"]]:
        """(indices, distances)."""
        device = self.points.device
        indices = torch.empty(len(self.queries), self.k, dtype=torch.int64, device=device)
        distances = torch.empty(len(self.queries), self.k, dtype=torch.float64, device=device)
        if not self.k:
            return indices, distances
        for rows in torch.arange(len(self.queries), device=device).split(BLOCK_ROWS):
            if self.direct:
                unproven = rows
            else:
                indices[rows], distances[rows], proven = self._among(rows, self.name(rows))
                unproven = rows[~proven]
            for part in unproven.split(max(1, BLOCK_BYTES // (8 * len(self.points)))):
                indices[part], distances[part] = self._directly(part)
        return indices, distances

    def _named_by_faiss(self, rows: Tensor) -> Int[Tensor, "rows candidates"]:
        import faiss

        _, found = faiss.knn(self.rough_queries[rows].numpy(), self.rough_points.numpy(), self.candidates)
        return torch.from_numpy(found)

    def _named_by_torch(self, rows: Tensor) -> Int[Tensor, "rows candidates"]:
        queries = self.rough_queries[rows]
        nearness, indices = [], []
        with _full_precision(queries.device.type):
            for start in range(0, len(self.rough_points), TILE_COLUMNS):
                tile = slice(start, start + TILE_COLUMNS)
                # Half the squared distance, less what is the same for all points.
                rough = torch.addmm(self.half_squares[tile], queries, self.rough_points[tile].T, alpha=-1)
                values, found = _smallest(rough, self.candidates)
                nearness.append(values)
                indices.append(found + start)
        order = torch.cat(nearness, dim=1).topk(self.candidates, largest=False, sorted=False).indices
        return torch.cat(indices, dim=1).gather(1, order)

    def _among(self, rows: Tensor, named: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(indices, distances, whether no point that was not named can be as near)."""
        named = named.sort(dim=1).values
        width = max(1, CANDIDATE_BYTES // (8 * named.shape[1] * self.points.shape[1]))
        distances = torch.cat(
            [
                _distances(self.queries[part][:, None], self.points[some])[:, 0]
                for part, some in zip(rows.split(width), named.split(width), strict=True)
            ]
        )
        # The furthest bounds all that was not named; the query itself may be it, and bounds them no worse.
        furthest = distances.amax(dim=1)
        if self.without_self:
            distances.masked_fill_(named == rows[:, None], torch.inf)
        # Stable, and candidates stand in the order of their indices: so of equal ones the lower index comes first.
        distances, order = distances.sort(dim=1, stable=True)
        last = distances[:, self.k - 1]
        # Only points at most |query| + last from the mean can be as near; that is how far their products can be off.
        size = 2 * self.rough_queries[rows].norm(dim=1).double() + last
        slack = torch.finfo(torch.float32).eps * (8 + self.points.shape[1] ** 0.5) * size**2
        proven = furthest**2 - last**2 > slack
        return named.gather(1, order)[:, : self.k], distances[:, : self.k], proven

    def _directly(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        distances = _distances(self.queries[rows], self.points)
        if self.without_self:
            distances[torch.arange(len(rows), device=rows.device), rows] = torch.inf
        last = distances.kthvalue(self.k, dim=1, keepdim=True).values
        nearer, equal = distances < last, distances == last
        missing = self.k - nearer.sum(dim=1, keepdim=True)
        chosen = (nearer | (equal & (equal.cumsum(dim=1) <= missing))).nonzero()[:, 1].view(len(rows), self.k)
        distances, order = distances.gather(1, chosen).sort(dim=1, stable=True)
        return chosen.gather(1, order), distances


def _distances(queries: Tensor, points: Tensor) -> Tensor:
    """Without a matrix product, which would not give 0 between copies."""
    return torch.cdist(queries.double(), points.double(), compute_mode="donot_use_mm_for_euclid_dist")


def _smallest(rough: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(values, columns) of the `count` smallest of each row; they stand in the `count` groups of smallest minima."""
    width = rough.shape[1] - rough.shape[1] % GROUP
    if width < 2 * GROUP * count:
        return rough.topk(min(count, rough.shape[1]), dim=1, largest=False, sorted=False)
    grouped = rough[:, :width].view(len(rough), GROUP, -1)
    groups = grouped.amin(dim=1).topk(count, dim=1, largest=False, sorted=False).indices
    members = torch.arange(0, width, width // GROUP, device=rough.device)[:, None] + groups[:, None]
    rest = torch.arange(width, rough.shape[1], device=rough.device).expand(len(rough), -1)
    columns = torch.cat([members.flatten(1), rest], dim=1)
    values, order = rough.gather(1, columns).topk(count, dim=1, largest=False, sorted=False)
    return values, columns.gather(1, order)


def _directions(points: Tensor) -> Tensor:
    """Unit vectors in float64; zero vectors point along an axis of their own."""
    points = points.double()
    norms = points.norm(dim=1, keepdim=True)
    zero = norms == 0
    return torch.cat([points / torch.where(zero, 1.0, norms), zero.double()], dim=1)


def _device(search: str | None) -> torch.device:
    # Others than CUDA know no float64.
    return torch.device("cuda" if search != "faiss" and torch.cuda.is_available() else "cpu")


def _preferred(device: torch.device) -> str:
    return "faiss" if device.type == "cpu" and importlib.util.find_spec("faiss") else "torch"


@contextmanager
def _full_precision(device: str) -> Iterator[None]:
    """Neither autocast nor TF32, whatever the run trains in."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
