"""Open-set noise: images of none of the classes under the labels of those that they replace.

Wang et al., "Iterative Learning with Open-set Noisy Labels", arXiv:1804.00092. Part from its code: the replaced images
are drawn class by class, every donor serves once, and none comes from a class of the same name. Web noise adds wrong
labels within the domain, after Krause et al., arXiv:1511.06789.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from winnow.errors import InputError, UsageError
from winnow.noise.channel import LabelNoise, check_request, class_members, noise_keys, share_of_labels, uniform_of
from winnow.noise.hierarchy import sibling_convention
from winnow.noise.matrices import map_matrix


def open_set(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    *,
    seed: int,
    donor_ids: Sequence[str] | None = None,
    draw: str = "exact",
    described: str = "foreign images",
) -> LabelNoise:
    """Chooses images to be replaced; labels stay. `winnow.noise.donors` brings the images.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: share of the images of every class.
        seed: of the randomness.
        donor_ids: names of the images that may stand in, each once; None where they are made.
        draw: `exact` or `expected`; which donor stands in depends on all replaced images either way.
        described: what the foreign images are, for the convention.

    Raises:
        InputError: there are fewer donors than images to replace.
    """
    check_request(clean_labels, ids, num_classes, rate, draw)
    places = _places(clean_labels, noise_keys(seed, "open-set", ids), (rate,), draw)
    how = "exact per class" if draw == "exact" else "each image drawn by itself"
    foreign = places == 0
    return LabelNoise(
        noisy_labels=clean_labels.astype(np.int64, copy=True),
        flipped=np.zeros(len(ids), bool),
        transition_matrix=None,
        realised_rate=share_of_labels(foreign, clean_labels),
        generator="open-set",
        rate=rate,
        convention=f"open-set: {rate:.6g} of the images of every class replaced by {described}, {how}",
        draw=draw,
        seed=seed,
        foreign=foreign,
        donor_rows=_matched(foreign, ids, donor_ids, seed),
    )


def web(
    clean_labels: np.ndarray,
    ids: Sequence[str],
    num_classes: int,
    rate: float,
    mapping: Mapping[int, int],
    *,
    foreign_rate: float,
    seed: int,
    donor_ids: Sequence[str] | None = None,
    draw: str = "exact",
    described: str = "foreign images",
) -> LabelNoise:
    """What a web search brings: foreign images (cross-domain), and among the others wrong labels (cross-category).

    No image suffers both. The realised rates are `foreign` and `wrong_class`, shares of all labels.

    Args:
        clean_labels: class indices, (N,), -1 where missing; not modified.
        ids: stable names of the samples.
        num_classes: K.
        rate: share of the images of every source class that get its target's label.
        mapping: source class to target class, see `hierarchy.sibling_map`.
        foreign_rate: share of the images of every class that are replaced; with `rate` at most 1.
        seed: of the randomness.
        donor_ids: see `open_set`.
        draw: `exact` or `expected`.
        described: see `open_set`.

    Raises:
        UsageError: the rates or the map are not possible.
        InputError: there are fewer donors than images to replace.
    """
    check_request(clean_labels, ids, num_classes, rate, draw)
    if not 0 <= foreign_rate <= 1 or rate + foreign_rate > 1 + 1e-12:
        raise UsageError(
            f"the rates of foreign and of mislabelled images must lie in [0, 1] and so must their sum, "
            f"got {foreign_rate:.6g} and {rate:.6g}"
        )
    within = min(1.0, rate / (1 - foreign_rate)) if foreign_rate < 1 else 0.0
    matrix = map_matrix(num_classes, mapping, within)
    places = _places(clean_labels, noise_keys(seed, "web", ids), (foreign_rate, rate), draw)
    target_of = np.arange(num_classes)
    target_of[list(mapping.keys())] = list(mapping.values())
    chosen = places == 1
    noisy_labels = clean_labels.astype(np.int64, copy=True)
    noisy_labels[chosen] = target_of[clean_labels[chosen]]
    flipped = noisy_labels != clean_labels
    foreign = places == 0
    rates = {
        "foreign": share_of_labels(foreign, clean_labels),
        "wrong_class": share_of_labels(flipped, clean_labels),
    }
    how = "exact per class" if draw == "exact" else "each image drawn by itself"
    return LabelNoise(
        noisy_labels=noisy_labels,
        flipped=flipped,
        transition_matrix=matrix,
        realised_rate=share_of_labels(foreign | flipped, clean_labels),
        generator="web",
        rate=rate,
        convention=(
            f"web: {foreign_rate:.6g} of the images of every class replaced by {described}, "
            f"{sibling_convention(mapping, num_classes, rate)}, {how}"
        ),
        draw=draw,
        seed=seed,
        mapping=dict(mapping),
        realised_rates=rates,
        foreign=foreign,
        donor_rows=_matched(foreign, ids, donor_ids, seed),
    )


def _places(clean_labels: np.ndarray, keys: np.ndarray, rates: Sequence[float], draw: str) -> np.ndarray:
    """For each image which of some disjoint shares of its class it falls into, -1 for none, (N,)."""
    bounds = np.cumsum(rates)
    places = np.full(len(clean_labels), -1)
    for _, members in class_members(clean_labels):
        if draw == "expected":
            found = np.searchsorted(bounds, uniform_of(keys[members]), side="right")
        else:
            counts = np.rint(np.multiply(rates, len(members))).astype(np.int64)
            rank = np.empty(len(members), np.int64)
            rank[np.argsort(keys[members], kind="stable")] = np.arange(len(members))
            found = np.searchsorted(np.cumsum(counts), rank, side="right")
        places[members] = np.where(found < len(rates), found, -1)
    return places


def _matched(foreign: np.ndarray, ids: Sequence[str], donor_ids: Sequence[str] | None, seed: int) -> np.ndarray | None:
    """A donor for every foreign image, both taken in the order of their keys."""
    if donor_ids is None:
        return None
    needed = int(foreign.sum())
    if needed > len(donor_ids):
        raise InputError(
            f"{needed:,} images are to be replaced, {len(donor_ids):,} donors are there; "
            "lower the rate or choose a larger --donor"
        )
    rows = np.flatnonzero(foreign)
    rows = rows[np.argsort(noise_keys(seed, "foreign", [ids[row] for row in rows.tolist()]), kind="stable")]
    donors = np.argsort(noise_keys(seed, "donors", donor_ids), kind="stable")[:needed]
    donor_rows = np.full(len(foreign), -1)
    donor_rows[rows] = donors
    return donor_rows
