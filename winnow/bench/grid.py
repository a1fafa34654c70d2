"""A grid: data x noise x method x seed, from a TOML file or from flags, checked before anything runs."""

from __future__ import annotations

import inspect
import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np

from winnow.bench.cells import Cell, canonical, code_version, hashed
from winnow.bench.comparison import labelled
from winnow.bench.grid_cell import donor_of, with_noise
from winnow.bench.shared import OPENING, Data
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.labels.memory import Memory
from winnow.methods import build, find_method, hyperparameters, parsed_hyperparameters
from winnow.methods.base import Problem
from winnow.models import ModelSpec
from winnow.noise.kinds import KINDS, make_noise
from winnow.train.device import Device
from winnow.train.settings import SMALLEST_SIZE, Settings, check_needs, check_task

FUNCTION = "winnow.bench.grid_cell:run"
CONTROL = "cross-entropy"
_SHARED_OPTIONS = ("views", "mixup", "averaging", "window")
"""Options that make the control's training like the method's."""

_TOP = ("title", "about", "data", "noise", "method", "seeds", "train", "size", "published", "relation")
_DATA = ("data", "test", "test_label_column", *OPENING, "noise", "train")
_METHOD = ("name", "set")
_TRAIN = tuple(item.name for item in fields(Settings) if item.name not in ("method", "seed", "hyperparameters"))
_PUBLISHED = ("method", "data", "noise", "accuracy", "source", "differs")
_RELATION = ("claim", "better", "than", "data", "noise", "measure", "by", "at_least", "each")
_NO_DONORS: Mapping[str, Data] = {}
_NOISE = (
    "kind",
    "verified",
    *(name for name in inspect.signature(make_noise).parameters if name not in ("source", "progress")),
)


@dataclass(frozen=True)
class Entry:
    """One method with its options.

    Attributes:
        method: its name, or `file.py:Class`.
        options: hyperparameters that differ from their defaults.
    """

    method: str
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def label(self) -> str:
        """Such as `cross-entropy averaging=true`."""
        return labelled(self.method, self.options)


@dataclass(frozen=True)
class Part:
    """One collection, the noise that it gets and how it is trained on.

    Attributes:
        opening: see `winnow.bench.shared.prepare`.
        noise: arguments of `make_noise` without the seed.
        train: of `Settings`.
    """

    opening: Mapping[str, Any]
    noise: Sequence[Mapping[str, Any]]
    train: Mapping[str, Any]


@dataclass(frozen=True)
class Grid:
    """What is to be run.

    Attributes:
        name: of the file, without its ending.
        title: one line.
        about: what it is for, and how it differs from what was published.
        parts: the collections.
        entries: the methods, each control before the first one that it belongs to.
        controls: label of each method's control, by the method's label.
        seeds: of noise and training.
        published: rows from papers, to stand beside: `method`, `data`, `noise`, `accuracy`, `source`, `differs`.
        relations: what is claimed to hold, see `winnow.bench.verdicts`.
    """

    name: str
    title: str
    about: str
    parts: Sequence[Part]
    entries: Sequence[Entry]
    controls: Mapping[str, str]
    seeds: Sequence[int]
    published: Sequence[Mapping[str, Any]] = ()
    relations: Sequence[Mapping[str, Any]] = ()

    @property
    def donors(self) -> list[str]:
        """The collections that foreign images come from."""
        found = [donor_of(noise) for part in self.parts for noise in part.noise]
        return [donor for donor in dict.fromkeys(found) if donor is not None]

    def check(self, data: Sequence[Data], donors: Mapping[str, Data] = _NO_DONORS) -> None:
        """Makes each noise and each method once, so that what does not fit is told before anything runs.

        Args:
            data: one for each part.
            donors: those of `donors`, by name.

        Raises:
            UsageError, InputError: see `make_noise`, `check_task`, `build`, `check_needs`.
        """
        for part, opened in zip(self.parts, data, strict=True):
            for noise in part.noise:
                donor = donor_of(noise)
                foreign = donors[donor].train if donor is not None else None
                source, _ = with_noise(opened.train, _seeded(noise, self.seeds[0]), foreign)
                problem = _trial(source)
                for entry in self.entries:
                    method = find_method(entry.method)
                    check_task(method, source)
                    check_needs(build(method, problem(), entry.options), source)

    def cells(self, data: Sequence[Data], donors: Mapping[str, Data] = _NO_DONORS) -> list[Cell]:
        """All cells, seed by seed, so that an early stop leaves whole comparisons.

        Args:
            data: one for each part, for the fingerprints.
            donors: see `check`.
        """
        return list(self._cells(data, donors))

    def _cells(self, data: Sequence[Data], donors: Mapping[str, Data]) -> Iterator[Cell]:
        modules = ("winnow.bench.grid_cell", "winnow.bench.shared")
        for seed in self.seeds:
            for part, opened in zip(self.parts, data, strict=True):
                for noise in part.noise:
                    donor = donor_of(noise)
                    images = opened.fingerprint
                    if donor is not None:
                        images = hashed(images.encode(), donors[donor].fingerprint.encode())
                    for entry in self.entries:
                        config = {
                            "data": dict(part.opening),
                            "noise": _seeded(noise, seed),
                            "method": entry.method,
                            "options": dict(entry.options),
                            "train": dict(part.train),
                            "seed": seed,
                        }
                        passes = (part.train.get("epochs") or 20) * find_method(entry.method).cost
                        yield Cell(
                            config,
                            data=images,
                            code=code_version(entry.method, *modules),
                            cost=passes * len(opened.train),
                        )


