"""Cluster noise: the wrong labels of a class lie close together, where no right one contradicts them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from winnow.data.randomness import sample_keys, stream_key
from winnow.errors import UsageError
from winnow.noise.channel import LabelNoise, check_request, class_members, noise_keys, share_of_labels
from winnow.noise.features import reproducible_fit


def cluster(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    features: np.ndarray,
    *,
    seed: int,
    clusters: int = 10,
    described: str = "the features given",
) -> LabelNoise:
    """Whole clusters of a class are changed, each to one other class, until the rate is met.

    The last cluster is changed in part, from its centre outwards, so that counts are exact. Clusters follow from all
    images of a class, so the noise of a subset is not a part of the noise of the whole.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: share of every class.
        features: (N, S), in which images are close.
        seed: of the randomness: which clusters, and their targets.
        clusters: of each class, fewer where it has fewer images.
        described: what the features are, for the convention.
    """
    check_request(clean_labels, ids, num_classes, rate, features=features)
    if clusters < 1:
        raise UsageError(f"there must be at least 1 cluster a class, got {clusters}")
    keys = noise_keys(seed, "cluster", ids)
    noisy_labels = clean_labels.astype(np.int64, copy=True)
    matrix = np.eye(num_classes)
    for label, members in class_members(clean_labels):
        members = members[np.argsort(keys[members], kind="stable")]
        wanted = int(np.rint(rate * len(members)))
        if wanted:
            part_of, distance = _clusters(features[members], clusters, stream_key(seed, "noise/cluster/means", label))
            parts = np.arange(clusters)
            lots = sample_keys(stream_key(seed, "noise/cluster/order", label), parts)
            targets = _targets(parts, label, num_classes, stream_key(seed, "noise/cluster/targets", label))
            chosen = np.lexsort((distance, lots[part_of]))[:wanted]
            noisy_labels[members[chosen]] = targets[part_of[chosen]]
        matrix[label] = np.bincount(noisy_labels[members], minlength=num_classes) / len(members)
    flipped = noisy_labels != clean_labels
    return LabelNoise(
        noisy_labels=noisy_labels,
        flipped=flipped,
        transition_matrix=matrix,
        realised_rate=share_of_labels(flipped, clean_labels),
        generator="cluster",
        rate=rate,
        convention=(
            f"cluster: {rate:.6g} of every class changed, whole clusters (of {clusters}, by {described}) to one class "
            "each, exact per class"
        ),
        draw="exact",
        seed=seed,
    )


def _clusters(features: np.ndarray, count: int, key: int) -> tuple[np.ndarray, np.ndarray]:
    """Each image's cluster and its distance from the centre, both (n,)."""
    from sklearn.cluster import KMeans  # takes a second to import

    model = KMeans(min(count, len(features)), n_init=1, random_state=key % 2**32)
    with reproducible_fit():  # copies of one image leave clusters empty, a warning of convergence but no fault
        distances = model.fit_transform(features.astype(np.float64))
    part_of = model.labels_
    return part_of, distances[np.arange(len(features)), part_of]


def _targets(parts: np.ndarray, label: int, num_classes: int, key: int) -> np.ndarray:
    """A class other than `label` for each cluster."""
    drawn = (sample_keys(key, parts) % np.uint64(num_classes - 1)).astype(np.int64)
    return drawn + (drawn >= label)
