"""Data that the cells of one runner share: decoded once, mapped by every worker, named by what it holds."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import blake2b
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from winnow.bench.cells import canonical, hashed
from winnow.data.builtin import builtin_names
from winnow.data.collection import load
from winnow.data.open import open_source, open_test
from winnow.data.pictures import ArrayPictures, JoinedPictures
from winnow.data.rows import limited_rows, of_classes, subset
from winnow.data.source import Pictures, Source, Unreadable
from winnow.errors import InputError, MachineError, UsageError
from winnow.files import atomic_write, write_error

OPENING = (
    "label_column",
    "clean_label_column",
    "image_column",
    "limit",
    "classes",
    "max_pixels",
    "allow_truncated",
    "follow_links",
)
"""What may stand in a configuration beside `data`, `test` and `test_label_column`; see `winnow.open_source`. Of the
images, and of the test set's, `classes` keeps those of some classes, before `limit` counts."""

_OF_DONORS = "unlabelled_ok"
_META, _DECODED, _RUNS = "meta.json", "decoded", "runs"
_folder: Path | None = None


@dataclass(frozen=True)
class Data:
    """A collection as cells get it: pictures decoded, unreadable ones left out.

    Attributes:
        train: the collection; its labels are as its file has them.
        test: images with true labels, if there are any.
        fingerprint: of names, labels and pictures of both, wherever they lie.
    """

    train: Source
    test: Source | None
    fingerprint: str


def prepare(
    opening: Mapping[str, Any],
    folder: Path,
    *,
    root: Path | None = None,
    progress: Callable[[str, int, int], None] | None = None,
) -> Data:
    """In the runner's process, before any cell: opens a collection and leaves it decoded for the workers.

    Args:
        opening: what a cell's configuration says of its data: `data` (DATA as a person types it; a file that is not
            there is looked for in `root`) and perhaps `test`, `test_label_column` and what `OPENING` names; or
            `donor_opening`.
        folder: the runner's own; what was decoded there for the same files is used again.
        root: where the files of built-in collections lie, and those that are named without a folder; by default the
            environment variable WINNOW_DATA.
        progress: hears of the reading: what, pictures done, pictures in all.

    Raises:
        UsageError: something in `opening` is not known.
        InputError: the data cannot be used.
        MachineError: the folder cannot be written.
    """
    train, test = _opened(opening, root)
    place = _place(folder, opening)
    found = fingerprint(train, test)
    if _meta(place).get("fingerprint") != found:
        try:
            _decode(train, test, place, progress)
            meta = {"fingerprint": found, "root": str(root) if root else None}
            atomic_write(place / _META, json.dumps(meta).encode())
        except MachineError as error:
            raise MachineError(f"{error}; the same command goes on") from error
    return _mapped(train, test, place, found)


def donor_opening(donor: str) -> dict[str, Any]:
    """The `opening` of a collection whose images stand in for others: its labels are not needed, nor its test set."""
    return {"data": donor, _OF_DONORS: True}


def use(folder: Path | None) -> None:
    """In a worker: the runner's folder."""
    global _folder
    _folder = folder
    shared.cache_clear()


def opened(opening: Mapping[str, Any]) -> Data:
    """In a cell: the collection that `prepare` left decoded; outside of a runner it is opened and decoded as usual.

    Raises:
        UsageError, InputError: see `prepare`.
    """
    return shared(canonical(opening))


@lru_cache(maxsize=4)
def shared(opening_text: str) -> Data:
    """`opened`, remembered: the argument is `opening` as canonical JSON."""
    opening = json.loads(opening_text)
    place = _place(_folder, opening) if _folder else None
    meta = _meta(place) if place else {}
    train, test = _opened(opening, Path(meta["root"]) if meta.get("root") else None)
    if place is None or not meta:
        return Data(train, test, fingerprint(train, test))
    return _mapped(train, test, place, meta["fingerprint"])


@contextmanager
def run_folder() -> Iterator[Path]:
    """In a cell: a path for a run folder that is taken away afterwards; what a killed runner left goes at its next
    start."""
    parent = _folder / _RUNS if _folder else None
    if parent:
        parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cell-", dir=parent) as folder:
        yield Path(folder) / "run"


def fingerprint(train: Source, test: Source | None = None) -> str:
    """Hash of class names, ids, labels and the files or pixels of all pictures: the same wherever the data lies."""
    parts = []
    for source in (train, test):
        if source is None:
            continue
        parts += [
            "\n".join(source.class_names).encode("utf-8", "surrogateescape"),
            "\n".join(source.ids).encode("utf-8", "surrogateescape"),
            np.ascontiguousarray(source.noisy_labels).tobytes(),
            # The truth answers this question only; it changes what a record says of repaired labels.
            source.clean_labels.wrong(source.noisy_labels).tobytes() if source.clean_labels is not None else b"",
            _pictures_digest(source.pictures),
        ]
    return hashed(*parts)


