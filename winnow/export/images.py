"""A folder with one sub-folder a class."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from pathlib import Path

from winnow.export.content import Content
from winnow.export.names import Names, safe_name, split_extension

FATES_FILE = "fates.parquet"


def write_folder(content: Content, stage: Path) -> None:
    """Every exported picture in the folder of its class, under the last part of its name; every class has a folder."""
    folders = class_folders(content.class_names)
    for folder in folders:
        (stage / folder).mkdir()
    names = [Names() for _ in folders]
    for row, data in content.pictures():
        label = int(content.fates.labels[row])
        last = posixpath.basename(content.judged.source.ids[row])
        content.place(stage, f"{folders[label]}/{names[label].give(*split_extension(last, data))}", row, data)
    renamed = sum(folder != name for folder, name in zip(folders, content.class_names, strict=True))
    if renamed:
        content.notes.append(f"Classes whose name is no safe name of a folder: {renamed:,}; {FATES_FILE} tells them.")
    if content.link:
        content.notes.append("The pictures are links: winnow reads them with --follow-links.")


def class_folders(class_names: Sequence[str]) -> list[str]:
    """A safe name for the folder of each class; names that are safe already are given first."""
    names = Names([FATES_FILE])
    order = sorted(range(len(class_names)), key=lambda k: safe_name(class_names[k]) != class_names[k])
    given = {k: names.give(class_names[k]) for k in order}
    return [given[k] for k in range(len(class_names))]
