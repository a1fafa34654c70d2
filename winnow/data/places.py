"""Where a file lies: on this machine, or at an address such as s3://bucket/photos.parquet.

Only an address that the user typed is ever contacted. A table on this machine cannot make us fetch anything, and one at
an address only what lies on the same host.
"""

from __future__ import annotations

import glob
import itertools
import os
import posixpath
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast
from urllib.parse import urlsplit

from winnow.data.decode import MAX_FILE_BYTES, Limits
from winnow.data.pictures import EncodedOnes, FilePictures
from winnow.data.source import Pictures, Unreadable, first_line
from winnow.errors import InputError, UsageError

_ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*(://|::)")
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"([0-9]+)\.\.([0-9]+)")
_MOST_FILES = 1_000_000
_SHOWN = 10
_DRIVERS = {"s3": "s3fs", "s3a": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "abfs": "adlfs", "az": "adlfs",
            "http": '"winnow-images[remote]"', "https": '"winnow-images[remote]"', "hf": "huggingface_hub"}  # fmt: skip
_ELSEWHERE = "elsewhere:"  # before a picture's address that is not fetched
_WEB = {"http": "web", "https": "web"}
_NO_PARTS = "its server sends whole files only, no parts of them; fetch the file and name it here"


class Place(Protocol):
    """One file. Its text is what the user typed."""

    @property
    def suffix(self) -> str:
        """Its ending, in lower case, with the dot."""
        ...

    def exists(self) -> bool:
        """Whether it is there."""
        ...

    def size(self) -> int:
        """Its length in bytes."""
        ...

    def open(self) -> BinaryIO:
        """The file, opened to read."""
        ...

    def read_bytes(self) -> bytes:
        """The whole file."""
        ...

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`; an OSError where they cannot be had."""
        ...

    def pictures(self, paths: Sequence[str | None], limits: Limits) -> Pictures:
        """The pictures at paths relative to the file's folder; a missing path gives a picture that is unreadable."""
        ...


@dataclass(frozen=True)
class LocalPlace:
    """A file on this machine."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def suffix(self) -> str:
        """Its ending, in lower case, with the dot."""
        return self.path.suffix.lower()

    def exists(self) -> bool:
        """Whether it is there."""
        return self.path.exists()

    def size(self) -> int:
        """Its length in bytes."""
        return self.path.stat().st_size

    def open(self) -> BinaryIO:
        """The file, opened to read."""
        try:
            return open(self.path, "rb")
        except OSError as error:
            raise InputError(f"{self.path}: {error.strerror or error}") from error

    def read_bytes(self) -> bytes:
        """The whole file."""
        with self.open() as file:
            return file.read()

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`; an OSError where they cannot be had."""
        with open(self.path, "rb") as file:
            file.seek(start)
            return file.read(end - start)

    def pictures(self, paths: Sequence[str | None], limits: Limits) -> Pictures:
        """The pictures at paths relative to the file's folder; a missing path gives a picture that is unreadable."""
        folder = str(self.path.parent)
        return FilePictures([os.path.join(folder, path) if path else "" for path in paths], limits)


