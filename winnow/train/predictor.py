"""A trained model as two files, `model.safetensors` and `model.json`: enough to predict, whatever method made it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from winnow.data.collection import parts
from winnow.data.decode import decoder
from winnow.data.source import Source
from winnow.data.views import Preprocessing, Views
from winnow.errors import InputError
from winnow.files import atomic_write
from winnow.functional.task import MultiLabel, SingleLabel, Task
from winnow.methods.base import Method, Problem
from winnow.models import ModelSpec, Network
from winnow.survey.passes import survey
from winnow.train.device import Device
from winnow.train.predictions import Predictions
from winnow.train.run_folder import RunFolder

SCHEMA_VERSION = 1
_WEIGHTS, _CARD = "model.safetensors", "model.json"


@dataclass(frozen=True)
class Predictor:
    """Networks whose mean probabilities are the prediction.

    Attributes:
        networks: all of one architecture.
        preprocessing: how they want their images.
        class_names: in index order.
        task: what the labels mean.
    """

    networks: list[Network]
    preprocessing: Preprocessing
    class_names: tuple[str, ...]
    task: Task

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
        task = MultiLabel() if card.get("task") == MultiLabel.name else SingleLabel()
        return cls(networks, preprocessing, tuple(card["class_names"]), task)

    @torch.no_grad()
    def probs(self, images: Tensor) -> Tensor:
        """Class probabilities (B, K) of normalised images (B, C, H, W)."""
        return torch.stack([self.task.probabilities(network(images)) for network in self.networks]).mean(dim=0)

    def _observe(self, images: Tensor) -> dict[str, Tensor]:
        return {"probs": self.probs(images)}

    def predict(self, source: Source, device: Device) -> Predictions:
        """Class probabilities of every readable image of a source."""
        torch.set_num_threads(device.threads)
        networks = torch.nn.ModuleList(self.networks).to(device.torch_device).to(memory_format=torch.channels_last)
        rows, probs, quarantined = [], [], []
        for part in parts(source, size=self.preprocessing.size, channels=self.preprocessing.channels):
            views = Views(torch.from_numpy(part.images).to(device.torch_device), self.preprocessing, seed=0)
            quarantined += part.quarantined
            if len(part.rows):
                rows.append(part.rows)
                probs.append(survey(self._observe, networks, views, len(part.rows), device.autocast).probs)
        return Predictions(np.concatenate(rows), np.concatenate(probs), quarantined, self.task)


def save_predictor(
    folder: RunFolder, method: Method, problem: Problem, preprocessing: Preprocessing, source: Source
) -> None:
    """Writes both files of a trained method."""
    networks = method.deployed()
    tensors = {
        f"{number}.{name}": value.detach().cpu().contiguous().clone()
        for number, network in enumerate(networks)
        for name, value in problem.model.complete_state(network).items()
    }
    content = save(tensors)
    card = {
        "schema_version": SCHEMA_VERSION,
        "task": problem.task.name,
        "method": getattr(method, "name", type(method).__name__),
        "model": problem.model.name,
        "networks": len(networks),
        "class_names": list(source.class_names),
        "preprocessing": asdict(preprocessing),
        "decoder": decoder(),
        "weights_sha256": sha256(content).hexdigest(),
        "data": source.address,
    }
    atomic_write(folder.path / _WEIGHTS, content)
    folder.write_json(_CARD, card)
