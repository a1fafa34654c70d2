"""Sources by row: a part of one, or two as one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np

from winnow.data.pictures import JoinedPictures, StoredPictures
from winnow.data.randomness import stream_key, text_keys
from winnow.data.source import Source


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
    )


def with_unlabelled(source: Source, more: Source) -> Source:
    """A source followed by the images of another one, whose labels are not taken over.

    Args:
        source: gives classes, labels and everything else.
        more: its ids are kept where they are new, else `unlabelled/` stands before each.
    """
    first, second = (cast(StoredPictures, each.pictures) for each in (source, more))
    counts = len(source), len(more)
    clash = not set(source.ids).isdisjoint(more.ids)
    no_labels = np.full((counts[1], *source.noisy_labels.shape[1:]), -1, source.noisy_labels.dtype)
    verified = source.verified
    clean = source.clean_labels
    return replace(
        source,
        ids=[*source.ids, *(f"unlabelled/{name}" if clash else name for name in more.ids)],
        noisy_labels=np.concatenate([source.noisy_labels, no_labels]),
        pictures=JoinedPictures(
            (first, second), np.repeat([0, 1], counts), np.concatenate([np.arange(count) for count in counts])
        ),
        clean_labels=clean.followed_by_unknown(counts[1]) if clean is not None else None,
        verified=np.concatenate([verified, np.zeros(counts[1], bool)]) if verified is not None else None,
        grey=source.grey and more.grey,
        notes=(*source.notes, f"{counts[1]:,} images of {more.address} are taken as unlabelled."),
        other_labels=None,
    )
