"""A source with its noise, in memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from winnow.data.source import Source
from winnow.labels.truth import CleanLabels
from winnow.noise.channel import LabelNoise


def noisy_source(source: Source, noise: LabelNoise) -> Source:
    """A source with noisy labels, and images where some were replaced; its own labels are the truth."""
    return replace(
        source,
        noisy_labels=noise.noisy_labels,
        clean_labels=CleanLabels(true_labels(source, noise)),
        pictures=noise.pictures or source.pictures,
    )


def true_labels(source: Source, noise: LabelNoise) -> np.ndarray:
    """The labels before the noise, (N,); a foreign image has none (-1), as it is of none of the classes."""
    return source.noisy_labels if noise.foreign is None else np.where(noise.foreign, -1, source.noisy_labels)
