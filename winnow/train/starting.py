"""What starting from given weights changes, and what a person is told of it."""

from __future__ import annotations

from dataclasses import replace

from winnow.data.views import Preprocessing
from winnow.models import Network, network_class
from winnow.models.weights import Weights
from winnow.train.progress import Progress


def normalised(
    preprocessing: Preprocessing, weights: Weights | None, model: str | None, progress: Progress
) -> Preprocessing:
    """The collection's own mean and spread, or those that the weights want.

    A file beside the weights is asked first, then what is published for the model of that name.
    """
    if weights is None:
        return preprocessing
    published = network_class(model) if model else Network
    size = weights.size or published.trained_size
    if size not in (None, preprocessing.size):
        progress.understood("Note", f"weights of {size} px on images of {preprocessing.size} px: see --image-size")
    wanted = weights.normalisation or published.normalisation
    if wanted is None:
        return preprocessing
    if len(wanted.mean) != preprocessing.channels:
        wanted = wanted.resized(preprocessing.channels)
    mean, std = (", ".join(f"{value:.3g}" for value in values) for values in wanted)
    progress.understood("Note", f"normalised as the weights want: mean {mean}; spread {std}")
    return replace(preprocessing, mean=wanted.mean, std=wanted.std)


def tell_weights(weights: Weights, network: Network, progress: Progress) -> None:
    """How much of the file a network has taken over."""
    match = weights.match(network)
    progress.understood("Weights", f"{weights.path.name}: {match}")
    if match.missing:
        names = ", ".join(match.missing[:3])
        progress.warning(f"the weights leave {len(match.missing)} tensors of the body at random: {names}")