def _pictures_digest(pictures: Pictures) -> bytes:
    digest = blake2b(digest_size=16)
    if isinstance(pictures, ArrayPictures):
        digest.update(str(pictures.array.shape).encode())
        digest.update(np.ascontiguousarray(pictures.array).data)
    elif isinstance(pictures, JoinedPictures):
        for part in pictures.parts:
            digest.update(_pictures_digest(part))
        digest.update(pictures.part.tobytes())
        digest.update(pictures.row.tobytes())
    else:
        encoded: Callable[[int], bytes] = getattr(pictures, "encoded", lambda row: pictures.read(row).tobytes())
        for row in range(len(pictures)):
            try:
                content = encoded(row)
            except Unreadable as fault:
                content = str(fault).encode("utf-8", "surrogateescape")
            digest.update(len(content).to_bytes(8, "little"))
            digest.update(content)
    return digest.digest()


def _opened(opening: Mapping[str, Any], root: Path | None) -> tuple[Source, Source | None]:
    known = ("data", "test", "test_label_column", _OF_DONORS, *OPENING)
    for name in opening:
        if name not in known:
            raise UsageError(f"data: no setting '{name}' ({', '.join(known)})")
    reading = {name: opening[name] for name in (_OF_DONORS, *OPENING) if name in opening}
    classes = reading.pop("classes", None)
    limit = reading.pop("limit", None) if classes is not None else None
    train = open_source(_found(opening["data"], root), root=root, **reading)
    if _OF_DONORS in opening:
        return train, None
    if train.is_multilabel:
        raise InputError(f"{train.address}: its images may have several labels; a grid needs one label an image")
    if "test" not in opening:
        test = train.test() if train.test else None
    else:
        only_train = ("label_column", "clean_label_column", "limit")
        reading = {name: value for name, value in reading.items() if name not in only_train}
        address = _found(opening["test"], root)
        test = open_test(address, train, root=root, label_column=opening.get("test_label_column"), **reading)
    if classes is not None:
        train, test = of_classes(train, classes), of_classes(test, classes) if test else None
    if limit is not None and limit < len(train):
        train = subset(train, limited_rows(train.ids, limit))
    return train, test


def _found(data: str, root: Path | None) -> str:
    """DATA, or the file of that name among the built-in collections' files: grids that come along name it so."""
    folder = root or os.environ.get("WINNOW_DATA")
    if folder and data not in builtin_names() and not Path(data).exists() and (Path(folder) / data).is_file():
        return str(Path(folder) / data)
    return data


def _place(folder: Path, opening: Mapping[str, Any]) -> Path:
    return folder / _DECODED / hashed(canonical(opening).encode())


def _meta(place: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads((place / _META).read_bytes())
    except (OSError, ValueError):
        return {}
    return found


def _decode(train: Source, test: Source | None, place: Path, progress: Callable[[str, int, int], None] | None) -> None:
    try:
        place.mkdir(parents=True, exist_ok=True)
        (place / _META).unlink(missing_ok=True)  # until the new arrays are there, the old ones are nobody's
    except OSError as error:
        raise write_error(error, place, 0) from error
    size = None
    for name, source in (("train", train), ("test", test)):
        if source is None:
            continue
        word = "reading" if name == "train" else "reading the test set"
        collection = load(source, size=size, progress=partial(progress, word) if progress else None)
        size = collection.size
        images = collection.images[..., 0] if collection.images.shape[3] == 1 else collection.images
        _save(place / f"{name}.npy", images)
        _save(place / f"{name}-rows.npy", collection.rows)


def _save(path: Path, array: np.ndarray) -> None:
    def write(file: BinaryIO) -> None:
        np.save(file, array, allow_pickle=False)

    atomic_write(path, write)


def _mapped(train: Source, test: Source | None, place: Path, found: str) -> Data:
    def with_pictures(source: Source, name: str) -> Source:
        rows = np.load(place / f"{name}-rows.npy", allow_pickle=False)
        # Copy on write: the pages are shared between workers as long as nobody writes, and nobody does.
        images = np.load(place / f"{name}.npy", mmap_mode="c", allow_pickle=False)
        if len(rows) < len(source):
            source = subset(source, rows)
        return replace(source, pictures=ArrayPictures(images), grey=images.ndim == 3)

    return Data(with_pictures(train, "train"), with_pictures(test, "test") if test else None, found)
