"""Ambiguity: a class name with two senses, so that the images of another class come in under it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from winnow.errors import UsageError
from winnow.noise.channel import LabelNoise, check_request, class_conditional


def ambiguity(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    mapping: Mapping[int, int],
    *,
    seed: int,
    draw: str = "exact",
) -> LabelNoise:
    """Images of one class are called by the name of another, which then holds both.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: share of the images carrying the ambiguous name that are of the other sense, below 1. Unlike in
            `asymmetric`, it is no share of the class that the images come from.
        mapping: class whose images are renamed to the class with the ambiguous name; no class in two roles.
        seed: of the randomness.
        draw: `exact` or `expected`.

    Raises:
        UsageError: the map is not possible, or the other class has too few images.
    """
    check_request(clean_labels, ids, num_classes, rate, draw)
    roles = [*mapping.keys(), *mapping.values()]
    if not mapping or len(set(roles)) != len(roles) or not set(roles) <= set(range(num_classes)):
        raise UsageError("ambiguity needs a class map in which no class stands twice")
    counts = np.bincount(clean_labels[clean_labels >= 0], minlength=num_classes)
    matrix = np.eye(num_classes)
    for source, target in mapping.items():
        needed = rate * counts[target] / (1 - rate) if rate < 1 else np.inf
        # Rounding may ask for a fraction of an image more than there is.
        if rate and needed >= counts[source] + 0.5:
            most = counts[source] / max(1, counts[source] + counts[target])
            raise UsageError(
                f"ambiguity at rate {rate:.6g} needs more images than class {source} has; {most:.3g} is the most"
            )
        share = min(1.0, needed / counts[source]) if rate and counts[source] else 0.0
        matrix[source, [source, target]] = 1 - share, share
    arrows = " ".join(f"{source}->{target}" for source, target in sorted(mapping.items()))
    names = "one class name" if len(mapping) == 1 else f"{len(mapping)} class names"
    convention = f"ambiguity: {rate:.6g} of the images under {names} are of another class ({arrows})"
    noise = class_conditional(clean_labels, ids, matrix, "ambiguity", rate, convention, draw, seed, dict(mapping))
    under = np.isin(noise.noisy_labels, list(mapping.values()))
    realised = float(noise.flipped[under].mean()) if under.any() else 0.0
    return replace(noise, realised_rates={"ambiguous_classes": realised})
