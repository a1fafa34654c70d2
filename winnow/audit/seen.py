"""Features and class probabilities of pictures from networks that are there already: weights in a file, or a run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch
from jaxtyping import Float
from torch import Tensor, nn

from winnow.audit.embedded import Embedding
from winnow.data.collection import Collection, parts
from winnow.data.pixels import Pixels
from winnow.data.source import Source
from winnow.data.views import Preprocessing
from winnow.errors import InputError, UsageError
from winnow.functional.task import Task, task_of
from winnow.models import ModelSpec, Network, network_class
from winnow.models.weights import Weights
from winnow.survey.passes import survey
from winnow.train.device import Device
from winnow.train.examples import Examples, views_of
from winnow.train.predictor import Predictor
from winnow.train.progress import Progress
from winnow.train.starting import normalised, tell_weights

Seen = tuple[Float[np.ndarray, "n dim"], Float[np.ndarray, "n classes"]]


def seen(
    networks: Sequence[Network],
    task: Task,
    preprocessing: Preprocessing,
    pictures: Iterable[Pixels],
    total: int,
    device: Device,
    progress: Progress,
) -> Seen:
    """One pass of networks over pictures: features side by side, each network's of length 1, and mean probabilities.

    Where a mirrored picture keeps its class, both views count half.

    Args:
        networks: of one task.
        task: what their logits mean.
        preprocessing: how they want their images.
        pictures: all pictures in order, in parts, of the size that the networks want.
        total: number of pictures.
        device: where and how exactly.
        progress: hears of the pass.
    """
    torch.set_num_threads(device.threads)
    together = nn.ModuleList(networks).to(device.torch_device).to(memory_format=torch.channels_last)
    done = 0

    def observe(images: Tensor) -> dict[str, Tensor]:
        nonlocal done
        views = [images, images.flip(3)] if preprocessing.mirror else [images]
        features, probs = [], []
        for network in networks:
            of_views = [network.features(view) for view in views]
            mean = torch.stack(of_views).float().mean(dim=0)
            features.append(nn.functional.normalize(mean, dim=1))
            probs += [task.probabilities(network.head(each).float()) for each in of_views]
        done += len(images)
        progress.stage("features", done, total)
        return {"features": torch.cat(features, dim=1), "probs": torch.stack(probs).mean(dim=0)}

    found = [
        survey(observe, together, views_of(part, preprocessing, 0, device), len(part), device.autocast)
        for part in pictures
        if len(part)
    ]
    return np.concatenate([part.features for part in found]), np.concatenate([part.probs for part in found])


def from_weights(
    source: Source,
    collection: Collection,
    weights: Weights,
    model: str | None,
    *,
    seed: int,
    device: Device,
    progress: Progress,
) -> Embedding:
    """Features of a network whose weights lie in a local file, at the size that it was trained at.

    Args:
        source: the pictures, read again if they are wanted larger than the collection has them.
        collection: the readable ones.
        weights: of a body; a head is not used.
        model: see `winnow.models.network_class`; may be left out for weights of a run.
        seed: of what the file leaves at random.
        device: where and how exactly.
        progress: hears of the work.

    Raises:
        UsageError, InputError: they do not fit the model, or none is named and no run beside them says it.
    """
    name = model or _model_beside(weights.path)
    kind = network_class(name)
    size = kind.own_size or weights.size or kind.trained_size or collection.size
    mirror = Examples(source, collection).mirror
    preprocessing = normalised(Preprocessing.of(collection.pixels, mirror), weights, name, progress)
    preprocessing = replace(preprocessing, size=size)
    spec = ModelSpec(name, size, preprocessing.channels, source.num_classes, weights=weights)
    network = spec.build(seed, "embedding")
    tell_weights(weights, network, progress)
    pictures = pictures_of(source, collection, size, preprocessing.channels)
    features, _ = seen(
        [network], task_of(source.noisy_labels), preprocessing, pictures, len(collection.rows), device, progress
    )
    return Embedding(features, None, None, f"{name} with the weights of {weights.path.name}, images of {size} px")


def from_run(
    run: Path, source: Source, collection: Collection, *, device: str = "auto", progress: Progress | None = None
) -> Embedding:
    """What a finished run knows of the pictures that it was trained on: its network's features, and its memory.

    Its class probabilities are not among them: whatever it was trained by may have learnt these very labels by heart.

    Args:
        run: its folder.
        source: what it was trained on.
        collection: the readable pictures.
        device: see `Device.choose`.
        progress: hears of the pass.

    Raises:
        InputError: the run is not finished or is damaged, or it was trained on other pictures or labels.
    """
    progress = progress or Progress()
    predictor = Predictor.load(run)
    memory = _memory_of(run, source)
    wanted = predictor.preprocessing
    pictures = pictures_of(source, collection, wanted.size, wanted.channels)
    features, _ = seen(
        predictor.networks,
        predictor.task,
        wanted,
        pictures,
        len(collection.rows),
        Device.choose(device),
        progress,
    )
    networks = "network" if len(predictor.networks) == 1 else f"{len(predictor.networks)} networks"
    return Embedding(
        features,
        None,
        None if source.is_multilabel else memory[collection.rows],
        f"{networks} of the run {run.name}, images of {wanted.size} px",
    )


def pictures_of(source: Source, collection: Collection, size: int, channels: int) -> Iterator[Pixels]:
    """The collection's pictures at a size: itself where it has that size, else read again, part by part.

    Raises:
        InputError: others can be read than before.
    """
    if collection.pixels.shape[1:] == (size, size, channels):
        yield collection.pixels
        return
    rows = []
    for part in parts(source, size=size, channels=channels):
        rows.append(part.rows)
        yield part.pixels
    if not np.array_equal(np.concatenate(rows), collection.rows):
        raise InputError(f"{source.address}: it changed while it was read; start again")


def _memory_of(run: Path, source: Source) -> np.ndarray:
    """`label_quality` of a run by row of the source, NaN where it has none."""
    path = run / "labels.parquet"
    try:
        table = pq.read_table(path, columns=["id", "given_label", "label_quality"])
        names = json.loads(pq.read_schema(path).metadata[b"class_names"])
        ids, given = table["id"].to_pylist(), table["given_label"].to_pylist()
        quality = table["label_quality"].to_numpy().astype(np.float32)
    except (OSError, ValueError, KeyError, TypeError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: cannot be read: {reason}") from error
    if tuple(names) != tuple(source.class_names):
        raise InputError(f"{run}: trained on other classes than those of {source.address}")
    if ids != list(source.ids):
        raise InputError(f"{run}: trained on other images than those of {source.address}")
    if given != _given(source):
        raise InputError(f"{run}: trained on other labels than those of {source.address}")
    return quality


def _given(source: Source) -> list[int | None] | list[list[int] | None]:
    """The labels as labels.parquet writes them."""
    labels = source.noisy_labels
    if source.is_multilabel:
        return [np.flatnonzero(row == 1).tolist() if (row >= 0).any() else None for row in labels]
    return [label if label >= 0 else None for label in labels.tolist()]


def _model_beside(weights: Path) -> str:
    """The architecture that the record of a run beside its weights names."""
    try:
        return str(json.loads(weights.with_name("model.json").read_bytes())["model"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"--weights {weights}: name the network that they are for with --model") from error
