"""Making labels wrong on purpose, with the convention written beside the number.

Randomness is keyed by (seed, generator, sample id): order, shard and platform play no part. `exact` gives
every class its promised number of wrong labels; `expected` draws each sample on its own, so that a subset has
the labels of the whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from winnow.data.randomness import sample_keys, stream_key, text_keys
from winnow.errors import UsageError
from winnow.noise.matrices import (
    map_matrix,
    pair_matrix,
    permutation_map,
    random_derangement,
    symmetric_matrix,
)

DRAWS = ("exact", "expected")


@dataclass(frozen=True)
class LabelNoise:
    """Noisy labels and how they came about.

    Attributes:
        noisy_labels: int64 (N,); -1 where there was no label.
        flipped: which labels differ from the clean ones, boolean (N,).
        transition_matrix: the channel that was asked for, (K, K).
        realised_rate: share of wrong labels among those that exist.
        generator: its name.
        rate: the number that was asked for; `convention` says of what it is a share.
        convention: the same as a sentence's part, to be quoted with the rate.
        draw: `exact` or `expected`.
        seed: of the randomness.
        mapping: source class to target class, where the generator has a map.
    """

    noisy_labels: np.ndarray
    flipped: np.ndarray
    transition_matrix: np.ndarray
    realised_rate: float
    generator: str
    rate: float
    convention: str
    draw: str
    seed: int
    mapping: Mapping[int, int] | None = None


def symmetric(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    *,
    seed: int,
    inclusive: bool = False,
    draw: str = "exact",
) -> LabelNoise:
    """Every wrong class equally likely.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: in [0, 1]; of wrong labels or, if `inclusive`, of labels drawn anew from all classes.
        seed: of the randomness.
        inclusive: whether the new label may be the old one.
        draw: `exact` or `expected`.
    """
    matrix = symmetric_matrix(num_classes, rate, inclusive=inclusive)
    if inclusive:
        share = f"{rate:.6g} of the labels drawn anew from all {num_classes} classes"
    else:
        share = f"{rate:.6g} of the labels changed to one of the {num_classes - 1} other classes"
    name = "symmetric inclusive" if inclusive else "symmetric exclusive"
    return _inject(clean_labels, ids, matrix, "symmetric", rate, f"{name}: {share}", draw, seed)


def pair(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    *,
    seed: int,
    draw: str = "exact",
) -> LabelNoise:
    """Each class is taken for the next, see `symmetric` for the arguments."""
    matrix = pair_matrix(num_classes, rate)
    convention = f"pair: {rate:.6g} of every class changed to the next class"
    mapping = {index: (index + 1) % num_classes for index in range(num_classes)}
    return _inject(clean_labels, ids, matrix, "pair", rate, convention, draw, seed, mapping)


def asymmetric(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    mapping: Mapping[int, int],
    *,
    seed: int,
    draw: str = "exact",
) -> LabelNoise:
    """Some classes are taken for a look-alike, the others stay clean, see `symmetric` for the arguments.

    Args:
        clean_labels: class indices.
        ids: stable names.
        num_classes: K.
        rate: share of every source class; less of the whole, unless every class is one.
        mapping: source class to target class.
        seed: of the randomness.
        draw: `exact` or `expected`.
    """
    if not mapping:
        raise UsageError("asymmetric noise needs a class map")
    matrix = map_matrix(num_classes, mapping, rate)
    arrows = " ".join(f"{source}->{target}" for source, target in sorted(mapping.items()))
    sources = f"{len(mapping)} of the {num_classes} classes"
    convention = f"asymmetric: {rate:.6g} of each of {sources} changed to its target ({arrows})"
    return _inject(clean_labels, ids, matrix, "asymmetric", rate, convention, draw, seed, dict(mapping))


def permutation(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    *,
    seed: int,
    targets: Sequence[int] | None = None,
    draw: str = "exact",
) -> LabelNoise:
    """Each class is always taken for the same other one, a permutation of all.

    Args:
        clean_labels: class indices.
        ids: stable names.
        num_classes: K.
        rate: share of every class.
        seed: of the randomness.
        targets: target of class 0, 1, ...; by default a random derangement, a function of the seed.
        draw: `exact` or `expected`.
    """
    if targets is None:
        targets = random_derangement(num_classes, seed)
    if len(targets) != num_classes:
        raise UsageError(f"the permutation has {len(targets)} targets for {num_classes} classes")
    mapping = permutation_map(targets)
    matrix = map_matrix(num_classes, mapping, rate)
    listed = " ".join(map(str, targets)) if num_classes <= 20 else "targets in the map"
    convention = f"permutation: {rate:.6g} of every class changed to its target ({listed})"
    return _inject(clean_labels, ids, matrix, "permutation", rate, convention, draw, seed, mapping)


def draw_labels(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    transition_matrix: np.ndarray,
    *,
    name: str,
    seed: int,
    draw: str = "exact",
) -> np.ndarray:
    """Noisy labels (N,) from any transition matrix; missing labels (-1) stay missing.

    Args:
        clean_labels: class indices, (N,).
        ids: stable names of the samples.
        transition_matrix: (K, K), rows sum to one.
        name: of the generator: two generators with one seed draw independently.
        seed: of the randomness.
        draw: `exact` (the promised count of every class, rounded) or `expected` (each sample by itself).
    """
    if draw not in DRAWS:
        raise UsageError(f"draw must be one of {', '.join(DRAWS)}, got {draw!r}")
    if len(ids) != len(clean_labels):
        raise UsageError(f"{len(clean_labels):,} labels for {len(ids):,} ids")
    if clean_labels.max(initial=-1) >= len(transition_matrix) or clean_labels.min(initial=-1) < -1:
        raise UsageError(f"labels must lie in 0 to {len(transition_matrix) - 1}, or be -1")
    keys = text_keys(stream_key(seed, f"noise/{name}"), list(ids))
    noisy_labels = clean_labels.astype(np.int64, copy=True)
    for index in np.unique(clean_labels[clean_labels >= 0]):
        members = np.flatnonzero(clean_labels == index)
        row = transition_matrix[index]
        if draw == "expected":
            noisy_labels[members] = _expected_labels(keys[members], row)
        else:
            counts = _exact_counts(len(members), row, int(index), stream_key(seed, f"noise/{name}/ties"))
            in_order = members[np.argsort(keys[members], kind="stable")]
            noisy_labels[in_order[: counts.sum()]] = np.repeat(np.arange(len(row)), counts)
    return noisy_labels


def _expected_labels(keys: np.ndarray, row: np.ndarray) -> np.ndarray:
    uniform = (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53
    bounds = np.cumsum(row)
    bounds[np.flatnonzero(row)[-1] :] = 1.0  # rounding must not open a gap above the last possible class
    return np.searchsorted(bounds, uniform, side="right")


def _exact_counts(members: int, row: np.ndarray, index: int, ties: int) -> np.ndarray:
    """How many members of a class go to each other one, (K,): rounded total, largest remainders."""
    wrong = row.copy()
    wrong[index] = 0
    total = int(np.rint(members * wrong.sum()))
    if total == 0:
        return np.zeros(len(row), dtype=np.int64)
    quotas = total * wrong / wrong.sum()
    counts = np.floor(quotas + 1e-9).astype(np.int64)
    remainders = np.where(wrong > 0, np.round(quotas - counts, 9), -1)
    # Equal remainders are the rule (symmetric noise): a hash decides, so that no class is favoured.
    order = np.lexsort((sample_keys(ties, index * len(row) + np.arange(len(row))), -remainders))
    counts[order[: total - counts.sum()]] += 1
    return counts


def _inject(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    matrix: np.ndarray,
    name: str,
    rate: float,
    convention: str,
    draw: str,
    seed: int,
    mapping: Mapping[int, int] | None = None,
) -> LabelNoise:
    noisy_labels = draw_labels(clean_labels, ids, matrix, name=name, seed=seed, draw=draw)
    flipped = noisy_labels != clean_labels
    labelled = int((clean_labels >= 0).sum())
    how = "exact per class" if draw == "exact" else "each label drawn by itself"
    return LabelNoise(
        noisy_labels=noisy_labels,
        flipped=flipped,
        transition_matrix=matrix,
        realised_rate=int(flipped.sum()) / labelled if labelled else 0.0,
        generator=name,
        rate=rate,
        convention=f"{convention}, {how}",
        draw=draw,
        seed=seed,
        mapping=mapping,
    )
