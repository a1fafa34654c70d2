"""New images against an earlier audit: judged together with its images, told alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np
from jaxtyping import Bool

from winnow.audit.cells import CellBeliefs
from winnow.audit.findings import Found, LabelBeliefs
from winnow.data.collection import Collection
from winnow.data.pixels import PixelsPart
from winnow.noise.intervals import Z

Beliefs = TypeVar("Beliefs", bound=LabelBeliefs | CellBeliefs)


def collection_since(collection: Collection, first: int) -> Collection:
    """The pictures of the source's rows from `first` on, which then count from 0."""
    kept = np.flatnonzero(collection.rows >= first)
    return replace(
        collection,
        pixels=PixelsPart(collection.pixels, kept),
        rows=collection.rows[kept] - first,
        quarantined=[replace(item, row=item.row - first) for item in collection.quarantined if item.row >= first],
    )


def beliefs_about(beliefs: Beliefs, kept: Bool[np.ndarray, " n"]) -> Beliefs:
    """Beliefs about some of the images; what is wrong among them is counted anew, the classes' habits stay.

    The noise rate is the mean probability of being wrong, its interval that of so many independent labels.

    Args:
        beliefs: about all.
        kept: which images.
    """
    place = np.cumsum(kept) - 1
    quality = beliefs.label_quality[kept]
    issue = beliefs.is_issue[kept]
    known = quality[~np.isnan(quality)]
    rate = float((1 - known).mean()) if len(known) else 0.0
    spread = Z * float(np.sqrt((known * (1 - known)).sum())) / max(1, len(known))
    return replace(
        beliefs,
        label_quality=quality,
        suggested_label=beliefs.suggested_label[kept],
        suggested_probability=beliefs.suggested_probability[kept],
        is_issue=issue,
        reasons={int(place[row]): text for row, text in beliefs.reasons.items() if kept[row]},
        noise_rate=rate,
        noise_rate_interval=(max(0.0, rate - spread), min(1.0, rate + spread)),
        precision=float((1 - quality[issue]).mean()) if issue.any() else float("nan"),
    )


def found_since(found: Found, first: int, ids: Sequence[str]) -> Found:
    """The findings on rows from `first` on; a copy among the earlier images is named in the reason.

    Args:
        found: rows in both collections, the earlier one first.
        first: number of the earlier images.
        ids: of the earlier images.
    """
    kept = np.flatnonzero(found.rows >= first)
    reasons = [found.reasons[place] for place in kept.tolist()]
    others = found.others
    if others is not None and found.kind != "test_leak":  # whose others are test images
        others = others[kept]
        earlier = (others >= 0) & (others < first)
        reasons = [
            f"{text} (with {ids[other]} of the earlier audit)" if is_earlier else text
            for text, other, is_earlier in zip(reasons, others.tolist(), earlier.tolist(), strict=True)
        ]
        others = np.where(earlier | (others < 0), -1, others - first)
    elif others is not None:
        others = others[kept]
    return replace(
        found,
        rows=found.rows[kept] - first,
        probability=found.probability[kept],
        reasons=reasons,
        others=others,
        similarity=None if found.similarity is None else found.similarity[kept],
    )
