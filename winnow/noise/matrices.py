"""Transition matrices: entry (i, j) = P(noisy = j given clean = i); rows sum to one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from winnow.data.randomness import permutation, stream_key
from winnow.errors import UsageError

# The maps of the papers: giorgiop/loss-correction for MNIST and CIFAR-10, xiaoboxia/CDR for Fashion-MNIST.
CLASS_MAPS: dict[str, dict[int, int]] = {
    "mnist": {7: 1, 2: 7, 5: 6, 6: 5, 3: 8},
    "fashion-mnist": {0: 6, 2: 4, 5: 7, 7: 5},
    "cifar10": {9: 1, 2: 0, 3: 5, 5: 3, 4: 7},
}
# Reed et al. 2014, as it stands in udibr/noisy_labels: class i is called PERMUTATIONS["mnist"][i].
PERMUTATIONS: dict[str, tuple[int, ...]] = {"mnist": (7, 9, 0, 4, 2, 1, 3, 5, 6, 8)}


def check_rate(num_classes: int, rate: float) -> None:
    """Refuse what no matrix can be made of.

    Raises:
        UsageError: there are fewer than two classes, or the rate is no share.
    """
    if num_classes < 2:
        raise UsageError(f"label noise needs at least 2 classes, got {num_classes}")
    if not 0 <= rate <= 1:
        raise UsageError(f"the rate must lie in [0, 1], got {rate}")


def symmetric_matrix(num_classes: int, rate: float, *, inclusive: bool = False) -> np.ndarray:
    """Every wrong class equally likely, (K, K).

    Args:
        num_classes: K, at least 2.
        rate: share of labels that are wrong or, if `inclusive`, drawn anew from all K classes: then only
            `rate * (K - 1) / K` are wrong.
        inclusive: whether the new label may be the old one.
    """
    check_rate(num_classes, rate)
    if inclusive:
        rate = rate * (num_classes - 1) / num_classes
    matrix = np.full((num_classes, num_classes), rate / (num_classes - 1))
    np.fill_diagonal(matrix, 1 - rate)
    return matrix


def pair_matrix(num_classes: int, rate: float) -> np.ndarray:
    """Each class is taken for the next, the last for the first, (K, K)."""
    return map_matrix(num_classes, {index: (index + 1) % num_classes for index in range(num_classes)}, rate)


def tridiagonal_matrix(num_classes: int, rate: float) -> np.ndarray:
    """Each class is taken for the one before or after it, in a circle and equally often, (K, K)."""
    next_class = pair_matrix(num_classes, rate)
    return (next_class + next_class.T) / 2


def map_matrix(num_classes: int, mapping: Mapping[int, int], rate: float) -> np.ndarray:
    """Source classes of a map go to their target with probability `rate`, the others stay, (K, K)."""
    check_rate(num_classes, rate)
    matrix = np.eye(num_classes)
    for source, target in mapping.items():
        if not (0 <= source < num_classes and 0 <= target < num_classes) or source == target:
            raise UsageError(f"class map: {source}:{target} is not possible among {num_classes} classes")
        matrix[source, source] = 1 - rate
        matrix[source, target] = rate
    return matrix


def random_derangement(num_classes: int, seed: int) -> tuple[int, ...]:
    """A permutation of the classes that moves every one, drawn by rejection."""
    if num_classes < 2:
        raise UsageError(f"a permutation needs at least 2 classes, got {num_classes}")
    classes = np.arange(num_classes)
    attempt = 0
    while True:
        drawn = permutation(stream_key(seed, "derangement", attempt), classes)
        if (drawn != classes).all():
            return tuple(int(target) for target in drawn)
        attempt += 1


def permutation_map(targets: Sequence[int]) -> dict[int, int]:
    """A permutation as a class map; one with a fixed point is refused."""
    if sorted(targets) != list(range(len(targets))) or any(i == target for i, target in enumerate(targets)):
        raise UsageError(f"{list(targets)} is no permutation that moves every class")
    return dict(enumerate(targets))
