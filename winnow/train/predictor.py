"""A trained model as two files, `model.safetensors` and `model.json`: enough to predict, whatever method made it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from winnow.data.collection import Quarantined
from winnow.data.collection import load as load_collection
from winnow.data.folder import printable
from winnow.data.source import Source
from winnow.data.views import Preprocessing, Views
from winnow.errors import InputError
from winnow.files import atomic_write
from winnow.methods.base import Method, Problem
from winnow.models import ModelSpec, Network
from winnow.survey.passes import survey
from winnow.train.device import Device
from winnow.train.run_folder import RunFolder

SCHEMA_VERSION = 1
_WEIGHTS, _CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Predictions:
    """What a model says of a source.

    Attributes:
        rows: positions in the source of the images that could be read, (n,).
        probs: class probabilities, float32 (n, K).
        quarantined: the images that could not be read.
    """

    rows: np.ndarray
    probs: np.ndarray
    quarantined: list[Quarantined]

    def agreement(self, source: Source, class_names: tuple[str, ...]) -> float | None:
        """Share of labelled images whose predicted class is their label; None without labels or with other classes."""
        labels = source.noisy_labels[self.rows]
        known = labels >= 0
        if source.class_names != class_names or not known.any():
            return None
        return float((self.probs.argmax(axis=1) == labels)[known].mean())


@dataclass(frozen=True)
class Predictor:
    """Networks whose mean probabilities are the prediction.

    Attributes:
        networks: all of one architecture.
        preprocessing: how they want their images.
        class_names: in index order.
    """

    networks: list[Network]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]

    @classmethod
    def load(cls, run: Path) -> Predictor:
        """The model of a run.

        Raises:
            InputError: the run is not finished, damaged, or of a newer version.
        """
        try:
            card = json.loads((run / _CARD).read_text())
            if card["schema_version"] != SCHEMA_VERSION:
                raise InputError(
                    f"{run / _CARD}: written by another version of winnow (schema {card['schema_version']})"
                )
            data = (run / _WEIGHTS).read_bytes()
            if sha256(data).hexdigest() != card["weights_sha256"]:
                raise InputError(f"{run / _WEIGHTS}: checksum differs, the file is damaged")
            weights = load(data)
            stored = card["preprocessing"]
            preprocessing = Preprocessing(**stored | {key: tuple(stored[key]) for key in ("mean", "std")})
            spec = ModelSpec(card["model"], preprocessing.size, preprocessing.channels, len(card["class_names"]))
            networks = []
            for number in range(card["networks"]):
                network = spec.build(0, "load")
                prefix = f"{number}."
                network.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items() if k.startswith(prefix)})
                networks.append(network.eval())
        except FileNotFoundError as error:
            raise InputError(f"{run}: no finished run there ({error.filename} is missing)") from error
        except (ValueError, KeyError, TypeError, RuntimeError, SafetensorError, OSError) as error:
            raise InputError(f"{run}: the model cannot be read: {str(error).splitlines()[0]}") from error
        return cls(networks, preprocessing, tuple(card["class_names"]))

    @torch.no_grad()
    def probs(self, images: Tensor) -> Tensor:
        """Class probabilities (B, K) of normalised images (B, C, H, W)."""
        return torch.stack([network(images).softmax(dim=1) for network in self.networks]).mean(dim=0)

    def predict(self, source: Source, device: Device) -> Predictions:
        """Class probabilities of every readable image of a source."""
        torch.set_num_threads(device.threads)
        collection = load_collection(source, size=self.preprocessing.size)
        images = with_channels(collection.images, self.preprocessing.channels)
        views = Views(torch.from_numpy(images).to(device.torch_device), self.preprocessing, seed=0)
        networks = torch.nn.ModuleList(self.networks).to(device.torch_device).to(memory_format=torch.channels_last)
        found = survey(lambda batch: {"probs": self.probs(batch)}, networks, views, len(images), device.autocast)
        return Predictions(collection.rows, found.probs, collection.quarantined)


def save_predictor(
    folder: RunFolder, method: Method, problem: Problem, preprocessing: Preprocessing, source: Source
) -> None:
    """Writes both files of a trained method."""
    networks = method.deployed()
    tensors = {
        f"{number}.{name}": value.detach().cpu().contiguous().clone()
        for number, network in enumerate(networks)
        for name, value in network.state_dict().items()
    }
    content = save(tensors)
    card = {
        "schema_version": SCHEMA_VERSION,
        "method": getattr(method, "name", type(method).__name__),
        "model": problem.model.name,
        "networks": len(networks),
        "class_names": list(source.class_names),
        "preprocessing": asdict(preprocessing),
        "decoder": "pillow",
        "weights_sha256": sha256(content).hexdigest(),
        "data": source.address,
    }
    atomic_write(folder.path / _WEIGHTS, content)
    folder.write_json(_CARD, card)


def with_channels(images: np.ndarray, channels: int) -> np.ndarray:
    """uint8 images (n, h, w, c) with the wanted number of channels: grey from luma, colour by repetition."""
    if images.shape[3] == channels:
        return images
    if channels == 3:
        return np.repeat(images, 3, axis=3)
    luma = images.astype(np.float32) @ np.array([0.299, 0.587, 0.114], dtype=np.float32)
    return np.rint(luma).astype(np.uint8)[..., None]


def write_predictions(path: Path, source: Source, found: Predictions, class_names: tuple[str, ...]) -> None:
    """One row an image, in source order: id, predicted class, all probabilities, or why there are none."""
    num = len(source)
    best = np.full(num, -1, dtype=np.int64)
    best[found.rows] = found.probs.argmax(axis=1)
    probability = np.full(num, np.nan, dtype=np.float32)
    probability[found.rows] = found.probs.max(axis=1)
    reasons: list[str | None] = [None] * num
    for item in found.quarantined:
        reasons[item.row] = f"{item.code}: {item.reason}"
    missing = best < 0
    columns: dict[str, pa.Array] = {
        "id": pa.array([printable(name) for name in source.ids], pa.string()),
        "predicted_label": pa.array(best, mask=missing),
        "predicted_class": pa.array([None if k < 0 else class_names[k] for k in best], pa.string()),
        "probability": pa.array(probability, mask=missing),
        "unreadable": pa.array(reasons, pa.string()),
    }
    if path.suffix == ".csv":
        # Spreadsheets run cells that begin like a formula; names are told apart by the Parquet file, which is exact.
        for name in ("id", "predicted_class", "unreadable"):
            texts = columns[name].to_pylist()
            columns[name] = pa.array([None if t is None else _spreadsheet_safe(t) for t in texts], pa.string())
        table = pa.table(columns)
        atomic_write(path, lambda file: pc.write_csv(table, file))
        return
    dense = np.full((num, len(class_names)), np.nan, dtype=np.float32)
    dense[found.rows] = found.probs
    flat = pa.array(dense.reshape(-1))
    columns["probabilities"] = pa.FixedSizeListArray.from_arrays(flat, len(class_names))
    metadata = {"class_names": json.dumps(list(class_names)), "winnow_schema_version": str(SCHEMA_VERSION)}
    table = pa.table(columns).replace_schema_metadata(metadata)
    atomic_write(path, lambda file: pq.write_table(table, file, compression="zstd"))


def _spreadsheet_safe(text: str) -> str:
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text