def read_grid(path: Path, *, size: str = "cpu") -> dict[str, Any]:
    """The content of a grid file, for `made_grid`.

    Args:
        path: the file.
        size: `cpu`, or the name of a table under `[size]` whose entries take the place of the others.

    Raises:
        InputError: the file is not there or not TOML.
        UsageError: there is no such size.
    """
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise InputError(f"{path}: no TOML: {error}") from error
    sizes = content.pop("size", {})
    if not isinstance(sizes, dict):
        raise UsageError(f"{path}: size must be a table of tables")
    if size == "cpu" and "cpu" not in sizes:
        return content
    if size not in sizes:
        raise UsageError(f"{path}: no size '{size}' ({', '.join(dict.fromkeys(['cpu', *sizes]))})")
    return content | sizes[size]


def made_grid(content: Mapping[str, Any], name: str, *, seeds: int | None = None) -> Grid:
    """A grid, everything in it checked but what only the data can tell.

    Args:
        content: as a grid file has it.
        name: of the grid; stands before what is wrong with it.
        seeds: how many seeds, instead of those of the grid.

    Raises:
        UsageError: an unknown entry, method, option or kind of noise, with what was meant, perhaps.
    """
    _check_names(content, _TOP, name)
    train = _train(content.get("train", {}), name)
    parts = [_part(item, content.get("noise"), train, name) for item in _tables(content, "data", name, "data")]
    if not parts:
        raise UsageError(f'{name}: no data: write data = ["digits"] or [[data]]')
    wanted = [_entry(item, name) for item in _tables(content, "method", name, "name")]
    entries, controls = _with_controls(wanted)
    given = content.get("seeds", 3)
    chosen = list(range(given)) if isinstance(given, int) else list(given)
    if seeds is not None:
        given, chosen = seeds, list(range(seeds))
    if not chosen or not all(isinstance(seed, int) for seed in chosen) or len(set(chosen)) < len(chosen):
        raise UsageError(f"{name}: seeds must be a number from 1 or a list of whole numbers, got {given}")
    relations, published = (content.get(key, []) for key in ("relation", "published"))
    for item, known, what in [(r, _RELATION, "relation") for r in relations] + [
        (p, _PUBLISHED, "published") for p in published
    ]:
        _check_names(item, known, f"{name}: {what}")
    for relation in relations:
        if ("than" in relation) == ("at_least" in relation):
            raise UsageError(f"{name}: relation: name either another method (than, by) or a value (at_least)")
    title = str(content.get("title", name))
    return Grid(
        name, title, str(content.get("about", "")), parts, entries, controls, chosen, tuple(published), tuple(relations)
    )


def parsed_noise(text: str) -> dict[str, Any]:
    """`symmetric:0.2,0.4`, `asymmetric:0.4:mnist` or `none` as a grid file has it."""
    kind, _, rest = text.partition(":")
    rates, _, class_map = rest.partition(":")
    try:
        found: dict[str, Any] = {"kind": kind} | ({"rate": [float(rate) for rate in rates.split(",")]} if rates else {})
    except ValueError:
        raise UsageError(f"--noise {text}: must be KIND:RATE,RATE or KIND:RATE:MAP or none") from None
    return found | ({"class_map": class_map} if class_map else {})


def parsed_method(text: str) -> dict[str, Any]:
    """`bootstrap-soft beta=0.9` as a grid file has it."""
    name, *options = text.split()
    pairs = [option.partition("=") for option in options]
    if not all(sign and key for key, sign, _ in pairs):
        raise UsageError(f"--method '{text}': options follow the name as NAME=VALUE")
    return {"name": name, "set": {key.replace("-", "_"): value for key, _, value in pairs}}


def _seeded(noise: Mapping[str, Any], seed: int) -> dict[str, Any]:
    """Noise follows the seed unless it has its own; without noise there is none, so that clean cells are shared."""
    return dict(noise) if noise == {"kind": "none"} else {"seed": seed, **noise}


def _trial(source: Source) -> Callable[[], Problem]:
    """Makes what a method is built from, with the smallest network: for its options alone."""
    labels = source.noisy_labels
    rows = np.flatnonzero(~source.unlabelled)
    verified = rows[:0] if source.verified is None else np.flatnonzero(source.verified)
    spec = ModelSpec("mlp", SMALLEST_SIZE, 1, source.num_classes)
    return lambda: Problem(source.class_names, labels, rows, rows[:0], spec, 0, Memory(len(labels)), verified)


