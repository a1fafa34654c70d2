"""Starting weights from a local file: tensors only, never code."""

from __future__ import annotations

import json
import pickle
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import BytesIO
from pathlib import Path
from typing import Any, TypeGuard

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_safetensors
from torch import Tensor

from winnow.errors import InputError, UsageError
from winnow.models.network import Network, Normalisation

_PICKLED = (".pt", ".pth", ".bin")
_CONTAINERS = ("state_dict", "model_state_dict", "model")
_PREFIXES = ("module.", "_orig_mod.", "model.", "backbone.", "0.")
"""What training code puts in front of every name; `0.` is the first network of a run of ours."""
_HEAD = "head."


@dataclass(frozen=True)
class Match:
    """What of a file fits a network.

    Attributes:
        tensors: by the network's names, in its shapes.
        missing: the network's learnt tensors, head aside, for which there is none.
        unused: the file's names that have no place, head aside.
        head: whether the head is filled too.
        summed: whether a first layer over three colours was summed for grey images.
    """

    tensors: Mapping[str, Tensor]
    missing: tuple[str, ...]
    unused: tuple[str, ...]
    head: bool
    summed: bool

    def __str__(self) -> str:
        parts = [f"{len(self.tensors)} tensors used"]
        if self.unused:
            parts.append(f"{len(self.unused)} without a place ({_few(self.unused)})")
        if self.summed:
            parts.append("first layer summed over colours")
        parts.append("head taken over" if self.head else "head fresh")
        return "; ".join(parts)


@dataclass(frozen=True)
class Weights:
    """Weights to start from.

    Attributes:
        path: the file.
        tensors: by the names in the file.
        digest: SHA-256 of the file.
        normalisation: how they want their images, where a file beside them says it.
        size: image side in pixels at which they were trained, where a file beside them says it.
        class_names: of their head, where a file beside them says it.
        with_head: whether their head may be used.
    """

    path: Path
    tensors: Mapping[str, Tensor] = field(repr=False)
    digest: str
    normalisation: Normalisation | None = None
    size: int | None = None
    class_names: tuple[str, ...] | None = None
    with_head: bool = True

    @classmethod
    def read(cls, path: Path) -> Weights:
        """The weights of a file: .safetensors, or .pt, .pth, .bin of tensors alone; of a folder its model.safetensors.

        Raises:
            UsageError: the name has another ending.
            InputError: the file is not there, damaged, or holds code.
        """
        path = path / "model.safetensors" if path.is_dir() else path
        if path.suffix not in (".safetensors", *_PICKLED):
            raise UsageError(f"--weights {path}: must end in .safetensors, {', '.join(_PICKLED)}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise InputError(f"--weights {path}: cannot be read: {error.strerror}") from error
        tensors = _safe_tensors(path, content) if path.suffix == ".safetensors" else _pickled_tensors(path, content)
        tensors = {name: tensor for name, tensor in tensors.items() if _is_plain(tensor)}
        if not tensors:
            raise InputError(f"--weights {path}: holds no named tensors")
        return cls(path, tensors, sha256(content).hexdigest(), **_described(path))

    def of_classes(self, class_names: tuple[str, ...]) -> Weights:
        """These weights for a collection; the head stays aside if it is known to be for other classes."""
        return replace(self, with_head=self.class_names in (None, class_names))

    def match(self, network: Network) -> Match:
        """What of the file fits a network; names are read in the way that fits most.

        Raises:
            InputError: nothing fits, or a tensor outside the head has another shape or numbers that are not finite.
        """
        own = network.state_dict()
        readings = [{_own(network, own, key): t for key, t in reading.items()} for reading in _readings(self.tensors)]
        best = max(readings, key=lambda reading: len(reading.keys() & own.keys()))
        named = {key: t for key, t in best.items() if key in own}
        body = {key: t for key, t in named.items() if not key.startswith(_HEAD)}
        if not body:
            raise InputError(
                f"--weights {self.path}: no tensor fits the network: the file has {_few(self.tensors)}, "
                f"the network {_few(own)}"
            )
        summed = {key: t.sum(dim=1, keepdim=True) for key, t in body.items() if _is_over_colours(t, own[key])}
        body |= summed
        if other := [key for key, t in body.items() if t.shape != own[key].shape]:
            shapes = ", ".join(f"{key} {_shape(body[key])}, not {_shape(own[key])}" for key in other[:3])
            raise InputError(
                f"--weights {self.path}: {len(other)} tensors have another shape than the network's: {shapes}; "
                "is --model (and --image-size) that of the weights?"
            )
        head = {key: value for key, value in own.items() if key.startswith(_HEAD)}
        with_head = self.with_head and all(key in named and named[key].shape == head[key].shape for key in head)
        used = body | ({key: named[key] for key in head} if with_head else {})
        if broken := [key for key, t in used.items() if not t.isfinite().all()]:
            raise InputError(f"--weights {self.path}: numbers that are not finite in {_few(broken)}")
        learnt = {key for key, _ in network.named_parameters() if not key.startswith(_HEAD)}
        unused = [key for key in best if key not in own and not key.startswith(_HEAD)]
        return Match(used, tuple(sorted(learnt - body.keys())), tuple(unused), with_head, bool(summed))

    def put_into(self, network: Network) -> None:
        """Fills a network with what fits it, see `match`."""
        network.load_state_dict(dict(self.match(network).tensors), strict=False)


def _safe_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        return load_safetensors(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"--weights {path}: not a safetensors file: {str(error).splitlines()[0]}") from error


def _pickled_tensors(path: Path, content: bytes) -> dict[str, Tensor]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of old and odd formats; what comes of them is looked at below
            found: Any = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"--weights {path}: holds more than tensors, which could run code, or is damaged: refused; "
            "save its state_dict() as .safetensors"
        ) from error
    except Exception as error:  # a damaged file makes torch raise almost anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"--weights {path}: not a file of torch.save: {reason}") from error
    while isinstance(found, Mapping):
        inner = next((found[key] for key in _CONTAINERS if isinstance(found.get(key), Mapping)), None)
        if inner is None:
            return {str(key): value.detach() for key, value in found.items() if isinstance(value, Tensor)}
        found = inner
    return {}