@dataclass(frozen=True)
class RemotePlace:
    """A file or folder at an address.

    Attributes:
        address: as the user typed it.
        files: the fsspec file system.
        path: the place in it.
    """

    address: str
    files: Any
    path: str

    def __str__(self) -> str:
        return self.address

    @property
    def suffix(self) -> str:
        """Its ending, in lower case, with the dot."""
        return posixpath.splitext(urlsplit(self.path).path)[1].lower()

    def exists(self) -> bool:
        """Whether it is there."""
        return bool(_reached(self.address, lambda: self.files.exists(self.path)))

    def is_folder(self) -> bool:
        """Whether it holds other files."""
        return bool(_reached(self.address, lambda: self.files.isdir(self.path)))

    def all_files(self) -> list[str]:
        """The paths of all files below it, sorted."""
        return sorted(_reached(self.address, lambda: self.files.find(self.path)))

    def size(self) -> int:
        """Its length in bytes."""
        size = _reached(self.address, lambda: self.files.size(self.path))
        if size is None:
            raise InputError(f"{self.address}: its server does not say how long it is; fetch the file and name it here")
        return int(size)

    def open(self) -> BinaryIO:
        """The file, opened to read anywhere in it; an InputError where its server cannot send parts of files."""
        size = self.size()
        file = cast(BinaryIO, _reached(self.address, lambda: self.files.open(self.path, "rb")))
        if size > 1 and self.path.partition("://")[0] in _WEB:
            try:
                file.seek(size - 1)
                file.read(1)
                file.seek(0)
            except ValueError as error:  # fsspec's word for a server that sends the whole file
                file.close()
                raise InputError(f"{self.address}: {_NO_PARTS}") from error
            except Exception as error:  # Every driver fails in its own way.
                file.close()
                raise InputError(f"{self.address}: cannot be read: {first_line(error)}") from error
        return file

    def read_bytes(self) -> bytes:
        """The whole file."""
        return bytes(_reached(self.address, lambda: self.files.cat_file(self.path)))

    def read_range(self, start: int, end: int) -> bytes:
        """The bytes from `start` up to `end`; an OSError where they cannot be had."""
        data = bytes(self.files.cat_file(self.path, start=start, end=end))
        if len(data) > end - start:
            raise OSError(_NO_PARTS)
        return data

    def pictures(self, paths: Sequence[str | None], limits: Limits) -> RemotePictures:
        """The pictures at paths relative to the file's folder; a missing path gives a picture that is unreadable."""
        folder = posixpath.dirname(self.path)
        return RemotePictures(self.files, [self._beside(folder, path) if path else "" for path in paths], limits)

    def _beside(self, folder: str, path: str) -> str:
        if _ADDRESS.match(path):
            # Else a table could make us call at any address, also inside the user's own network.
            return path if self._same_host(path) else f"{_ELSEWHERE}{path}"
        root, slashes, rest = folder.rpartition("://")
        return root + slashes + posixpath.normpath(posixpath.join(rest, path))

    def _same_host(self, path: str) -> bool:
        ours, theirs = urlsplit(self.address), urlsplit(path)
        kinds = (_WEB.get(each.scheme, each.scheme) for each in (ours, theirs))
        return "::" not in path and next(kinds) == next(kinds) and ours.netloc == theirs.netloc


@dataclass(frozen=True)
class RemotePictures(EncodedOnes):
    """Pictures in files at an address, fetched one by one.

    Attributes:
        files: the fsspec file system.
        paths: one a row.
        limits: what is accepted.
    """

    files: Any
    paths: Sequence[str]
    limits: Limits

    def __len__(self) -> int:
        return len(self.paths)

    def take(self, rows: Any) -> RemotePictures:
        """The pictures of some rows."""
        return RemotePictures(self.files, [self.paths[row] for row in rows], self.limits)

    def name(self, row: int) -> str:
        """The file's path, for its extension."""
        return urlsplit(self.paths[row]).path

    def encoded(self, row: int) -> bytes:
        """The file's content."""
        path = self.paths[row]
        if not path:
            raise Unreadable("unreadable", "the table names no file")
        if path.startswith(_ELSEWHERE):
            reason = "an address on another host than the table's is not fetched; bring the file here first"
            raise Unreadable("unreadable", f"{path.removeprefix(_ELSEWHERE)}: {reason}")
        try:
            # A server could send us on to the user's own network.
            stay = {"allow_redirects": False} if path.partition("://")[0] in _WEB else {}
            data = bytes(self.files.cat_file(path, start=0, end=MAX_FILE_BYTES + 1, **stay))
        except Exception as error:  # Every driver fails in its own way; each costs one picture, not the run.
            raise Unreadable("unreadable", first_line(error)) from error
        if len(data) > MAX_FILE_BYTES:
            raise Unreadable("too-many-bytes", f"more than {MAX_FILE_BYTES:,} bytes")
        return data


