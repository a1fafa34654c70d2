"""Class probabilities of every row from a classifier that did not see it: any classifier of scikit-learn's kind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import softmax
from sklearn.base import clone
from sklearn.dummy import DummyClassifier
from sklearn.pipeline import Pipeline
from sklearn.utils import _safe_indexing as rows_of
from sklearn.utils.validation import has_fit_parameter

from winnow.errors import InvalidInput
from winnow.functional.cross_fitting import stratified_folds

_TEMPERATURES = (0.0025, 400.0)
"""Margins come in any scale."""


@dataclass(frozen=True)
class OutOfFold:
    """Probabilities of rows held out.

    Attributes:
        probs: (N, K), rows summing to one.
        temperature: what the scores of a classifier without probabilities were divided by before the softmax; None if
            it has probabilities of its own.
    """

    probs: np.ndarray
    temperature: float | None


def out_of_fold_probabilities(
    estimator: Any,
    features: Any,
    labels: np.ndarray,
    classes: np.ndarray,
    *,
    trained_on: np.ndarray | None = None,
    sample_weight: np.ndarray | None = None,
    folds: int = 5,
    seed: int = 0,
) -> OutOfFold:
    """Each fold is predicted by a copy of the classifier that was fitted to the other folds.

    Args:
        estimator: a classifier; it is cloned, not fitted. One with `decision_function` alone is given probabilities:
            the softmax of its scores, at the temperature at which the held-out labels are most likely.
        features: rows that it takes: array, sparse matrix or data frame.
        labels: class indices, (N,), none missing.
        classes: names of the classes, as the classifier shall see them, (K,).
        trained_on: rows that may be trained on, boolean (N,); the others are only predicted.
        sample_weight: passed on, (N,).
        folds: at most one a row.
        seed: of the split.

    Raises:
        InvalidInput: the classifier has neither probabilities nor one score a class.
    """
    num = len(labels)
    usable = np.ones(num, dtype=bool) if trained_on is None else trained_on
    probabilistic = has_probabilities(estimator)
    fold = stratified_folds(labels, min(folds, num), seed)
    scores = np.empty((num, len(classes)))
    for number in range(fold.max() + 1):
        held = np.flatnonzero(fold == number)
        rows = np.flatnonzero((fold != number) & usable)
        model = fitted(estimator, features, classes[labels], rows, sample_weight)
        scores[held] = class_scores(model, rows_of(features, held), classes, 0.0 if probabilistic else -math.inf)
    if probabilistic:
        return OutOfFold(scores, None)
    import torch  # seconds to import, and only such classifiers need it

    from winnow.functional.calibration import fitted_temperature

    known = torch.from_numpy(scores[usable]), torch.from_numpy(labels[usable])
    temperature = fitted_temperature(*known, _TEMPERATURES)
    return OutOfFold(softmax(scores / temperature, axis=1), temperature)


def fitted(
    estimator: Any, features: Any, labels: np.ndarray, rows: np.ndarray, sample_weight: np.ndarray | None = None
) -> Any:
    """A copy of the classifier fitted to some rows; one that knows a single class if they have no other.

    Raises:
        InvalidInput: there are weights and the classifier takes none.
    """
    weights = {}
    if sample_weight is not None:
        name = weight_parameter(estimator)
        if name is None:
            raise InvalidInput(f"sample_weight: {type(estimator).__name__}.fit takes none")
        weights = {name: sample_weight[rows]}
    if (labels[rows] == labels[rows[0]]).all():
        return DummyClassifier(strategy="prior").fit(np.zeros((len(rows), 1)), labels[rows])
    return clone(estimator).fit(rows_of(features, rows), labels[rows], **weights)


def weight_parameter(estimator: Any) -> str | None:
    """Name under which the classifier's `fit` takes sample weights; a pipeline passes them to its last step."""
    if isinstance(estimator, Pipeline):
        name, last = estimator.steps[-1]
        inner = weight_parameter(last)
        return inner and f"{name}__{inner}"
    return "sample_weight" if has_fit_parameter(estimator, "sample_weight") else None


def has_probabilities(estimator: Any) -> bool:
    """Whether the classifier gives probabilities of its own.

    Raises:
        InvalidInput: it gives no scores either.
    """
    if hasattr(estimator, "predict_proba"):
        return True
    if hasattr(estimator, "decision_function"):
        return False
    raise InvalidInput(
        f"estimator: {type(estimator).__name__} has neither predict_proba nor decision_function; a classifier is needed"
    )


def class_scores(model: Any, features: Any, classes: np.ndarray, unseen: float) -> np.ndarray:
    """Probabilities, or else scores before the softmax, one column for each of `classes`, (N, K).

    Args:
        model: fitted.
        features: rows that it takes.
        classes: sorted names, (K,).
        unseen: what a class gets that the model has not seen: 0 for probabilities, minus infinity for scores.

    Raises:
        InvalidInput: it does not give one score a class.
    """
    if isinstance(model, DummyClassifier):
        found = np.ones((features.shape[0], 1))
    elif hasattr(model, "predict_proba"):
        found = model.predict_proba(features)
    else:
        found = model.decision_function(features)
        if found.ndim == 1:
            found = np.column_stack([-found / 2, found / 2])
    if found.shape[1] != len(model.classes_):
        raise InvalidInput(
            f"estimator: {type(model).__name__} gives {found.shape[1]} scores for {len(model.classes_)} classes; "
            "one a class is needed"
        )
    scores = np.full((len(found), len(classes)), unseen)
    scores[:, np.searchsorted(classes, model.classes_)] = found
    return scores
