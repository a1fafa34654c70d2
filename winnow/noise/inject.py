"""Making labels wrong by their class alone, with the convention written beside the number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from winnow.errors import UsageError
from winnow.noise.channel import LabelNoise, class_conditional, draw_labels
from winnow.noise.matrices import (
    map_matrix,
    pair_matrix,
    permutation_map,
    random_derangement,
    symmetric_matrix,
    tridiagonal_matrix,
)

__all__ = ["LabelNoise", "asymmetric", "draw_labels", "pair", "permutation", "symmetric", "tridiagonal"]

_LISTED = 20
"""Class maps up to this size are spelt out in the convention."""


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
    return class_conditional(clean_labels, ids, matrix, "symmetric", rate, f"{name}: {share}", draw, seed)


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
    return class_conditional(clean_labels, ids, matrix, "pair", rate, convention, draw, seed, mapping)


def tridiagonal(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    *,
    seed: int,
    draw: str = "exact",
) -> LabelNoise:
    """Each class is taken for one of its two neighbours, see `symmetric` for the arguments."""
    matrix = tridiagonal_matrix(num_classes, rate)
    convention = f"tridiagonal: {rate:.6g} of every class changed, half to the class before and half to the one after"
    return class_conditional(clean_labels, ids, matrix, "tridiagonal", rate, convention, draw, seed)


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
    arrows = arrows if len(mapping) <= _LISTED else "targets in the map"
    sources = f"{len(mapping)} of the {num_classes} classes"
    convention = f"asymmetric: {rate:.6g} of each of {sources} changed to its target ({arrows})"
    return class_conditional(clean_labels, ids, matrix, "asymmetric", rate, convention, draw, seed, dict(mapping))


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
    """Each class is always taken for the same other one, a permutation of all: biased noise.

    With a permutation this is the biased (consistent) noise of Fard et al. 2017 and the fixed permutation of Reed et
    al. 2014; unbiased noise is `symmetric`.

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
    listed = " ".join(map(str, targets)) if num_classes <= _LISTED else "targets in the map"
    convention = f"permutation: {rate:.6g} of every class changed to its target ({listed})"
    return class_conditional(clean_labels, ids, matrix, "permutation", rate, convention, draw, seed, mapping)