def _part(item: Mapping[str, Any], noise: Any, train: Mapping[str, Any], name: str) -> Part:
    _check_names(item, _DATA, f"{name}: data")
    if "data" not in item:
        raise UsageError(f"{name}: data: an entry lacks 'data'")
    opening = {key: value for key, value in item.items() if key not in ("noise", "train")}
    chosen = item.get("noise", noise)
    kinds = [{"kind": "none"}] if chosen is None else _tables({"noise": chosen}, "noise", name, "kind")
    conditions = {canonical(one): one for kind in kinds for one in _conditions(kind, name)}
    return Part(opening, list(conditions.values()), {**train, **_train(item.get("train", {}), name, train)})


def _conditions(noise: Mapping[str, Any], name: str) -> Iterator[dict[str, Any]]:
    _check_names(noise, _NOISE, f"{name}: noise")
    kind = noise.get("kind")
    if kind != "none" and kind not in KINDS:
        raise UsageError(f"{name}: no noise of the kind '{kind}'{_hint(str(kind), (*KINDS, 'none'))}")
    checked = {"verified": noise["verified"]} if "verified" in noise else {}
    if checked and not (type(noise["verified"]) is int and noise["verified"] > 0):
        raise UsageError(f"{name}: noise: verified must be a number of images, got {noise['verified']}")
    if kind == "none":
        if others := [key for key in noise if key not in ("kind", "verified")]:
            raise UsageError(f"{name}: noise of the kind none takes no {', '.join(others)}")
        yield {"kind": "none", **checked}
        return
    rates = noise.get("rate")
    for rate in rates if isinstance(rates, list) else [rates]:
        if not isinstance(rate, (int, float)) or isinstance(rate, bool) or not 0 <= rate <= 1:
            raise UsageError(f"{name}: {kind} noise needs a rate in [0, 1], got {rate}")
        yield {"kind": "none", **checked} if rate == 0 else {**noise, "rate": float(rate)}


def _train(given: Any, name: str, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings with the device resolved: numbers from another device or precision are other numbers."""
    _check_names(given, _TRAIN, f"{name}: train")
    merged = {**(base or {}), **given}
    Settings(**merged)
    device = Device.choose(merged.get("device", "auto"), merged.get("precision", "auto"), merged.get("threads", 1))
    return {
        **merged,
        "device": device.torch_device.type,
        "precision": device.precision,
        "threads": device.threads,
    }


def _entry(item: Mapping[str, Any], name: str) -> Entry:
    _check_names(item, _METHOD, f"{name}: method")
    if "name" not in item:
        raise UsageError(f"{name}: method: an entry lacks 'name'")
    method = find_method(str(item["name"]))
    options = parsed_hyperparameters(method, item.get("set", {}))
    defaults = {key: parameter.default for key, parameter in hyperparameters(method).items()}
    return Entry(str(item["name"]), {key: value for key, value in options.items() if value != defaults[key]})


def _with_controls(wanted: Sequence[Entry]) -> tuple[list[Entry], dict[str, str]]:
    """The methods with the plain control first, and each one's fair control before it."""
    plain = Entry(CONTROL)
    entries = {plain.label: plain}
    controls = {}
    for entry in wanted:
        control = _control(entry)
        entries.setdefault(control.label, control)
        entries.setdefault(entry.label, entry)
        if entry.label != control.label:
            controls[entry.label] = control.label
    for label, entry in entries.items():
        if entry.method == CONTROL and entry.options and label not in controls:
            controls[label] = plain.label
    return list(entries.values()), controls


def _control(entry: Entry) -> Entry:
    """Cross-entropy with the views, the mixing and the averaging that a method trains with."""
    method = find_method(entry.method)
    if entry.method == CONTROL:
        return Entry(CONTROL)
    values = {key: parameter.default for key, parameter in hyperparameters(method).items()} | dict(entry.options)
    chosen = {**method.control, **{key: values[key] for key in _SHARED_OPTIONS if key in values}}
    if not chosen.get("averaging"):
        chosen.pop("window", None)
    return _entry({"name": CONTROL, "set": chosen}, "control")


def _tables(content: Mapping[str, Any], key: str, name: str, main: str) -> list[Mapping[str, Any]]:
    """A list of tables; a plain text stands for a table with its main entry alone."""
    given = content.get(key, [])
    items = given if isinstance(given, list) else [given]
    found = [{main: item} if isinstance(item, str) else item for item in items]
    if not all(isinstance(item, Mapping) for item in found):
        raise UsageError(f"{name}: {key} must be a list of names or of tables")
    return found


def _check_names(given: Any, known: Sequence[str], where: str) -> None:
    if not isinstance(given, Mapping):
        raise UsageError(f"{where}: must be a table")
    for key in given:
        if key not in known:
            raise UsageError(f"{where}: no entry '{key}'{_hint(key, known)}")


def _hint(name: str, known: Sequence[str]) -> str:
    near = get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]}?" if near else f" ({', '.join(known)})"
