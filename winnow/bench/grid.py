"""A grid: data x noise x method x seed, from a TOML file or from flags, checked before anything runs."""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from winnow.bench.cells import Cell, canonical, code_version, hashed
from winnow.bench.comparison import Condition, compared, labelled
from winnow.bench.grid_cell import donor_of, with_noise
from winnow.bench.grid_content import DATA, METHOD, TOP, TRAIN, check, conditions, published, relations, tables
from winnow.bench.results import Record
from winnow.bench.shared import Data
from winnow.data.source import Source
from winnow.errors import InputError, UsageError
from winnow.labels.memory import Memory
from winnow.methods import build, find_method, hyperparameters, parsed_hyperparameters
from winnow.methods.base import Problem
from winnow.models import ModelSpec, network_class
from winnow.train.device import Device
from winnow.train.settings import SMALLEST_SIZE, Settings, check_needs, check_task

FUNCTION = "winnow.bench.grid_cell:run"
CONTROL = "cross-entropy"
_SHARED_OPTIONS = ("views", "mixup", "averaging", "window")
"""Options that make the control's training like the method's."""

_NO_DONORS: Mapping[str, Data] = {}


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
    def num_cells(self) -> int:
        """Trainings in all."""
        conditions = {canonical([part.opening, noise, part.train]) for part in self.parts for noise in part.noise}
        return len(conditions) * len(self.entries) * len(self.seeds)

    @property
    def donors(self) -> list[str]:
        """The collections that foreign images come from."""
        found = [donor_of(noise) for part in self.parts for noise in part.noise]
        return [donor for donor in dict.fromkeys(found) if donor is not None]

    def compared(self, records: Sequence[Record]) -> list[Condition]:
        """What its records say, the methods and seeds that are missing there included."""
        methods = [entry.label for entry in self.entries]
        return compared(records, self.controls, methods=methods, seeds=len(self.seeds))

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
    if not isinstance(sizes[size], dict):
        raise UsageError(f"{path}: size.{size} must be a table")
    return content | sizes[size]


def made_grid(
    content: Mapping[str, Any], name: str, *, seeds: int | None = None, replaced: Sequence[Mapping[str, Any]] = ()
) -> Grid:
    """A grid, everything in it checked but what only the data can tell.

    Args:
        content: as a grid file has it.
        name: of the grid; stands before what is wrong with it.
        seeds: how many seeds, instead of those of the grid.
        replaced: methods that those of `content` took the place of: relations may still name them.

    Raises:
        UsageError: an unknown entry, method, network, option or kind of noise, with what was meant, perhaps; a value
            of another type.
    """
    check(content, TOP, name)
    train = _train(content.get("train", {}), name)
    parts = [_part(item, content.get("noise"), train, name) for item in tables(content, "data", name, "data")]
    if not parts:
        raise UsageError(f'{name}: no data: write data = ["digits"] or [[data]]')
    entries, controls = _with_controls([_entry(item, name) for item in tables(content, "method", name, "name")])
    given = content.get("seeds", 3) if seeds is None else seeds
    chosen = given if isinstance(given, list) else list(range(given)) if type(given) is int else []
    if not chosen or not all(type(seed) is int for seed in chosen) or len(set(chosen)) < len(chosen):
        raise UsageError(f"{name}: seeds must be a number from 1 or a list of whole numbers, got {given}")
    others, _ = _with_controls([_entry(item, name) for item in replaced])
    known = list(dict.fromkeys(entry.label for entry in (*entries, *others)))
    title = str(content.get("title", name))
    return Grid(
        name,
        title,
        str(content.get("about", "")),
        parts,
        entries,
        controls,
        chosen,
        published(content, name),
        relations(content, name, known),
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
    check(item, DATA, f"{name}: data")
    if "data" not in item:
        raise UsageError(f"{name}: data: an entry lacks 'data'")
    opening = {key: value for key, value in item.items() if key not in ("noise", "train")}
    once = {canonical(one): one for one in conditions(item.get("noise", noise), name)}
    return Part(opening, list(once.values()), {**train, **_train(item.get("train", {}), name, train)})


def _train(given: Any, name: str, base: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Settings with the device resolved: numbers from another device or precision are other numbers."""
    check(given, TRAIN, f"{name}: train")
    merged = {**(base or {}), **given}
    Settings(**merged)
    if merged.get("model") is not None:
        network_class(merged["model"])
    device = Device.choose(merged.get("device", "auto"), merged.get("precision", "auto"), merged.get("threads", 1))
    return {
        **merged,
        "device": device.torch_device.type,
        "precision": device.precision,
        "threads": device.threads,
    }


def _entry(item: Mapping[str, Any], name: str) -> Entry:
    check(item, METHOD, f"{name}: method")
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
