"""Hugging Face datasets: saved in a folder, exported as Parquet, or on the hub. Their own code is never run."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, TypeVar

import pyarrow as pa

from winnow.data.columns import ArrowColumns, field_of
from winnow.data.metadata import TableMetadata
from winnow.data.places import LocalPlace
from winnow.data.reading import Reading
from winnow.data.source import Source, first_line
from winnow.data.streamed import StreamedColumns
from winnow.data.table import table_source
from winnow.errors import InputError, MachineError

PREFIX = "hf:"
_SPLIT_FILE = re.compile(r"(.+)-[0-9]{5}-of-[0-9]{5}(-[0-9a-f]+)?\.parquet")
_HUB_NAME = re.compile(r"[\w.-]+(/[\w.-]+)?", re.ASCII)
_EXTRA = 'pip install "winnow-images[huggingface]"'

_Answer = TypeVar("_Answer")


class _Absent(InputError):
    """There is no such dataset."""


class _NoNetwork(MachineError):
    """Whether there is such a dataset could not be found out."""


class DatasetColumns(ArrowColumns):
    """A dataset's columns, as they lie in its Arrow files: pictures stay encoded, so that our decoder sees them."""

    def __init__(self, dataset: Any, where: str, folder: Path):
        self.dataset = dataset.with_format("arrow")
        beside = LocalPlace(folder / "dataset_info.json")
        super().__init__(
            where, dataset.features.arrow_schema, len(dataset), TableMetadata(), beside, _class_names(dataset.features)
        )

    def read(self, column: str) -> pa.ChunkedArray:
        """A column as stored; a field of a struct after a dot."""
        name, _, inner = column.partition(".") if column not in self.columns else (column, "", "")
        found: pa.ChunkedArray = self.dataset.select_columns([name])[:].column(0)
        return field_of(found, inner) if inner else found


