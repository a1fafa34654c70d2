"""Noise inside the groups of a class hierarchy: each class is taken for the next of its group, in a circle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from winnow.errors import UsageError
from winnow.noise.channel import LabelNoise, class_conditional
from winnow.noise.matrices import map_matrix

# CIFAR-100's own superclasses in the order of their coarse labels, by fine label. Fine labels are alphabetical, so
# that neighbours in the index (`block5`) are hardly ever siblings.
CIFAR100_SUPERCLASSES: tuple[tuple[int, ...], ...] = (
    (4, 30, 55, 72, 95),
    (1, 32, 67, 73, 91),
    (54, 62, 70, 82, 92),
    (9, 10, 16, 28, 61),
    (0, 51, 53, 57, 83),
    (22, 39, 40, 86, 87),
    (5, 20, 25, 84, 94),
    (6, 7, 14, 18, 24),
    (3, 42, 43, 88, 97),
    (12, 17, 37, 68, 76),
    (23, 33, 49, 60, 71),
    (15, 19, 21, 31, 38),
    (34, 63, 64, 66, 75),
    (26, 45, 77, 79, 99),
    (2, 11, 35, 46, 98),
    (27, 29, 44, 78, 93),
    (36, 50, 65, 74, 80),
    (47, 52, 56, 59, 96),
    (8, 13, 48, 58, 90),
    (41, 69, 81, 85, 89),
)
_BLOCK = 5


def sibling_map(groups: Sequence[Sequence[int]], num_classes: int) -> dict[int, int]:
    """Each class to the next of its group, the last to the first; a class alone, or in no group, stays.

    Args:
        groups: class indices.
        num_classes: K.

    Raises:
        UsageError: a class is unknown or stands twice, or no group has two classes.
    """
    classes = [index for group in groups for index in group]
    if len(set(classes)) != len(classes) or not set(classes) <= set(range(num_classes)):
        raise UsageError(f"groups of classes: each of 0 to {num_classes - 1} may stand in one group, once")
    mapping = {
        group[place]: group[(place + 1) % len(group)]
        for group in groups
        if len(group) > 1
        for place in range(len(group))
    }
    if not mapping:
        raise UsageError("groups of classes: one of them must hold at least two classes")
    return mapping


def sibling_convention(mapping: Mapping[int, int], num_classes: int, rate: float) -> str:
    """What a rate is a share of under a map by `sibling_map`, as a sentence's part."""
    sources = "every class" if len(mapping) == num_classes else f"each of {len(mapping)} of the {num_classes} classes"
    return f"{rate:.6g} of {sources} changed to the next of its group"


def superclass(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    groups: Sequence[Sequence[int]] = CIFAR100_SUPERCLASSES,
    *,
    seed: int,
    draw: str = "exact",
) -> LabelNoise:
    """Each class is taken for the next of its group.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: share of every class that has a sibling.
        groups: class indices; by default CIFAR-100's superclasses.
        seed: of the randomness.
        draw: `exact` or `expected`.
    """
    mapping = sibling_map(groups, num_classes)
    matrix = map_matrix(num_classes, mapping, rate)
    shared = sum(len(group) > 1 for group in groups)
    convention = f"superclass: {sibling_convention(mapping, num_classes, rate)} ({shared} groups)"
    return class_conditional(clean_labels, ids, matrix, "superclass", rate, convention, draw, seed, mapping)


def block5(
    clean_labels: np.ndarray, ids: Sequence[str], num_classes: int, rate: float, *, seed: int, draw: str = "exact"
) -> LabelNoise:
    """Each class is taken for the next of its block of five indices, see `superclass` for the arguments.

    Much published "superclass" noise on CIFAR-100 is this one. The two agree only where classes are ordered by their
    superclass.

    Raises:
        UsageError: the number of classes is no multiple of five.
    """
    if num_classes % _BLOCK:
        raise UsageError(f"block5 noise needs a multiple of 5 classes, got {num_classes}")
    blocks = np.arange(num_classes).reshape(-1, _BLOCK).tolist()
    mapping = sibling_map(blocks, num_classes)
    matrix = map_matrix(num_classes, mapping, rate)
    convention = f"block5: {rate:.6g} of every class changed to the next of its block of 5 indices"
    return class_conditional(clean_labels, ids, matrix, "block5", rate, convention, draw, seed, mapping)
