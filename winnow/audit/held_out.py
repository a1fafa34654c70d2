"""Class scores of every image from the others: kernel ridge regression of one-hot labels, ten folds in closed form.

The kernel is Gaussian, seen through at most a thousand landmarks (Nystroem; Williams & Seeger, NIPS 2000). With fewer
images than that every image is a landmark and the machine is the exact one. Each fold's normal equations are the sum
over the others, so a round that leaves out doubted labels costs only what those labels had added.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.sparse import csr_matrix

from winnow.data.randomness import permutation, stream_key
from winnow.functional.cross_fitting import stratified_folds

FOLDS = 10
MOST_LANDMARKS, LEAST_LANDMARKS = 1000, 256
_WORK = 2e10
"""Landmarks squared times images, at most: what keeps 100,000 images within seconds."""
_WIDTH = 2.0
"""Squared widths of the kernel, in squared distances to a neighbour."""
_RIDGE = 1.0
_JITTER = 1e-6
_CHUNK_VALUES = 2**22
_NEIGHBOUR_ROWS = 1000
_ASKED = 450
"""Images of a fold whose two answers are compared."""


class HeldOutRidge:
    """Kernel ridge regression that predicts every row by the rows of other folds.

    Args:
        features: finite.
        labels: class indices, -1 where missing.
        num_classes: K.
        spread: typical squared distance of a row to its tenth neighbour; 0 if all rows are equal.
        groups: rows that must share a fold, -1 = alone.
        seed: of folds and landmarks.
    """

    def __init__(
        self,
        features: Float[np.ndarray, "n dim"],
        labels: Int[np.ndarray, " n"],
        num_classes: int,
        spread: float,
        groups: Int[np.ndarray, " n"] | None,
        seed: int,
    ):
        fold = grouped_folds(labels, groups, seed)
        # Rows in the order of their folds: each fold is a slice.
        self._order = np.argsort(fold, kind="stable")
        self._ends = np.searchsorted(fold[self._order], np.arange(FOLDS + 1))
        self._labels, self._classes = labels[self._order], num_classes
        self._inputs = _landmark_features(features, self._order, spread, seed)
        self._grams = [self._gram(part, self._labels[part] >= 0) for part in self._parts()]

    def fitted(self, kept: Bool[np.ndarray, " n"]) -> FoldModels:
        """The models of all folds.

        Args:
            kept: which labels may be learnt from; a missing one never is.
        """
        kept = kept[self._order] & (self._labels >= 0)
        counts = np.bincount(self._labels[kept], minlength=self._classes)
        shares = (counts + 1 / self._classes) / (counts.sum() + 1)
        grams, sides = [], []
        for base, part in zip(self._grams, self._parts(), strict=True):
            left_out = ~kept[part] & (self._labels[part] >= 0)
            grams.append(base - self._gram(part, left_out) if left_out.any() else base)
            sides.append(self._side(part, kept[part], shares))
        return FoldModels(self._inputs, self._order, list(self._parts()), grams, sides, shares)

    def _parts(self) -> Iterator[slice]:
        return (slice(int(a), int(b)) for a, b in zip(self._ends[:-1], self._ends[1:], strict=True))

    def _gram(self, part: slice, chosen: np.ndarray) -> np.ndarray:
        """Inner products of the inputs over some rows of a fold, float64."""
        inputs = self._inputs[part] if chosen.all() else self._inputs[part][chosen]
        return (inputs.T @ inputs).astype(np.float64)

    def _side(self, part: slice, kept: np.ndarray, shares: np.ndarray) -> np.ndarray:
        """Inputs times centred one-hot labels, over the rows of a fold that are learnt from."""
        rows = np.flatnonzero(kept)
        given = self._labels[part][rows]
        ones = np.ones(len(rows), dtype=self._inputs.dtype)
        members = csr_matrix((ones, (given, rows)), shape=(self._classes, part.stop - part.start))
        sums = (members @ self._inputs[part]).astype(np.float64)
        return (sums - shares[:, None] * sums.sum(axis=0)).T


@dataclass(frozen=True)
class FoldModels:
    """Ridge regressions that share their sums.

    Attributes:
        inputs: of all rows, in the order of the folds.
        order: the row that each of these is.
        parts: slice of each fold.
        grams, sides: a fold's part of the normal equations.
        shares: of the classes; what is predicted where nothing is near.
    """

    inputs: np.ndarray
    order: np.ndarray
    parts: list[slice]
    grams: list[np.ndarray]
    sides: list[np.ndarray]
    shares: np.ndarray

    def scores(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """(rows, scores (rows, K) by the other folds) in parts that together hold every row.

        Scores are about 0 to 1 and sum to one.
        """
        gram, side = np.sum(self.grams, axis=0), np.sum(self.sides, axis=0)
        step = max(1, _CHUNK_VALUES // len(self.shares))
        for own, own_side, part in zip(self.grams, self.sides, self.parts, strict=True):
            if part.start == part.stop:
                continue
            weights = self._solved(gram - own, side - own_side)
            for start in range(part.start, part.stop, step):
                rows = slice(start, min(start + step, part.stop))
                yield self.order[rows], self._predicted(rows, weights)

    def disagreement(self) -> tuple[int, int]:
        """(how often two models that share no image name different classes, images asked): each by two other thirds.

        At most 4,000 images are asked.
        """
        thirds = [range(third, len(self.parts) - len(self.parts) % 3, 3) for third in range(3)]
        models = [
            self._solved(*(np.sum([sums[fold] for fold in third], axis=0) for sums in (self.grams, self.sides)))
            for third in thirds
        ]
        different = asked = 0
        for third, (one, other) in zip(thirds, ((1, 2), (2, 0), (0, 1)), strict=True):
            for fold in third:
                rows = slice(self.parts[fold].start, min(self.parts[fold].stop, self.parts[fold].start + _ASKED))
                named = [self._predicted(rows, models[model]).argmax(axis=1) for model in (one, other)]
                different += int((named[0] != named[1]).sum())
                asked += len(named[0])
        return different, asked

    def _solved(self, gram: np.ndarray, side: np.ndarray) -> np.ndarray:
        matrix = gram.copy()
        matrix[np.diag_indices_from(matrix)] += _RIDGE
        return cho_solve(cho_factor(matrix, lower=True, overwrite_a=True), side).astype(self.inputs.dtype)

    def _predicted(self, rows: slice, weights: np.ndarray) -> np.ndarray:
        return self.inputs[rows] @ weights + self.shares.astype(weights.dtype)


def grouped_folds(labels: np.ndarray, groups: np.ndarray | None, seed: int) -> np.ndarray:
    """Number of each row's fold, (N,): stratified, and rows of one group share theirs."""
    if groups is None:
        return stratified_folds(labels, FOLDS, seed)
    key = np.where(groups >= 0, groups, groups.max(initial=-1) + 1 + np.arange(len(groups)))
    _, first, member = np.unique(key, return_index=True, return_inverse=True)
    return stratified_folds(labels[first], FOLDS, seed)[member.reshape(-1)]


