"""Boundary noise: images close to another class are the ones that get its label."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from winnow.data.randomness import stream_key
from winnow.errors import UsageError
from winnow.noise.channel import LabelNoise, check_request, noise_keys, share_of_labels, uniform_of
from winnow.noise.instance import KEPT_CLASSES

_LEAST = 1e-9
"""Smallest weight of an image: a model that is certain must not make a rate impossible."""


def scaled_to_sum(weights: np.ndarray, total: float) -> np.ndarray:
    """Probabilities proportional to `weights` (n,), above 0, as far as 1 allows, whose sum is `total`, at most n."""
    if total >= len(weights):
        return np.ones(len(weights))
    capped = np.zeros(len(weights), bool)
    while True:
        scale = (total - capped.sum()) / weights[~capped].sum()
        scaled = np.where(capped, 1.0, scale * weights)
        above = scaled > 1
        if not above.any():
            return scaled
        capped |= above


def systematic_sample(probabilities: np.ndarray, keys: np.ndarray, start: float) -> np.ndarray:
    """Draws `sum(probabilities)` samples, a whole number, each with exactly its probability, boolean (n,).

    Args:
        probabilities: of being drawn, (n,).
        keys: the samples are put in their order, (n,).
        start: uniform in [0, 1).
    """
    order = np.argsort(keys, kind="stable")
    reached = np.cumsum(probabilities[order])
    reached[-1] = np.rint(reached[-1])  # against rounding
    steps = np.diff(np.floor(reached + start), prepend=np.floor(start))
    drawn = np.zeros(len(probabilities), bool)
    drawn[order] = steps > 0
    return drawn


def boundary(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    probabilities: np.ndarray,
    *,
    seed: int,
    draw: str = "exact",
    described: str = "the probabilities given",
) -> LabelNoise:
    """Each image may be taken for its runner-up class, the likelier the more probable that is.

    The scale of the flip rates follows from all images together, so the noise of a subset is not a part of the
    noise of the whole.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: share of all labels.
        probabilities: of each class given the image, (N, K), from a model that was not fitted on the image.
        seed: of the randomness.
        draw: `exact` (the rounded total) or `expected`.
        described: where the probabilities come from, for the convention.
    """
    check_request(clean_labels, ids, num_classes, rate, draw)
    if probabilities.shape != (len(clean_labels), num_classes):
        raise UsageError(
            f"boundary noise needs probabilities ({len(clean_labels)}, {num_classes}), got {probabilities.shape}"
        )
    labelled = np.flatnonzero(clean_labels >= 0)
    labels = clean_labels[labelled]
    others = probabilities[labelled].astype(np.float64)
    others[np.arange(len(labels)), labels] = -1
    runner_up = others.argmax(axis=1)
    weights = np.maximum(others[np.arange(len(labels)), runner_up], _LEAST)
    keys = noise_keys(seed, "boundary", [ids[row] for row in labelled.tolist()])
    if draw == "exact":
        flip_rates = scaled_to_sum(weights, float(np.rint(rate * len(labels))))
        start = stream_key(seed, "noise/boundary/start") / 2.0**64
        chosen = systematic_sample(flip_rates, keys, min(start, 1 - 2.0**-53)) if len(labels) else np.zeros(0, bool)
    else:
        flip_rates = scaled_to_sum(weights, rate * len(labels))
        chosen = uniform_of(keys) < flip_rates
    noisy_labels = clean_labels.astype(np.int64, copy=True)
    noisy_labels[labelled[chosen]] = runner_up[chosen]
    matrix = np.zeros((num_classes, num_classes))
    np.add.at(matrix, (labels, labels), 1 - flip_rates)
    np.add.at(matrix, (labels, runner_up), flip_rates)
    counts = np.bincount(labels, minlength=num_classes)
    matrix = np.where(counts[:, None] > 0, matrix / np.maximum(counts, 1)[:, None], np.eye(num_classes))
    kept = None
    if num_classes <= KEPT_CLASSES:
        kept = np.zeros((len(ids), num_classes), np.float32)
        kept[labelled, labels] = 1 - flip_rates
        kept[labelled, runner_up] = flip_rates
    flipped = noisy_labels != clean_labels
    how = "exact in total" if draw == "exact" else "each label drawn by itself"
    return LabelNoise(
        noisy_labels=noisy_labels,
        flipped=flipped,
        transition_matrix=matrix,
        realised_rate=share_of_labels(flipped, clean_labels),
        generator="boundary",
        rate=rate,
        convention=(
            f"boundary: {rate:.6g} of all labels changed to the runner-up class, in proportion to its probability "
            f"({described}), {how}"
        ),
        draw=draw,
        seed=seed,
        probabilities=kept,
    )
