"""Noise by the name a person types."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from difflib import get_close_matches
from typing import TypedDict

import numpy as np

from winnow.data.rows import subset
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.noise import maps
from winnow.noise.ambiguity import ambiguity
from winnow.noise.annotators import annotators as panel
from winnow.noise.boundary import boundary
from winnow.noise.channel import LabelNoise, check_request
from winnow.noise.cluster import cluster
from winnow.noise.donors import MADE, donor_rows, with_donors, with_made_donors
from winnow.noise.features import DESCRIPTION, confusable_map, out_of_fold_probabilities, thumbnail_features
from winnow.noise.hierarchy import block5, sibling_map, superclass
from winnow.noise.inject import asymmetric, pair, permutation, symmetric, tridiagonal
from winnow.noise.instance import instance
from winnow.noise.maps import CONFUSABLE
from winnow.noise.open_set import open_set, web
from winnow.noise.taxonomy import DRAWS, KINDS

__all__ = ["KINDS", "make_noise"]

_LINEAR_MODEL = "out of fold, of a linear model on thumbnails"


class Drawn(TypedDict):
    """How labels are drawn, as all class-conditional generators are told."""

    seed: int
    draw: str


def make_noise(
    source: Source,
    kind: str,
    rate: float,
    *,
    class_map: str | None = None,
    inclusive: bool = False,
    donor: Source | str | None = None,
    foreign_rate: float | None = None,
    annotators: int | None = None,
    calibrate: bool = False,
    temperature: float | None = None,
    draw: str | None = None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> LabelNoise:
    """Noise on the labels of a source.

    Args:
        source: its labels are taken for the truth.
        kind: one of `KINDS`.
        rate: in [0, 1]; see the generators for what it is a share of.
        class_map: for `asymmetric` the name of a known map, `confusable`, or pairs like `truck:automobile,cat:dog`; for
            `permutation` the name of a known one, or all targets in order like `1,2,0`; for `ambiguity` pairs; for
            `superclass` and `web` groups like `cat|dog,car|truck`.
        inclusive: for `symmetric`, whether the new label may be the old one.
        donor: for `open-set` and `web`, where foreign images come from: a source, or `uniform`, `gaussian` or
            `blurred`.
        foreign_rate: for `web`, the share of foreign images.
        annotators: for `annotators`, how many; 3 by default.
        calibrate: for `instance`, whether `rate` is to be the mean of the flip rates.
        temperature: for `instance`, see there.
        draw: `exact` or `expected`; by default the first that the kind knows.
        seed: of the randomness.
        progress: of reading the images, where the kind looks at them: done and total.

    Raises:
        UsageError: kind, rate or options are not possible.
        InputError: the labels are known to be wrong already, or images cannot be used.
    """
    if kind not in KINDS:
        near = get_close_matches(kind, KINDS, n=1)
        raise UsageError(f"no noise of the kind '{kind}'; {f'did you mean {near[0]}?' if near else ', '.join(KINDS)}")
    if source.is_multilabel:
        raise InputError(f"{source.address}: its images may have several labels; noise is made for one label an image")
    if source.clean_labels is not None and source.clean_labels.wrong(source.noisy_labels).any():
        truth = source.clean_label_column or "label"
        raise InputError(
            f"{source.address}: its labels are noisy already, with their truth in '{truth}'; "
            f"start from the truth: --label-column {truth}"
        )
    given = {
        "map": class_map is not None,
        "convention": inclusive,
        "donor": donor is not None,
        "foreign-rate": foreign_rate is not None,
        "annotators": annotators is not None,
        "calibrate": calibrate,
        "temperature": temperature is not None,
    }
    _refuse_foreign_options(kind, [name for name, is_given in given.items() if is_given], draw)
    labels, ids, classes = source.noisy_labels, source.ids, source.num_classes
    check_request(labels, ids, classes, rate)
    drawn: Drawn = {"seed": seed, "draw": draw or KINDS[kind].draws[0]}
    match kind:
        case "symmetric":
            return symmetric(labels, ids, classes, rate, inclusive=inclusive, **drawn)
        case "pair":
            return pair(labels, ids, classes, rate, **drawn)
        case "tridiagonal":
            return tridiagonal(labels, ids, classes, rate, **drawn)
        case "asymmetric" if class_map == CONFUSABLE:
            mapping = confusable_map(labels, _probabilities(source, progress))
            made = asymmetric(labels, ids, classes, rate, mapping, **drawn)
            return replace(made, convention=f"{made.convention}, target: most confused by a linear model on thumbnails")
        case "asymmetric":
            mapping = maps.own_map(source) if class_map is None else maps.class_map(source, class_map)
            return asymmetric(labels, ids, classes, rate, mapping, **drawn)
        case "permutation":
            return permutation(labels, ids, classes, rate, targets=maps.targets(source, class_map), **drawn)
        case "superclass":
            return superclass(labels, ids, classes, rate, maps.class_groups(source, class_map, kind), **drawn)
        case "block5":
            return block5(labels, ids, classes, rate, **drawn)
        case "ambiguity":
            if class_map is None:
                raise UsageError("ambiguity needs --map: 'cat:dog' puts images of cat under the name dog")
            return ambiguity(labels, ids, classes, rate, maps.class_map(source, class_map), **drawn)
        case "annotators":
            return panel(labels, ids, classes, rate, count=3 if annotators is None else annotators, **drawn)
        case "instance":
            features = thumbnail_features(source, progress=progress)
            return instance(
                labels,
                ids,
                classes,
                rate,
                features,
                seed=seed,
                calibrate=calibrate,
                temperature=temperature,
                described=DESCRIPTION,
            )
        case "boundary":
            probabilities = _probabilities(source, progress)
            return boundary(labels, ids, classes, rate, probabilities, described=_LINEAR_MODEL, **drawn)
        case "cluster":
            features = thumbnail_features(source, progress=progress)
            return cluster(labels, ids, classes, rate, features, seed=seed, described=DESCRIPTION)
        case "open-set":
            donors = _donors(source, donor, kind)
            ids_of, described = _named(donors)
            made = open_set(labels, ids, classes, rate, donor_ids=ids_of, described=described, **drawn)
        case _:
            if foreign_rate is None:
                raise UsageError("web noise needs --foreign-rate, the share of foreign images, beside --rate")
            mapping = sibling_map(maps.class_groups(source, class_map, kind), classes)
            donors = _donors(source, donor, kind)
            ids_of, described = _named(donors)
            made = web(
                labels,
                ids,
                classes,
                rate,
                mapping,
                foreign_rate=foreign_rate,
                donor_ids=ids_of,
                described=described,
                **drawn,
            )
    return with_made_donors(made, source, donors) if isinstance(donors, str) else with_donors(made, source, donors)


def _refuse_foreign_options(kind: str, given: list[str], draw: str | None) -> None:
    for name in given:
        if name not in KINDS[kind].options:
            owners = [other for other, each in KINDS.items() if name in each.options]
            listed = f"{', '.join(owners[:-1])} and {owners[-1]}" if len(owners) > 1 else owners[0]
            raise UsageError(f"--{name} belongs to {listed} noise, not to {kind}")
    if draw in DRAWS and draw not in KINDS[kind].draws:
        raise UsageError(f"{kind} noise is always {KINDS[kind].draws[0]}; leave --draw {draw} away")


def _probabilities(source: Source, progress: Callable[[int, int], None] | None) -> np.ndarray:
    features = thumbnail_features(source, progress=progress)
    return out_of_fold_probabilities(features, source.noisy_labels, source.ids, source.num_classes)


def _donors(source: Source, donor: Source | str | None, kind: str) -> Source | str:
    """What stands in: a kind of made images, or a source of images that may be used."""
    if donor is None or (isinstance(donor, str) and donor not in MADE):
        raise UsageError(f"{kind} noise needs --donor: where foreign images come from, DATA or {', '.join(MADE)}")
    return donor if isinstance(donor, str) else subset(donor, donor_rows(donor, source.class_names))


def _named(donors: Source | str) -> tuple[Sequence[str] | None, str]:
    """Names of the donors, None if they are made, and what they are."""
    return (None, MADE[donors]) if isinstance(donors, str) else (donors.ids, f"images of {donors.address}")