def is_saved(folder: Path) -> bool:
    """Whether `save_to_disk` wrote a folder."""
    one = (folder / "dataset_info.json").is_file() and (folder / "state.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def open_saved(folder: Path, reading: Reading) -> Source:
    """A dataset that `save_to_disk` wrote; of several splits the one for training, the others are sub-folders.

    Raises:
        InputError: it is damaged, has no such columns, or the extra is not installed.
    """
    datasets = _datasets(str(folder))
    note = None
    if (folder / "dataset_dict.json").is_file():
        splits = sorted(entry.name for entry in folder.iterdir() if is_saved(entry))
        split = _training(splits, str(folder), f"{folder}/SPLIT")
        note = _note(split, splits, [f"{folder}/{name}" for name in splits])
        folder = folder / split
    try:
        dataset = datasets.load_from_disk(str(folder))
    except Exception as error:  # Damaged folders fail in every way.
        raise InputError(f"{folder}: cannot be read as a saved dataset: {first_line(error)}") from error
    return _noted(table_source(DatasetColumns(dataset, str(folder), folder), reading, str(folder)), note)


def open_hub(data: str, reading: Reading) -> Source:
    """`hf:NAME` or `hf:NAME:SPLIT`: a dataset of the hub, or a folder that `datasets` can load.

    What is on this machine is used. Else it is fetched with `--download`, and without it read where it is.

    Raises:
        InputError: there is no such dataset, it needs code of its own, or the extra is not installed.
        MachineError: the network failed.
    """
    datasets = _datasets(data)
    name, _, split = data.removeprefix(PREFIX).partition(":")
    if is_saved(Path(name)):
        if split and not is_saved(Path(name) / split):
            raise InputError(f"{data}: {name} has no split '{split}'")
        return open_saved(Path(name) / split, reading)
    is_local = Path(name).exists()
    try:
        splits = _asked(data, datasets, reading, partial(datasets.load_dataset, name), offline=not reading.download)
    except (_Absent, _NoNetwork) as error:
        if reading.download or is_local or not _HUB_NAME.fullmatch(name):
            raise
        if datasets.config.HF_HUB_OFFLINE:
            raise InputError(f"{data}: not on this machine, and HF_HUB_OFFLINE keeps the network from it") from error
        return _open_streamed(data, name, split, datasets, reading)
    names = sorted(splits)
    chosen, note = _chosen(data, split, names)
    return _noted(table_source(DatasetColumns(splits[chosen], data, Path()), reading, data), note)


def _open_streamed(data: str, name: str, split: str, datasets: Any, reading: Reading) -> Source:
    """A dataset of the hub whose files are Parquet, read where they are."""
    builder = _asked(data, datasets, reading, partial(datasets.load_dataset_builder, name), offline=False)
    files = {str(each): list(found) for each, found in (builder.config.data_files or {}).items()}
    chosen, note = _chosen(data, split, sorted(files))
    others = sorted({os.path.splitext(file)[1] for file in files[chosen]} - {".parquet"})
    if others:
        export = f"hf://datasets/{name}@refs/convert/parquet/{builder.config.name}/{chosen}/*.parquet"
        raise InputError(
            f"{data}: stored as {', '.join(others)}; only Parquet is streamed: fetch it with --download, or try the "
            f"hub's Parquet version of it: '{export}'"
        )
    features = builder.info.features
    columns = StreamedColumns(files[chosen], data, None if features is None else _class_names(features), reading)
    source = table_source(columns, reading, data)
    amount = f"{columns.num_bytes / 1e6:,.1f} MB in {len(files[chosen]):,} files"
    return _noted(_noted(source, f"Streamed from the hub ({amount}), nothing is kept; --download keeps it."), note)


def _asked(data: str, datasets: Any, reading: Reading, ask: Callable[[], _Answer], *, offline: bool) -> _Answer:
    """What the library answers, or one line where it does not.

    Raises:
        _Absent, _NoNetwork: see there.
        InputError: it cannot be read.
    """
    try:
        with _offline(datasets, offline), _quiet(datasets, reading):
            return ask()
    except Exception as error:  # Builders and clients fail in every way.
        line = first_line(error)
        if isinstance(error, RuntimeError) and "script" in line:
            raise InputError(
                f"{data}: needs code of its own to be read, which is not run; look for a Parquet version of it"
            ) from error
        if isinstance(error, FileNotFoundError) and type(error).__name__ != "LocalEntryNotFoundError":
            raise _Absent(f"{data}: {line}") from error
        if isinstance(error, OSError) or type(error).__module__.startswith("httpx"):
            raise _NoNetwork(f"{data}: cannot be fetched: {line}") from error
        raise InputError(f"{data}: cannot be read: {line}") from error


def parquet_files(folder: Path) -> tuple[list[Path], str | None]:
    """The files of a folder that is a table in Parquet, and a remark; none for any other folder.

    Such a folder holds .parquet files and no images, or as a clone from the hub does, in `data`. Of several splits the
    one for training is taken.

    Raises:
        InputError: none of several splits is for training.
    """
    for place in (folder, folder / "data"):
        files = sorted(place.glob("*.parquet"))
        others = [entry for entry in place.iterdir() if entry.is_dir() and entry.name[0] != "."] if files else []
        if not files or others:
            continue
        split_of = {file: match[1] for file in files if (match := _SPLIT_FILE.fullmatch(file.name))}
        splits = sorted(set(split_of.values()))
        if len(split_of) < len(files) or len(splits) < 2:
            return files, None
        chosen = _training(splits, str(folder), f"'{place}/SPLIT-*.parquet'")
        patterns = [f"'{place}/{split}-*.parquet'" for split in splits]
        return [file for file in files if split_of[file] == chosen], _note(chosen, splits, patterns)
    return [], None


def _chosen(data: str, split: str, splits: list[str]) -> tuple[str, str | None]:
    """The split that was named, else the one to train on, and a remark where the choice was ours."""
    if split and split not in splits:
        raise InputError(f"{data}: no split '{split}' ({', '.join(splits)})")
    if split:
        return split, None
    chosen = _training(splits, data, f"{data}:SPLIT")
    return chosen, _note(chosen, splits, [f"{data}:{each}" for each in splits])


def _class_names(features: Mapping[str, Any]) -> dict[str, list[str]]:
    """The class names of the columns that are class labels, or lists of them."""
    found = {name: getattr(getattr(kind, "feature", kind), "names", None) for name, kind in features.items()}
    return {name: list(names) for name, names in found.items() if names is not None}


def _training(splits: list[str], where: str, how: str) -> str:
    """The split to train on, if that is clear."""
    if len(splits) == 1:
        return splits[0]
    if "train" not in splits:
        raise InputError(f"{where}: has the splits {', '.join(splits) or '(none)'}; name one: {how}")
    return "train"


def _note(split: str, splits: list[str], addresses: list[str]) -> str | None:
    if len(splits) < 2:
        return None
    others = [address for name, address in zip(splits, addresses, strict=True) if name != split]
    return f"The split {split} is read; DATA for the others: {', '.join(others[:5])}."


def _noted(source: Source, note: str | None) -> Source:
    return replace(source, notes=(note, *source.notes)) if note else source


def _datasets(data: str) -> ModuleType:
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"{data}: a Hugging Face dataset needs an extra: {_EXTRA}") from error
    if int(datasets.__version__.split(".")[0]) < 4:
        # Older ones may ask whether to run a dataset's code.
        raise InputError(f"{data}: needs datasets 4 or newer, found {datasets.__version__}: {_EXTRA}")
    return datasets


@contextmanager
def _offline(datasets: Any, wanted: bool) -> Iterator[None]:
    """Keeps `datasets` to what is on this machine."""
    import huggingface_hub.constants

    places = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = wanted or value
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


@contextmanager
def _quiet(datasets: Any, reading: Reading) -> Iterator[None]:
    """Shows the library's own bars only to a person who watches a download, and its remarks to nobody."""
    bars = datasets.utils.logging
    before = bars.is_progress_bar_enabled()
    loggers = [logging.getLogger(name) for name in ("datasets", "huggingface_hub")]
    levels = [logger.level for logger in loggers]
    if not (reading.download and reading.progress is not None and sys.stderr.isatty()):
        bars.disable_progress_bar()
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        if before:
            bars.enable_progress_bar()
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
