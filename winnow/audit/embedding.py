"""Numbers in place of pictures: the embedding in which neighbours, outliers and wrong labels are looked for."""

from __future__ import annotations

import math
import shutil
import tempfile
from collections.abc import Callable
from hashlib import blake2b
from pathlib import Path

import numpy as np

from winnow import __version__
from winnow.audit.embedded import Embedding, content_key, keep, kept
from winnow.audit.seen import from_run, from_weights
from winnow.audit.training import Plan, planned, trained
from winnow.audit.untrained import SIDE, neighbour_agreement, untrained
from winnow.data.collection import Collection
from winnow.data.source import Source, without_label
from winnow.errors import Interrupted, UsageError
from winnow.files import write_error
from winnow.models.weights import Weights
from winnow.train.device import Device
from winnow.train.progress import Progress

__all__ = ["Embedding", "embed", "from_run"]

FEW_LABELS = 100
"""Below, a network has too little to learn from."""
FEW_IMAGES = 5000
"""Up to here features without a network are tried before anything is trained."""
CLEAR = 0.5
"""Share of the labels that neighbours must agree with there for these to be enough."""


def embed(
    source: Source,
    collection: Collection,
    *,
    weights: Path | None = None,
    model: str | None = None,
    budget_minutes: float = 5.0,
    seed: int = 0,
    device: str = "auto",
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Embedding:
    """Features of the readable pictures of a source, and what a network trained for them says of the labels.

    - With `weights`: the features of that network, in one pass.
    - Of tiny pictures (16 px or less), with fewer than 100 labels, all of one class, or without a budget: edges and
      thumbnails, see `winnow.audit.untrained`.
    - Of up to 5,000 pictures: these, where a picture's neighbours agree with its label in half of the cases.
    - Else those of a network that is trained here, see `winnow.audit.training`.

    Args:
        source: names and given labels; its truth is not looked at.
        collection: its readable pictures.
        weights: a local file, see `winnow.models.weights`; nothing is ever fetched.
        model: what the weights are for; may be left out for those of a run.
        budget_minutes: of training, at a fixed assumed speed: a slower machine takes longer and finds the same.
        seed: of every random decision.
        device: see `Device.choose`.
        cache: folder that keeps embeddings by content, and trainings that were stopped; made if it is not there.
        progress: hears of the work.

    Returns:
        n rows in the collection's order: the same for the same pictures, labels and settings.

    Raises:
        UsageError: the budget is negative or not a number, or a model is named without weights.
        InputError, MachineError: the weights or the cache cannot be used.
        Interrupted: a signal stopped the training; with a cache, the same call goes on.
    """
    if not (budget_minutes >= 0 and math.isfinite(budget_minutes)):
        raise UsageError(f"--budget must be 0 minutes or more, got {budget_minutes}")
    if model is not None and weights is None:
        raise UsageError(f"--model {model} needs --weights: without them a network of our own is trained")
    progress = progress or Progress()
    chosen = Device.choose(device)
    if weights is not None:
        given = Weights.read(weights)
        how = {"weights": given.digest, "model": model}

        def make(folder: Path) -> Embedding:
            return from_weights(source, collection, given, model, seed=seed, device=chosen, progress=progress)
    else:
        plan = planned(source, collection, budget_minutes, chosen)
        small = _untrained_if_enough(source, collection, plan)
        if small is not None:
            progress.understood("Features", small.description)
            return small
        progress.understood("Features", f"{plan}; some {plan.minutes:g} minutes")
        how = {"plan": str(plan)}

        def make(folder: Path) -> Embedding:
            return trained(source, collection, plan, folder, seed=seed, device=chosen, progress=progress)

    verified = None if source.verified is None else source.verified[collection.rows]
    settings = {
        **how,
        "version": __version__,
        "seed": seed,
        "device": str(chosen),
        "mirror": source.mirror,
        "verified": None if verified is None else blake2b(verified.tobytes(), digest_size=16).hexdigest(),
    }
    labels = source.noisy_labels[collection.rows]
    key = content_key(collection.pixels, labels, source.num_classes, settings)
    return _remembered(make, key, len(labels), cache, progress)


def _untrained_if_enough(source: Source, collection: Collection, plan: Plan) -> Embedding | None:
    """Edges and thumbnails where they are all that there can be, or are enough; None where a network should learn."""
    labels = source.noisy_labels[collection.rows]
    labelled = np.flatnonzero(~without_label(labels))
    num_pictures = len(labels)
    reason = None
    if collection.size <= SIDE:
        reason = "the images are no larger"
    elif len(labelled) < FEW_LABELS:
        reason = f"{len(labelled)} labels are too few to train on"
    elif plan.images < FEW_LABELS:
        reason = "the budget is too small for a training"
    elif labels.ndim == 1 and len(np.unique(labels[labelled])) == 1:
        reason = "all labels are of one class"
    elif num_pictures > FEW_IMAGES or labels.ndim == 2:
        return None
    features = untrained(collection.pixels)
    if reason is None:
        agreement = neighbour_agreement(features[labelled], labels[labelled])
        if agreement < CLEAR:
            return None
        reason = f"neighbours among them agree with {100 * agreement:.0f} % of the labels, so nothing was trained"
    side = min(SIDE, collection.size)
    return Embedding(features, None, None, f"edges, and thumbnails of {side} x {side} pixels: {reason}")


def _remembered(
    make: Callable[[Path], Embedding], key: str, num_pictures: int, cache: Path | None, progress: Progress
) -> Embedding:
    """What the cache keeps under a name; else what `make` makes, in a folder that is gone once it is made."""
    if cache is None:
        with tempfile.TemporaryDirectory(prefix="winnow-embedding-") as folder:
            try:
                return make(Path(folder))
            except Interrupted as error:
                raise Interrupted("Stopped while features were learnt; nothing is kept", _signal(error)) from None
    path, work = cache / f"embedding-{key}.npz", cache / f"training-{key}"
    found = kept(path, num_pictures)
    if found is not None:
        progress.understood("Note", f"features as of an earlier time, from {path}")
        return found
    try:
        work.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, work, 0) from error
    try:
        made = make(work)
    except Interrupted as error:
        raise Interrupted(
            f"Stopped while features were learnt; {work} has what was done: the same call goes on", _signal(error)
        ) from None
    keep(made, path)
    shutil.rmtree(work, ignore_errors=True)
    return made


def _signal(error: Interrupted) -> int:
    return error.exit_code - 128
