"""The channel from clean to noisy labels: drawing through a matrix or through one row of probabilities an image.

Randomness is keyed by (seed, generator, sample id): order, shard and platform play no part. `exact` gives
every class its promised number of wrong labels; `expected` draws each sample on its own, so that a subset has
the labels of the whole.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from winnow.data.randomness import sample_keys, stream_key, text_keys, uniforms
from winnow.data.source import Pictures
from winnow.errors import UsageError
from winnow.noise.matrices import check_rate
from winnow.noise.taxonomy import DRAWS, KINDS


@dataclass(frozen=True)
class LabelNoise:
    """Noisy labels and how they came about.

    Attributes:
        noisy_labels: int64 (N,); -1 where there was no label.
        flipped: which labels differ from the clean ones, boolean (N,).
        transition_matrix: the channel that was asked for, (K, K); where it depends on the image, its average over the
            images of each class; where images are foreign, that of the others; None where there is none.
        realised_rate: share of the labels that exist that are wrong or stand at a foreign image.
        generator: its name.
        rate: the number that was asked for; `convention` says of what it is a share.
        convention: the same as a sentence's part, to be quoted with the rate.
        draw: `exact` or `expected`.
        seed: of the randomness.
        mapping: source class to target class, where the generator has a map.
        realised_rates: further shares, by what they are shares of.
        probabilities: of each label given the image, float32 (N, K), where the noise depends on the image and K is at
            most 128.
        label_columns: further label columns, each (N,).
        foreign: which images are replaced, boolean (N,).
        donor_rows: for each image the donor that replaces it, -1 for none, (N,); None where donors are made.
        pictures: the images where some were replaced.
    """

    noisy_labels: np.ndarray
    flipped: np.ndarray
    transition_matrix: np.ndarray | None
    realised_rate: float
    generator: str
    rate: float
    convention: str
    draw: str
    seed: int
    mapping: Mapping[int, int] | None = None
    realised_rates: Mapping[str, float] = field(default_factory=dict)
    probabilities: np.ndarray | None = None
    label_columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    foreign: np.ndarray | None = None
    donor_rows: np.ndarray | None = None
    pictures: Pictures | None = None

    @property
    def taxonomy(self) -> str:
        """What the noise depends on: NCAR, NAR, NNAR or open-set."""
        return KINDS[self.generator].taxonomy


def check_request(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    draw: str = "exact",
    features: np.ndarray | None = None,
) -> None:
    """Refuse what no noise can be made of.

    Raises:
        UsageError: labels, ids and features do not fit, or the rate or the draw is not possible.
    """
    check_rate(num_classes, rate)
    if draw not in DRAWS:
        raise UsageError(f"draw must be one of {', '.join(DRAWS)}, got {draw!r}")
    if clean_labels.ndim != 1:
        raise UsageError("label noise needs one label an image; these images have several")
    if len(ids) != len(clean_labels):
        raise UsageError(f"{len(clean_labels):,} labels for {len(ids):,} ids")
    if clean_labels.max(initial=-1) >= num_classes or clean_labels.min(initial=-1) < -1:
        raise UsageError(f"labels must lie in 0 to {num_classes - 1}, or be -1")
    if features is not None and len(features) != len(clean_labels):
        raise UsageError(f"{len(features):,} rows of features for {len(clean_labels):,} labels")


def class_members(labels: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Each class that occurs in labels (N,), -1 where missing, and its rows, both ascending."""
    for index in np.unique(labels[labels >= 0]).tolist():
        yield index, np.flatnonzero(labels == index)


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
    check_request(clean_labels, ids, max(2, len(transition_matrix)), 0, draw)
    keys = noise_keys(seed, name, ids)
    noisy_labels = clean_labels.astype(np.int64, copy=True)
    for index, members in class_members(clean_labels):
        row = transition_matrix[index]
        if draw == "expected":
            noisy_labels[members] = _expected_labels(keys[members], row)
        else:
            counts = _exact_counts(len(members), row, index, stream_key(seed, f"noise/{name}/ties"))
            in_order = members[np.argsort(keys[members], kind="stable")]
            noisy_labels[in_order[: counts.sum()]] = np.repeat(np.arange(len(row)), counts)
    return noisy_labels


def class_conditional(
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
    """Noise that depends on the class alone, see `draw_labels` and `LabelNoise` for the arguments."""
    noisy_labels = draw_labels(clean_labels, ids, matrix, name=name, seed=seed, draw=draw)
    flipped = noisy_labels != clean_labels
    how = "exact per class" if draw == "exact" else "each label drawn by itself"
    return LabelNoise(
        noisy_labels=noisy_labels,
        flipped=flipped,
        transition_matrix=matrix,
        realised_rate=share_of_labels(flipped, clean_labels),
        generator=name,
        rate=rate,
        convention=f"{convention}, {how}",
        draw=draw,
        seed=seed,
        mapping=mapping,
    )


def share_of_labels(chosen: np.ndarray, labels: np.ndarray) -> float:
    """Share of the labels that exist at which `chosen`, boolean (N,), holds; 0 if there are none."""
    labelled = labels >= 0
    return int((chosen & labelled).sum()) / int(labelled.sum()) if labelled.any() else 0.0


def noise_keys(seed: int, name: str, ids: Sequence[str]) -> np.ndarray:
    """One uint64 a sample, (N,), for one stream of a generator."""
    return text_keys(stream_key(seed, f"noise/{name}"), list(ids))


def uniform_of(keys: np.ndarray) -> np.ndarray:
    """Keys as uniform numbers in [0, 1)."""
    return (keys >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normals(key: int, size: int, width: int) -> np.ndarray:
    """Standard normal numbers, (size, width), a function of the key."""
    from scipy.special import ndtri

    return np.asarray(ndtri(uniforms(key, np.arange(size), width) + 2.0**-54))  # 0 would be minus infinity


def draw_from_rows(probabilities: np.ndarray, uniform: np.ndarray) -> np.ndarray:
    """One class a row, (n,), from its probabilities (n, K) and a uniform number each (n,)."""
    bounds = np.cumsum(probabilities, axis=1)
    bounds /= bounds[:, -1:]  # exactly one at the last possible class, so that rounding opens no gap above it
    return (uniform[:, None] >= bounds).sum(axis=1)


def _expected_labels(keys: np.ndarray, row: np.ndarray) -> np.ndarray:
    bounds = np.cumsum(row)
    bounds[np.flatnonzero(row)[-1] :] = 1.0  # rounding must not open a gap above the last possible class
    return np.searchsorted(bounds, uniform_of(keys), side="right")


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
