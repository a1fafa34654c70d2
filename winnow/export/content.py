"""What a format writes: the exported images in order, their labels, and the files they are placed in."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from winnow.data.copying import encoded, file_path
from winnow.data.pictures import FilePictures
from winnow.data.source import Unreadable
from winnow.errors import Interrupted
from winnow.export.fates import Fates
from winnow.export.judged import Judged
from winnow.export.names import Names, split_extension
from winnow.train.interrupt import StopRequest
from winnow.train.progress import Progress


@dataclass
class Content:
    """What is exported, and what has been written of it so far.

    Attributes:
        judged: the collection.
        fates: what becomes of each image; pictures that turn out to be unreadable change it.
        out: where the export will be found once it is complete.
        link: whether image files of the source are linked to instead of copied.
        progress: hears of it.
        stop: whether a person asked to stop.
        files: the file of each exported image, relative to `out`, by row.
        notes: remarks for the person.
        num_bytes: size of the pictures written.
    """

    judged: Judged
    fates: Fates
    out: Path
    link: bool
    progress: Progress
    stop: StopRequest
    files: dict[int, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    num_bytes: int = 0

    @property
    def class_names(self) -> tuple[str, ...]:
        """In index order."""
        return self.judged.source.class_names

    @property
    def several(self) -> bool:
        """Whether an image may have several classes."""
        return self.fates.labels.ndim == 2

    def classes(self, labels: np.ndarray, row: int) -> list[int]:
        """The classes of an image among some labels, (N,) or (N, K)."""
        if labels.ndim == 2:
            return [int(k) for k in np.flatnonzero(labels[row] == 1)]
        return [int(labels[row])] if labels[row] >= 0 else []

    def rows(self) -> Iterator[int]:
        """The rows that are exported, while a person lets it go on.

        Raises:
            Interrupted: a person asked to stop.
        """
        rows = self.fates.exported
        for done, row in enumerate(rows.tolist()):
            if self.stop.signal_number is not None:
                raise Interrupted(f"Stopped; nothing was written to {self.out}.", self.stop.signal_number)
            self.progress.stage("exporting", done, len(rows))
            yield row
        self.progress.stage("exporting", len(rows), len(rows))

    def pictures(self) -> Iterator[tuple[int, bytes]]:
        """Row and file content of each exported picture, one at a time; one that cannot be read any more drops out."""
        for row in self.rows():
            try:
                data = encoded(self.judged.source.pictures, row)
                if not data:
                    raise Unreadable("empty", "0 bytes")
            except Unreadable as fault:
                self.fates.set_aside(row, fault)
            else:
                self.num_bytes += len(data)
                yield row, data

    def known_bytes(self) -> int:
        """Size of the exported pictures as far as it is known before they are read."""
        pictures = self.judged.source.pictures
        if not isinstance(pictures, FilePictures) or pictures.stamps is None:
            return 0
        return int(np.maximum(pictures.stamps[self.fates.exported, 0], 0).sum())

    def placed(self, stage: Path, folder: str) -> Iterator[tuple[int, bytes]]:
        """Places each exported picture as a file in one folder of the export, and passes it on."""
        (stage / folder).mkdir()
        names = Names()
        for row, data in self.pictures():
            name = names.give(*split_extension(self.judged.source.ids[row].replace("/", "_"), data))
            self.place(stage, f"{folder}/{name}", row, data)
            yield row, data

    def place(self, stage: Path, file: str, row: int, data: bytes) -> None:
        """Puts a picture into the folder that is being filled: a link if that is wanted and possible, else a copy."""
        target = stage / file
        original = file_path(self.judged.source.pictures, row) if self.link else ""
        if original:
            os.symlink(os.path.abspath(original), target)
        else:
            target.write_bytes(data)
        self.files[row] = file