def _described(path: Path) -> dict[str, Any]:
    """What the run record or the hub's config.json beside the weights says of them; nothing if there is none."""
    card = _json(path.with_name("model.json"))
    if isinstance(card.get("preprocessing"), dict):
        stored, names = card["preprocessing"], card.get("class_names")
        named = {"class_names": tuple(map(str, names))} if isinstance(names, list) else {}
        return {**_wishes(stored, stored.get("size")), **named}
    stored = _json(path.with_name("config.json")).get("pretrained_cfg")
    if not isinstance(stored, dict):
        return {}
    shape = stored.get("input_size")
    return _wishes(stored, shape[-1] if isinstance(shape, list) and shape else None)


def _wishes(stored: dict[str, Any], size: Any) -> dict[str, Any]:
    found: dict[str, Any] = {"size": size} if isinstance(size, int) else {}
    mean, std = stored.get("mean"), stored.get("std")
    if _are_numbers(mean) and _are_numbers(std) and len(mean) == len(std) and min(std) > 0:
        found["normalisation"] = Normalisation(tuple(map(float, mean)), tuple(map(float, std)))
    return found


def _are_numbers(values: Any) -> TypeGuard[list[float]]:
    return isinstance(values, list) and bool(values) and all(isinstance(v, (int, float)) for v in values)


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _is_plain(tensor: Tensor) -> bool:
    """Whether it holds ordinary numbers, one by one, in memory."""
    ordinary = tensor.layout is torch.strided and tensor.device.type == "cpu"
    return ordinary and not tensor.is_complex() and not tensor.is_quantized


def _readings(tensors: Mapping[str, Tensor], prefixes: int = 3) -> Iterator[Mapping[str, Tensor]]:
    """The tensors as named, then those behind each known prefix without it, up to so many prefixes."""
    yield tensors
    for prefix in _PREFIXES if prefixes else ():
        inner = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if inner:
            yield from _readings(inner, prefixes - 1)


def _own(network: Network, own: Mapping[str, Tensor], name: str) -> str:
    return name if name in own else network.own_name(name)


def _is_over_colours(found: Tensor, wanted: Tensor) -> bool:
    """Whether a convolution over three colours could take grey instead: its sum is what it does to grey colours."""
    if found.ndim != 4 or wanted.ndim != 4 or (found.shape[1], wanted.shape[1]) != (3, 1):
        return False
    return found.shape[0] == wanted.shape[0] and found.shape[2:] == wanted.shape[2:]


def _shape(tensor: Tensor) -> str:
    return "x".join(map(str, tensor.shape)) or "a number"


def _few(names: Mapping[str, Any] | tuple[str, ...] | list[str]) -> str:
    # The names are the file's: they may hold anything, and the line is to stay one.
    shown = [name.encode("unicode_escape", "backslashreplace").decode()[:60] for name in list(names)[:3]]
    return ", ".join(shown) + (", ..." if len(names) > 3 else "")
