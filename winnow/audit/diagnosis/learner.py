"""The learner that is refitted again and again: least squares on one-hot labels with a ridge penalty, out of fold.

Sums of products of the features are taken once for every fold; other labels then cost one product and a penalty costs
nothing more. Labels only enter through sums, so a hundred noisy copies of them are affordable.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

PENALTIES = 10.0 ** np.arange(-4, 2.1, 0.5)
"""In units of the mean eigenvalue of the features' products; ascending."""


@dataclass(frozen=True)
class Fitted:
    """A learner fitted out of fold at every penalty.

    Attributes:
        predicted: class of every image by a model that did not see it, for each of `PENALTIES`.
        agreement: of those with the labels that were fitted, by penalty.
    """

    predicted: Int[np.ndarray, "penalties n"]
    agreement: Float[np.ndarray, " penalties"]

    @property
    def best(self) -> Int[np.ndarray, " n"]:
        """At the penalty that agrees most with the fitted labels; the largest of equal ones."""
        last = len(self.agreement) - 1 - int(self.agreement[::-1].argmax())
        return self.predicted[last]


class Learner:
    """Fits labels to some of the images and predicts all of them, each by a model that did not see it.

    Args:
        features: of every image; standardised here.
        fold: number of the part that each image is held out with; copies belong into one.
        num_classes: K.
        rows: which images may be fitted; by default all.
    """

    def __init__(
        self,
        features: Float[np.ndarray, "n dim"],
        fold: Int[np.ndarray, " n"],
        num_classes: int,
        rows: Bool[np.ndarray, " n"] | None = None,
    ):
        self.num_classes = num_classes
        self._features = standardised(features)
        self._rows = np.ones(len(features), dtype=bool) if rows is None else rows
        self._folds = [np.flatnonzero(fold == number) for number in range(int(fold.max()) + 1)]
        self._fitted = [held[self._rows[held]] for held in self._folds]
        products = [self._features[mine].T @ self._features[mine] for mine in self._fitted]
        total = np.sum(products, axis=0)
        self._spectra = [np.linalg.eigh(total - own) for own in products]
        self.spectrum: Float[np.ndarray, " dim"] = np.linalg.eigvalsh(total).clip(min=0)

    def fit(self, labels: Int[np.ndarray, " n"]) -> Fitted:
        """Out-of-fold predictions at every penalty.

        Args:
            labels: of every image, none missing.
        """
        classes = self.num_classes
        predicted = np.zeros((len(PENALTIES), len(labels)), dtype=np.int64)
        sums = [self._class_sums(mine, labels[mine]) for mine in self._fitted]
        counts = [np.bincount(labels[mine], minlength=classes) for mine in self._fitted]
        for held, own, count, (values, vectors) in zip(self._folds, sums, counts, self._spectra, strict=True):
            if not len(held):
                continue
            shares = np.sum(counts, axis=0) - count
            shares = shares / max(1, shares.sum())
            seen = np.sum(sums, axis=0) - own
            # Targets less their shares; the features' sum over the classes is their sum over the images.
            known = vectors.T @ (seen - seen.sum(axis=1, keepdims=True) * shares)
            turned = self._features[held] @ vectors
            unit = max(float(values.mean()), np.finfo(np.float64).tiny)
            for place, penalty in enumerate(PENALTIES):
                scores = turned @ (known / (values.clip(min=0) + penalty * unit)[:, None]) + shares
                predicted[place, held] = scores.argmax(axis=1)
        agreement = (predicted[:, self._rows] == labels[self._rows]).mean(axis=1)
        return Fitted(predicted, agreement)

    def in_sample(self, labels: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
        """Classes of the images by the least penalised model that was fitted to them: what it can memorise."""
        targets = np.eye(self.num_classes)[labels]
        shares = targets.mean(axis=0)
        products = self._features.T @ self._features
        penalty = PENALTIES[0] * float(np.trace(products)) / len(products)
        weights = np.linalg.solve(products + penalty * np.eye(len(products)), self._features.T @ (targets - shares))
        return np.asarray((self._features @ weights + shares).argmax(axis=1))

    def degrees_of_freedom(self, penalty: float) -> float:
        """Effective number of free parameters a class at one of `PENALTIES`: sum of s / (s + penalty)."""
        return float((self.spectrum / (self.spectrum + penalty * self.spectrum.mean())).sum())

    def _class_sums(self, rows: Int[np.ndarray, " m"], labels: Int[np.ndarray, " m"]) -> np.ndarray:
        """Sums of features by class, (dim, K)."""
        targets = np.eye(self.num_classes)[labels]
        return np.asarray(self._features[rows].T @ targets)


def standardised(features: Float[np.ndarray, "n dim"]) -> Float[np.ndarray, "n dim"]:
    """Each feature with mean 0 and standard deviation 1, float64; a constant one is 0."""
    values = features.astype(np.float64)
    values -= values.mean(axis=0)
    deviation = values.std(axis=0)
    # A constant column keeps rounding errors, which must not be blown up.
    varying = deviation > 1e-9 * np.abs(features).max(axis=0).clip(min=np.finfo(np.float32).tiny)
    return np.divide(values, deviation, out=np.zeros_like(values), where=varying)