def neighbour_spread(features: np.ndarray, indices: np.ndarray) -> float:
    """Median squared distance of rows to their last neighbour in a graph; of evenly spaced rows, if there are many."""
    if not indices.shape[1]:
        return 0.0
    rows = np.unique(np.linspace(0, len(features) - 1, _NEIGHBOUR_ROWS).astype(np.int64))
    gaps = features[rows].astype(np.float64) - features[indices[rows, -1]]
    return float(np.median(np.einsum("nd,nd->n", gaps, gaps)))


def _landmark_features(features: np.ndarray, order: np.ndarray, spread: float, seed: int) -> np.ndarray:
    """Rows whose inner products are the kernel as far as the landmarks see it, float32 (N, landmarks), in an order."""
    num = len(features)
    count = min(num, MOST_LANDMARKS, max(LEAST_LANDMARKS, int((_WORK / num) ** 0.5)))
    chosen = permutation(stream_key(seed, "audit/landmarks"), np.arange(num))[:count]
    centre = features.mean(axis=0, dtype=np.float64)
    scale = 1 / np.sqrt(_WIDTH * spread) if spread > 0 else 1.0
    landmarks = (features[chosen] - centre) * scale
    kernel = _gaussian(landmarks, landmarks)
    kernel[np.diag_indices_from(kernel)] += _JITTER * count
    whitening = solve_triangular(np.linalg.cholesky(kernel), np.eye(count), lower=True).T.astype(np.float32)
    landmarks = landmarks.astype(np.float32)
    inputs = np.empty((num, count), dtype=np.float32)
    step = max(1, _CHUNK_VALUES // count)
    for start in range(0, num, step):
        rows = order[start : start + step]
        points = ((features[rows] - centre) * scale).astype(np.float32)
        np.matmul(_gaussian(points, landmarks), whitening, out=inputs[start : start + step])
    return inputs


def _gaussian(points: np.ndarray, others: np.ndarray) -> np.ndarray:
    """exp(-squared distance), (points, others)."""
    squares = points @ others.T
    squares *= -2
    squares += np.einsum("nd,nd->n", points, points)[:, None]
    squares += np.einsum("nd,nd->n", others, others)
    np.maximum(squares, 0, out=squares)
    return np.exp(np.negative(squares, out=squares), out=squares)
