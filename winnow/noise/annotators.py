"""Several annotators, each with habits of their own, and the majority of their votes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from winnow.data.randomness import sample_keys, stream_key, uniforms
from winnow.errors import UsageError
from winnow.noise.channel import LabelNoise, check_request, draw_labels, noise_keys, share_of_labels, uniform_of

_SPREAD = 0.5


def annotator_matrices(num_classes: int, rate: float, count: int, *, seed: int) -> np.ndarray:
    """Confusion matrices of several people, (A, K, K): `rate` is the mean of their error rates.

    The error rates lie evenly between half and one and a half times `rate` (nearer where 1 would be passed). Which
    wrong class someone takes is a habit, for each class a random distribution over the others, a function of the seed.
    """
    spread = min(_SPREAD, (1 - rate) / rate) if rate else 0.0
    rates = rate * (1 + spread * (np.linspace(-1, 1, count) if count > 1 else np.zeros(1)))
    matrices = np.empty((count, num_classes, num_classes))
    for person, error_rate in enumerate(rates):
        key = stream_key(seed, "noise/annotators/habits", person)
        # Exponential numbers over their sum are uniform on the simplex.
        habits = -np.log1p(-uniforms(key, np.arange(num_classes), num_classes))
        np.fill_diagonal(habits, 0)
        habits /= habits.sum(axis=1, keepdims=True)
        matrices[person] = (1 - error_rate) * np.eye(num_classes) + error_rate * habits
    return matrices


def majority(votes: np.ndarray, keys: np.ndarray) -> np.ndarray:
    """The most frequent label of each image, (N,); a tie falls by lot.

    Args:
        votes: labels by annotator, (A, N).
        keys: one uint64 an image, (N,).
    """
    best = np.full(votes.shape[1], -1.0)
    label = votes[0].copy()
    for mine in votes:
        # Those who agree cast one lot, drawn by the label, so that each tied label has the same chance.
        score = (votes == mine).sum(axis=0) + uniform_of(_mixed(keys, mine))
        label = np.where(score > best, mine, label)
        best = np.maximum(score, best)
    return label


def _mixed(keys: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """One uint64 for each image and label."""
    return sample_keys(0, keys ^ sample_keys(1, labels))


def annotators(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    *,
    seed: int,
    count: int = 3,
    matrices: np.ndarray | None = None,
    draw: str = "exact",
) -> LabelNoise:
    """One label by each annotator (`label_columns`), and their majority as the noisy label.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: mean error rate of the annotators; their majority is wrong less often.
        seed: of the randomness.
        count: A, how many annotators, where no matrices are given.
        matrices: confusion matrices, (A, K, K), rows summing to one, in place of `annotator_matrices`; `rate` is then
            only quoted.
        draw: `exact` or `expected`, of each annotator's labels.
    """
    check_request(clean_labels, ids, num_classes, rate, draw)
    if count < 1:
        raise UsageError(f"there must be at least 1 annotator, got {count}")
    if matrices is None:
        matrices = annotator_matrices(num_classes, rate, count, seed=seed)
    if matrices.shape[1:] != (num_classes, num_classes) or (np.abs(matrices.sum(axis=2) - 1) > 1e-9).any():
        raise UsageError(f"annotators need matrices ({len(matrices)}, {num_classes}, {num_classes}), rows summing to 1")
    votes = np.stack(
        [
            draw_labels(clean_labels, ids, matrix, name=f"annotators/{person}", seed=seed, draw=draw)
            for person, matrix in enumerate(matrices, start=1)
        ]
    )
    noisy_labels = majority(votes, noise_keys(seed, "annotators/ties", ids))
    flipped = noisy_labels != clean_labels
    columns = {f"annotator_{person}": mine for person, mine in enumerate(votes, start=1)}
    return LabelNoise(
        noisy_labels=noisy_labels,
        flipped=flipped,
        transition_matrix=matrices[0] if len(matrices) == 1 else None,
        realised_rate=share_of_labels(flipped, clean_labels),
        generator="annotators",
        rate=rate,
        convention=f"annotators: majority of {len(votes)} people who are wrong in {rate:.6g} of the labels on average",
        draw=draw,
        seed=seed,
        realised_rates={name: share_of_labels(mine != clean_labels, clean_labels) for name, mine in columns.items()},
        label_columns=columns,
    )
