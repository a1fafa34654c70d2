"""A source with its noise, in memory, and perhaps with some labels checked."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from winnow.data.randomness import permutation, stream_key
from winnow.data.source import Source
from winnow.errors import InputError
from winnow.labels.truth import FOREIGN, CleanLabels
from winnow.noise.channel import LabelNoise


def noisy_source(source: Source, noise: LabelNoise) -> Source:
    """A source with noisy labels, and images where some were replaced; its own labels are the truth."""
    truth = source.noisy_labels if noise.foreign is None else np.where(noise.foreign, FOREIGN, source.noisy_labels)
    return replace(
        source,
        noisy_labels=noise.noisy_labels,
        clean_labels=CleanLabels(truth),
        pictures=noise.pictures or source.pictures,
    )


def true_labels(source: Source, noise: LabelNoise) -> np.ndarray:
    """The labels before the noise, (N,); a foreign image has none (-1), as it is of none of the classes."""
    return source.noisy_labels if noise.foreign is None else np.where(noise.foreign, -1, source.noisy_labels)


def with_checked(source: Source, number: int, seed: int) -> Source:
    """A source in which a person has checked `number` labels, about as many of each class: they are right and verified.

    Which ones is a function of the seed; a larger number contains the smaller one.

    Raises:
        InputError: the truth is not known, or of too few images.
    """
    truth = source.clean_labels
    if truth is None or source.is_multilabel:
        raise InputError(f"{source.address}: checked labels need the truth, one class an image")
    every = np.arange(len(source))
    # Without the given labels to fall back on: foreign images belong to no class, nobody who checks gives them one.
    right = truth.checked(np.full(len(source), -1), every)
    known = np.flatnonzero(right >= 0) if len(truth) else every[:0]
    order = permutation(stream_key(seed, "checked"), known)
    rank = np.empty(len(source), dtype=np.int64)
    for members in (order[right[order] == k] for k in range(source.num_classes)):
        rank[members] = np.arange(len(members))
    rows = order[np.argsort(rank[order], kind="stable")][:number]
    if len(rows) < number:
        raise InputError(f"{source.address}: {number} labels cannot be checked, the truth is known of {len(rows)}")
    verified = np.zeros(len(source), dtype=bool)
    verified[rows] = True
    return replace(source, noisy_labels=truth.checked(source.noisy_labels, rows), verified=verified)
