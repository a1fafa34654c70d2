"""A folder with one sub-folder per class."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from winnow.data.classes import sorted_names
from winnow.data.decode import Limits
from winnow.data.pictures import FilePictures
from winnow.data.signatures import IMAGE_EXTENSIONS
from winnow.data.source import UNLABELLED, Source
from winnow.errors import InputError

_SPLITS = {"train", "training", "test", "testing", "val", "valid", "validation", "eval", "dev"}


class _Scan:
    """What stands in a folder: image files, and counts of what was passed over."""

    def __init__(self, root: str, follow_links: bool):
        self.root = root
        self.follow_links = follow_links
        self.images: list[str] = []
        self.ignored = 0
        self.links = 0
        self.unreadable: list[str] = []

    def of_class(self, name: str) -> list[str]:
        """Paths relative to the root of all images below a first-level folder, sorted."""
        return sorted(self._below(name, {os.path.realpath(os.path.join(self.root, name))}))

    def _below(self, folder: str, parents: set[str]) -> Iterator[str]:
        for entry in self.entries(folder):
            relative = f"{folder}/{entry.name}"
            looks_like_image = os.path.splitext(entry.name)[1].lower() in IMAGE_EXTENSIONS
            if self.is_folder(entry) and not looks_like_image:
                real = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
                if real not in parents:  # else a link that leads back up
                    yield from self._below(relative, parents | {real})
            elif looks_like_image:
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

    @staticmethod
    def is_folder(entry: os.DirEntry[str]) -> bool:
        """Whether an entry is a folder or a link to one; a broken link is none."""
        try:
            return entry.is_dir()
        except OSError:
            return False


def open_folder(
    root: Path,
    *,
    class_names: Sequence[str] | None = None,
    limits: Limits,
    follow_links: bool = False,
    unlabelled_ok: bool = False,
) -> Source:
    """Read a folder whose sub-folders are the classes; images further down belong to the first level's class.

    Hidden files and folders are passed over, an empty class is kept, names that differ only in case are two.

    Args:
        root: the folder.
        class_names: the only classes allowed, in index order; by default the sub-folders, sorted.
        limits: what pictures may be.
        follow_links: whether links may lead out of the folder.
        unlabelled_ok: take images without a known class as unlabelled.

    Raises:
        InputError: there are no classes or images, or a class is unknown.
    """
    scan = _Scan(str(root), follow_links)
    top = scan.entries("")
    folders = [entry.name for entry in top if scan.is_folder(entry)]
    loose = sorted(entry.name for entry in top if not scan.is_folder(entry))
    loose_images = [name for name in loose if os.path.splitext(name)[1].lower() in IMAGE_EXTENSIONS]
    if not (folders or (unlabelled_ok and loose_images)):
        found = f"{len(loose_images):,} images lie directly in it" if loose_images else "it has no sub-folders"
        if scan.links:
            found = f"it has only links to folders ({scan.links:,}); --follow-links allows them"
        raise InputError(f"{root}: one sub-folder per class is needed, but {found}")
    if len(folders) > 1 and {name.lower() for name in folders} <= _SPLITS:
        raise InputError(f"{root}: its sub-folders ({', '.join(sorted(folders))}) are splits, not classes; open one")

    images = {name: scan.of_class(name) for name in sorted_names(folders)}
    names = tuple(class_names) if class_names is not None else tuple(map(printable, images))
    unknown = [printable(name) for name, files in images.items() if files and printable(name) not in names]
    if unknown and not unlabelled_ok:
        raise InputError(
            f"{root}: {len(unknown)} folders name no known class: {', '.join(map(repr, unknown[:10]))}; "
            f"known are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}"
        )
    places = {name: index for index, name in enumerate(names)}
    paths = [path for files in images.values() for path in files]
    labels = [places.get(printable(name), UNLABELLED) for name, files in images.items() for _ in files]
    if unlabelled_ok:
        paths += loose_images
        labels += [UNLABELLED] * len(loose_images)
        loose_images = []
    if not paths:
        raise InputError(f"{root}: no images in its {len(images)} sub-folders")
    return Source(
        address=str(root),
        ids=[printable(path) for path in paths],
        class_names=names,
        noisy_labels=np.array(labels, dtype=np.int64),
        pictures=FilePictures(
            [os.path.join(root, path) for path in paths], limits, None if follow_links else str(root)
        ),
        notes=tuple(_notes(scan, images, len(loose_images), unknown)),
    )


def printable(name: str) -> str:
    """A name as valid text: bytes that are no UTF-8 are written as escapes."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _notes(scan: _Scan, images: dict[str, list[str]], loose: int, unknown: Sequence[str]) -> Iterator[str]:
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
    if loose:
        yield f"Images that lie outside the class folders were passed over: {loose:,}."
    if scan.ignored:
        yield f"Files without an image's extension were passed over: {scan.ignored:,}."
    if scan.links:
        yield f"Links to folders were passed over: {scan.links:,} (--follow-links allows them)."
    if scan.unreadable:
        yield f"Folders that cannot be read: {', '.join(map(printable, scan.unreadable[:10]))}."
