"""Sources by row: a part of one, or two as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from winnow.data.pictures import JoinedPictures, StoredPictures
from winnow.data.randomness import stream_key, text_keys
from winnow.data.source import UNLABELLED, Source
from winnow.errors import InputError
from winnow.labels.truth import CleanLabels


def limited_rows(ids: Sequence[str], limit: int) -> np.ndarray:
    """A random subset of rows, in order: a function of the images' names alone, never of a run's seed."""
    keys = text_keys(stream_key(0, "limit"), list(ids))
    return np.sort(np.argsort(keys, kind="stable")[:limit])


def subset(source: Source, rows: np.ndarray) -> Source:
    """Some rows of a source, in the order given."""
    pictures = cast(StoredPictures, source.pictures)
    others = source.other_labels

    def other_labels() -> Mapping[str, np.ndarray]:
        return {name: labels[rows] for name, labels in others().items()} if others else {}

    return replace(
        source,
        ids=[source.ids[row] for row in rows],
        noisy_labels=source.noisy_labels[rows],
        pictures=pictures.take(rows),
        clean_labels=source.clean_labels.take(rows) if source.clean_labels is not None else None,
        verified=source.verified[rows] if source.verified is not None else None,
        other_labels=other_labels if others else None,
        opened=None,
    )


def of_classes(source: Source, class_names: Sequence[str]) -> Source:
    """The images that carry a label of some classes, which are then all that there are, in the order given.

    Raises:
        InputError: the source has no such class, or its images may have several.
    """
    if source.is_multilabel:
        raise InputError(f"{source.address}: classes cannot be chosen where an image may have several")
    if missing := [name for name in class_names if name not in source.class_names]:
        raise InputError(f"{source.address}: no class is called {missing[0]!r} ({', '.join(source.class_names)})")
    old = np.array([source.class_names.index(name) for name in class_names])
    part = subset(source, np.flatnonzero(np.isin(source.noisy_labels, old)))
    new = np.zeros(source.num_classes, dtype=np.int64)
    new[old] = np.arange(len(old))
    return replace(
        part,
        class_names=tuple(class_names),
        noisy_labels=new[part.noisy_labels],
        clean_labels=part.clean_labels.among(old) if part.clean_labels is not None else None,
        other_labels=None,
    )


def as_classes(source: Source, class_names: Sequence[str]) -> Source:
    """The same images with the classes of another source: labels keep their names and take those places.

    Args:
        source: may lack some of the classes, or have them in another order.
        class_names: the classes to be, in index order.

    Raises:
        InputError: an image carries a label that is not among them, or may have several labels.
    """
    if tuple(class_names) == source.class_names:
        return source
    if source.is_multilabel:
        raise InputError(f"{source.address}: its classes ({_few(source.class_names)}) are not {_few(class_names)}")
    places = {name: place for place, name in enumerate(class_names)}
    new = np.array([places.get(name, UNLABELLED) for name in source.class_names], dtype=np.int64)
    named = np.bincount(source.noisy_labels[source.noisy_labels >= 0], minlength=source.num_classes) > 0
    unknown = [name for name, used, place in zip(source.class_names, named, new, strict=True) if used and place < 0]
    if unknown:
        raise InputError(
            f"{source.address}: {len(unknown)} of its classes are unknown here: {', '.join(map(repr, unknown[:10]))}; "
            f"known are {_few(class_names)}"
        )

    def renumbered(labels: np.ndarray) -> np.ndarray:
        return np.where(labels >= 0, new[labels.clip(0)], labels)

    others, test = source.other_labels, source.test
    return replace(
        source,
        class_names=tuple(class_names),
        noisy_labels=renumbered(source.noisy_labels),
        clean_labels=source.clean_labels.renumbered(new) if source.clean_labels is not None else None,
        other_labels=(lambda: {name: renumbered(labels) for name, labels in others().items()}) if others else None,
        test=(lambda: as_classes(test(), class_names)) if test else None,
        opened=None,
    )


def with_unlabelled(source: Source, more: Source) -> Source:
    """A source followed by the images of another one, whose labels are not taken over.

    Args:
        source: gives classes, labels and everything else.
        more: its ids are kept where they are new, else `unlabelled/` stands before each.
    """
    no_labels = np.full((len(more), *source.noisy_labels.shape[1:]), -1, source.noisy_labels.dtype)
    more = replace(more, noisy_labels=no_labels, clean_labels=None, verified=None)
    note = f"{len(more):,} images of {more.address} are taken as unlabelled."
    joined = followed_by(source, more, "unlabelled/")
    return replace(joined, notes=(*source.notes, note))


def followed_by(source: Source, more: Source, prefix: str) -> Source:
    """A source and another one with the same classes, as one.

    Args:
        source: gives classes and everything else.
        more: its labels are of the same form.
        prefix: stands before each of its ids if one of them is among the source's.
    """
    first, second = (cast(StoredPictures, each.pictures) for each in (source, more))
    counts = len(source), len(more)
    clash = not set(source.ids).isdisjoint(more.ids)
    verified = None
    if source.verified is not None or more.verified is not None:
        parts = (source, more)
        verified = np.concatenate([np.zeros(len(p), bool) if p.verified is None else p.verified for p in parts])
    clean = None
    if source.clean_labels is not None or more.clean_labels is not None:
        unknown = CleanLabels(np.full(source.noisy_labels.shape, -1))
        clean = (source.clean_labels or unknown).followed_by(
            more.clean_labels or CleanLabels(np.full(more.noisy_labels.shape, -1))
        )
    return replace(
        source,
        ids=[*source.ids, *(f"{prefix}{name}" if clash else name for name in more.ids)],
        noisy_labels=np.concatenate([source.noisy_labels, more.noisy_labels]),
        pictures=JoinedPictures(
            (first, second), np.repeat([0, 1], counts), np.concatenate([np.arange(count) for count in counts])
        ),
        clean_labels=clean,
        verified=verified,
        grey=source.grey and more.grey,
        other_labels=None,
        opened=None,
    )


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
