"""What noise may know of an image without a network: its thumbnail, and a linear model's out-of-fold opinion."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import numpy as np

from winnow.data.collection import load
from winnow.data.fitting import with_channels
from winnow.data.randomness import stream_key, text_keys
from winnow.data.rows import subset
from winnow.data.source import Source
from winnow.errors import InputError
from winnow.noise.channel import class_members, normals

SIDE = 16
WIDTH = 128
DESCRIPTION = f"{SIDE} x {SIDE} thumbnails, projected to {WIDTH} numbers"
_CHUNK = 4096
_FITTED = 10_000
"""Images that a fold's model is fitted on, at most: a linear model on 128 numbers learns little from more."""


def thumbnail_features(source: Source, *, progress: Callable[[int, int], None] | None = None) -> np.ndarray:
    """Features of every image, float32 (N, 128): a function of its pixels alone, read in parts.

    The centre square is scaled to 16 x 16, its values are brought to mean 0 and standard deviation 1, and projected
    by a fixed matrix of normal numbers that keeps lengths on average. Images that cannot be read give zeros.

    Args:
        source: the images.
        progress: called with the number of images done and their total.

    Raises:
        InputError: no image can be read.
    """
    features = np.zeros((len(source), WIDTH), dtype=np.float32)
    failure: InputError | None = None
    read = 0
    channels = 1 if source.grey else 3
    matrix = normals(stream_key(0, "noise/features"), SIDE * SIDE * channels, WIDTH) / np.sqrt(WIDTH)
    for start in range(0, len(source), _CHUNK):
        rows = np.arange(start, min(start + _CHUNK, len(source)))
        try:
            part = load(subset(source, rows), size=SIDE)
        except InputError as error:  # not one image of this part; others may have some
            failure = error
            continue
        features[rows[part.rows]] = standardised(with_channels(part.images, channels)) @ matrix
        read += len(part.rows)
        if progress is not None:
            progress(int(rows[-1]) + 1, len(source))
    if failure is not None and not read:
        raise failure
    return features


def standardised(images: np.ndarray) -> np.ndarray:
    """Each image as a row of mean 0 and standard deviation 1, (n, S); one of a flat colour is all zero."""
    values = images.reshape(len(images), -1).astype(np.float64)
    values -= values.mean(axis=1, keepdims=True)
    deviation = values.std(axis=1, keepdims=True)
    return np.divide(values, deviation, out=np.zeros_like(values), where=deviation > 0)


def out_of_fold_probabilities(
    features: np.ndarray, labels: np.ndarray, ids: Sequence[str], num_classes: int, *, folds: int = 5
) -> np.ndarray:
    """Class probabilities of every image by a linear model that was fitted without it, float32 (N, K).

    Logistic regression, fitted for each fold on at most 10,000 images of the others. An image's fold follows from
    its name, so that the order of the images plays no part. A class that no model saw has probability 0.

    Args:
        features: (N, D).
        labels: class indices, (N,), -1 where missing: such images are not fitted on.
        ids: stable names of the samples.
        num_classes: K.
        folds: how many, at least 2.

    Raises:
        InputError: there are too few labelled images for two folds.
    """
    from sklearn.linear_model import LogisticRegression  # takes a second to import

    keys = text_keys(stream_key(0, "noise/folds"), list(ids))
    fold_of = keys % np.uint64(folds)
    order = np.argsort(keys, kind="stable")
    scale = float(features.std()) or 1.0
    probabilities = np.zeros((len(labels), num_classes), dtype=np.float32)
    for fold in range(folds):
        held_out = np.flatnonzero(fold_of == fold)
        if not len(held_out):
            continue
        fitted = order[(fold_of[order] != fold) & (labels[order] >= 0)][:_FITTED]
        present = np.unique(labels[fitted])
        if not len(present):
            raise InputError(f"{int((labels >= 0).sum()):,} labelled images are too few to be told apart by a model")
        if len(present) == 1:
            probabilities[held_out, present[0]] = 1
            continue
        model = LogisticRegression(max_iter=100)
        with reproducible_fit():  # a hundred steps are enough for an opinion
            model.fit(features[fitted] / scale, labels[fitted])
        probabilities[np.ix_(held_out, present)] = model.predict_proba(features[held_out] / scale)
    return probabilities


@contextmanager
def reproducible_fit() -> Iterator[None]:
    """For small models of scikit-learn: on one thread, and silent about convergence, which is beside the point here.

    Sums on one thread do not depend on the machine's number of cores, and small products are no faster on several.
    """
    from sklearn.exceptions import ConvergenceWarning
    from threadpoolctl import threadpool_limits

    with threadpool_limits(1), warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=ConvergenceWarning)
        yield


def confusable_map(clean_labels: np.ndarray, probabilities: np.ndarray) -> dict[int, int]:
    """Each class to the one it is most often taken for: the largest entry of its row beside the diagonal.

    Ties are broken by the summed probability. A class without images has no target.

    Args:
        clean_labels: class indices, (N,), -1 where missing.
        probabilities: out-of-fold class probabilities, (N, K).
    """
    mapping = {}
    predicted = probabilities.argmax(axis=1)
    for index, mine in class_members(clean_labels):
        counts = np.bincount(predicted[mine], minlength=probabilities.shape[1]).astype(float)
        counts += probabilities[mine].mean(axis=0) / 2  # less than one image
        counts[index] = -1
        mapping[index] = int(counts.argmax())
    return mapping
