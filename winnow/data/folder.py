"""A folder with one sub-folder per class, on this machine or at an address."""

from __future__ import annotations

import os
import posixpath
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from winnow.data.classes import sorted_names
from winnow.data.label_map import LabelMap
from winnow.data.pictures import FilePictures
from winnow.data.places import RemotePictures, RemotePlace
from winnow.data.reading import Reading
from winnow.data.signatures import IMAGE_EXTENSIONS
from winnow.data.source import UNLABELLED, Pictures, Source
from winnow.errors import InputError

_LIKE_AN_ESCAPE = re.compile(r"\\(?=x(?:[89a-f][0-9a-f]|5c))")
_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev"}


class _Found(Protocol):
    """What stands in a folder, and counts of what was passed over."""

    folders: list[str]
    loose: list[str]
    ignored: int
    links: int
    unreadable: list[str]

    def of_class(self, name: str) -> list[str]:
        """Paths relative to the root of all images below a first-level folder, sorted."""
        ...

    def pictures(self, paths: Sequence[str], reading: Reading) -> Pictures:
        """The images at some relative paths."""
        ...


class _Scan:
    """A folder on this machine."""

    def __init__(self, root: str, follow_links: bool):
        self.root = root
        self.follow_links = follow_links
        self.ignored = 0
        self.links = 0
        self.unreadable: list[str] = []
        top = self.entries("")
        self.folders = [entry.name for entry in top if self.is_folder(entry)]
        self.loose = sorted(entry.name for entry in top if not self.is_folder(entry) and looks_like_image(entry.name))

    def of_class(self, name: str) -> list[str]:
        """Paths relative to the root of all images below a first-level folder, sorted."""
        return sorted(self._below(name, {os.path.realpath(os.path.join(self.root, name))}))

    def _below(self, folder: str, parents: set[str]) -> Iterator[str]:
        for entry in self.entries(folder):
            relative = f"{folder}/{entry.name}"
            is_image = looks_like_image(entry.name)
            if self.is_folder(entry) and not is_image:
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in parents:  # else a link that leads back up
                    yield from self._below(relative, parents | {real})
            elif is_image:
                yield relative
            else:
                self.ignored += 1

    def entries(self, folder: str) -> list[os.DirEntry[str]]:
        """What a folder holds, hidden things and refused links to folders left out."""
        try:
            with os.scandir(os.path.join(self.root, folder)) as found:
                visible = [entry for entry in found if not entry.name.startswith(".")]
        except OSError:
            self.unreadable.append(folder)
            return []
        return [entry for entry in visible if not self._is_refused(entry)]

    def _is_refused(self, entry: os.DirEntry[str]) -> bool:
        refused = not self.follow_links and entry.is_symlink() and self.is_folder(entry)
        self.links += refused
        return refused

    def pictures(self, paths: Sequence[str], reading: Reading) -> FilePictures:
        """The images at some relative paths."""
        root = None if reading.follow_links else self.root
        return FilePictures.listed([os.path.join(self.root, path) for path in paths], reading.limits, root)

    @staticmethod
    def is_folder(entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a folder or a link to one; a broken link is none."""
        try:
            return entry.is_dir()
        except OSError:
            return False


class _Listing:
    """A folder at an address; it has no links."""

    def __init__(self, place: RemotePlace):
        self.place = place
        self.unreadable: list[str] = []
        self.ignored = self.links = 0
        self.below: dict[str, list[str]] = {}
        self.loose = []
        root = place.path.rstrip("/")
        for path in place.all_files():
            relative = path[len(root) :].lstrip("/")
            top, _, rest = relative.partition("/")
            if any(part.startswith(".") for part in relative.split("/")):
                continue
            if rest:
                self.below.setdefault(top, [])
            if not looks_like_image(relative):
                self.ignored += bool(rest)
            elif rest:
                self.below[top].append(relative)
            else:
                self.loose.append(relative)
        self.folders = list(self.below)

    def of_class(self, name: str) -> list[str]:
        """Paths relative to the root of all images below a first-level folder, sorted."""
        return sorted(self.below[name])

    def pictures(self, paths: Sequence[str], reading: Reading) -> RemotePictures:
        """The images at some relative paths."""
        full = [posixpath.join(self.place.path.rstrip("/"), path) for path in paths]
        return RemotePictures(self.place.files, full, reading.limits)


def open_folder(root: Path | RemotePlace, reading: Reading) -> Source:
    """Read a folder whose sub-folders are the classes; images further down belong to the first level's class.

    Hidden files and folders are passed over, an empty class is kept, names that differ only in case are two.

    Args:
        root: the folder.
        reading: what the options say; `class_names` are by default the sub-folders, sorted.

    Raises:
        InputError: there are no classes or images, or a class is unknown.
    """
    reading.refuse_columns(str(root), "a folder has no columns, its labels are the sub-folders' names")
    found: _Found = _Scan(str(root), reading.follow_links) if isinstance(root, Path) else _Listing(root)
    labels_needed = not (reading.unlabelled_ok or reading.ignore_labels)
    _refuse_shape(root, found, labels_needed)
    images = {name: found.of_class(name) for name in sorted_names(found.folders)}
    shown = {name: _unique_text(name) for name in images}
    label_map = reading.label_map or LabelMap({})
    labels_of = {name: label_map.of(text) for name, text in shown.items()}
    found_names = dict.fromkeys(label for label in labels_of.values() if label is not None)
    names = tuple(reading.class_names or (sorted_names(found_names) if label_map.new_names else found_names))
    unknown = [shown[name] for name, files in images.items() if files and labels_of[name] not in (None, *names)]
    if unknown and (labels_needed or reading.known_classes_only):
        raise InputError(
            f"{root}: {len(unknown)} folders name no known class: {', '.join(map(repr, unknown[:10]))}; "
            f"known are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}; "
            "rename them, or say what they are: --map-labels"
        )
    places = {name: index for index, name in enumerate(names)}
    paths = [path for files in images.values() for path in files]
    labels = [places.get(labels_of[name] or "", UNLABELLED) for name, files in images.items() for _ in files]
    loose = [] if labels_needed else found.loose
    paths += loose
    labels += [UNLABELLED] * len(loose)
    if not paths:
        raise InputError(f"{root}: no images in its {len(images)} sub-folders")
    unused = label_map.unused(shown.values())
    return Source(
        address=str(root),
        ids=[_unique_text(path) for path in paths],
        class_names=names,
        noisy_labels=np.array(labels, dtype=np.int64),
        pictures=found.pictures(paths, reading),
        notes=tuple(_notes(found, images, len(found.loose) - len(loose), unknown, unused)),
    )


def looks_like_image(name: str) -> bool:
    """Whether a file's ending is one of images."""
    return os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS


def _refuse_shape(root: Path | RemotePlace, found: _Found, labels_needed: bool) -> None:
    """One sub-folder a class, which are no splits; images without labels may lie anywhere."""
    if not (found.folders or (found.loose and not labels_needed)):
        what = f"{len(found.loose):,} images lie directly in it" if found.loose else "it has no sub-folders"
        if found.links:
            what = f"it has only links to folders ({found.links:,}); --follow-links allows them"
        raise InputError(f"{root}: one sub-folder per class is needed, but {what}")
    if labels_needed and len(found.folders) > 1 and {name.lower() for name in found.folders} <= _SPLITS:
        splits = sorted(found.folders)
        raise InputError(f"{root}: its sub-folders ({', '.join(splits)}) are splits, not classes; open one")


def printable(name: str) -> str:
    """A name as valid text: bytes that are no UTF-8 are written as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _unique_text(name: str) -> str:
    r"""As `printable`, and no two names alike: a backslash that reads like an escape becomes one, `\x5c`."""
    return printable(_LIKE_AN_ESCAPE.sub(r"\\x5c", name))


def _notes(
    scan: _Found, images: dict[str, list[str]], loose: int, unknown: Sequence[str], unused: Sequence[str]
) -> Iterator[str]:
    empty = [name for name, files in images.items() if not files]
    if empty:
        yield f"Classes without an image: {', '.join(map(printable, empty[:10]))}."
    spellings = defaultdict(list)
    for name in images:
        spellings[name.lower()].append(printable(name))
    if any(count > 1 for count in Counter(name.lower() for name in images).values()):
        twins = [" and ".join(names) for names in spellings.values() if len(names) > 1]
        yield f"Classes that differ only in case are kept apart: {', '.join(twins[:10])}."
    if unknown:
        yield f"Images in {len(unknown):,} folders that name no class are unlabelled."
    if unused:
        yield f"--map-labels names labels that do not occur: {', '.join(unused[:10])}."
    if loose:
        yield f"Images that lie outside the class folders were passed over: {loose:,}."
    if scan.ignored:
        yield f"Files without an image's extension were passed over: {scan.ignored:,}."
    if scan.links:
        yield f"Links to folders were passed over: {scan.links:,} (--follow-links allows them)."
    if scan.unreadable:
        yield f"Folders that cannot be read: {', '.join(map(printable, scan.unreadable[:10]))}."
