"""What a training remembers of each label, added to what is believed of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Float

from winnow.audit.latent_labels import Candidates, Posterior

_BINS = 20
_PRIOR_ROWS = 5.0
_INDEPENDENCE = 0.5
"""Power of the likelihood ratio: training and features see the same pictures, so their evidence overlaps."""


def with_memory(beliefs: Posterior, candidates: Candidates, memory: Float[np.ndarray, " n"]) -> Posterior:
    """The beliefs after hearing how sure a network was of each given label in the course of its training.

    How much is learnt from that is estimated: among labels believed right and labels believed wrong the memories of
    each range are counted, and their ratio moves the odds of a label in that range, upwards only for larger ones.

    Args:
        beliefs: of the images.
        candidates: of these.
        memory: mean probability of the given label over a training, NaN where there is none.
    """
    rows = np.flatnonzero(candidates.judged & np.isfinite(memory))
    if len(rows) < _BINS:
        return beliefs
    own = candidates.own[rows]
    right = beliefs.classes[rows, own]
    edges = np.quantile(memory[rows], np.arange(1, _BINS) / _BINS)
    bins = np.searchsorted(edges, memory[rows], side="right")
    counts = np.stack([np.bincount(bins, weights, _BINS) for weights in (right, 1 - right)])
    shares = (counts + _PRIOR_ROWS / _BINS) / (counts.sum(axis=1, keepdims=True) + _PRIOR_ROWS)
    from sklearn.isotonic import isotonic_regression  # takes a second to import

    weights = counts.sum(axis=0) + 1e-9
    ratio = isotonic_regression(np.log(shares[0] / shares[1]), sample_weight=weights)
    factor = np.exp(_INDEPENDENCE * ratio[bins])
    classes = beliefs.classes.copy()
    classes[rows, own] *= factor
    classes[rows] /= classes[rows].sum(axis=1, keepdims=True)
    rate = float(1 - classes[candidates.judged, candidates.own[candidates.judged]].mean())
    return replace(beliefs, classes=classes, noise_rate=rate)