def is_address(data: str) -> bool:
    """Whether DATA names something through fsspec, such as s3://bucket/photos."""
    return bool(_ADDRESS.match(data)) and not os.path.exists(data)


def remote_place(address: str) -> RemotePlace:
    """A file or folder at an address; nothing is read yet.

    Raises:
        InputError: the protocol is unknown, or its driver is not installed.
    """
    import fsspec

    protocol = re.split(r"://|::", address)[0]
    try:
        files, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        driver = _DRIVERS.get(protocol)
        advice = f"pip install {driver}" if driver else first_line(error)
        raise InputError(f"{address}: no driver for {protocol}:// is installed; {advice}") from error
    except Exception as error:  # Drivers refuse addresses and credentials in every way.
        raise InputError(f"{address}: {first_line(error)}") from error
    return RemotePlace(address, files, path)


def places(data: str) -> list[Place]:
    """The files that DATA names: one, or several by braces such as `part-{000..003}.tar` or by `*`.

    Raises:
        InputError: none or not all of them are there.
    """
    if is_address(data):
        found: list[Place] = []
        for name in _without_braces(data):
            place = remote_place(name)
            if "*" not in name:
                found.append(place)
                continue
            paths = sorted(_reached(name, lambda place=place: place.files.glob(place.path)))
            found += [RemotePlace(place.files.unstrip_protocol(path), place.files, path) for path in paths]
    elif os.path.exists(data):
        return [LocalPlace(Path(data))]
    else:
        found = [
            LocalPlace(Path(path))
            for name in _without_braces(data)
            for path in (sorted(glob.glob(name)) if "*" in name else [name])
        ]
    absent = [str(place) for place in found if not place.exists()]
    if absent and len(found) > 1:
        more = f" and {len(absent) - _SHOWN:,} more" if len(absent) > _SHOWN else ""
        raise InputError(
            f"{data}: {len(absent):,} of its {len(found):,} files are not there: {', '.join(absent[:_SHOWN])}{more}"
        )
    if not found or absent:
        # Drivers of the web do not tell the one from the other.
        raise InputError(f"{data}: no such file{', or its server cannot be reached' if is_address(data) else ''}")
    return found


def absolute(data: str) -> str:
    """DATA as it is reached from any folder: paths and patterns of paths from the root, everything else as it is."""
    if os.path.exists(data) or (is_pattern(data) and not is_address(data)):
        return os.path.realpath(data)
    return data


def is_pattern(data: str) -> bool:
    """Whether DATA names several files."""
    return ("*" in data or bool(_BRACES.search(data))) and not os.path.exists(data)


def _without_braces(text: str) -> Iterator[str]:
    found = list(_BRACES.finditer(text))
    choices = [_choices(match[1], text) for match in found]
    count = 1
    for each in choices:
        count *= len(each)
    if count > _MOST_FILES:
        raise UsageError(f"{text}: names {count:,} files, more than {_MOST_FILES:,}")
    pieces = _BRACES.split(text)[::2]
    for chosen in itertools.product(*choices):
        yield "".join(part for pair in zip(pieces, (*chosen, ""), strict=True) for part in pair)


def _choices(inside: str, text: str) -> Sequence[str]:
    span = _RANGE.fullmatch(inside)
    if not span:
        return inside.split(",")
    first, last = int(span[1]), int(span[2])
    if not first <= last < first + _MOST_FILES:
        raise UsageError(f"{text}: {{{inside}}} must run from a smaller number to a larger one")
    return [f"{number:0{len(span[1])}d}" for number in range(first, last + 1)]


def _reached(address: str, ask: Any) -> Any:
    """What a file system answers, or one line where it does not."""
    try:
        return ask()
    except FileNotFoundError as error:
        raise InputError(f"{address}: no such file") from error
    except Exception as error:  # Every driver fails in its own way.
        raise InputError(f"{address}: cannot be reached: {first_line(error)}") from error
