"""From what a user typed as DATA to a source."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from winnow.data.archives import TarColumns
from winnow.data.builtin import builtin_names, open_builtin, unknown_builtin
from winnow.data.decode import MAX_PIXELS, Limits
from winnow.data.folder import open_folder
from winnow.data.hugging_face import PREFIX, is_saved, open_hub, open_saved, parquet_files
from winnow.data.label_map import LabelMap
from winnow.data.npz import array_columns
from winnow.data.places import LocalPlace, RemotePlace, absolute, is_address, is_pattern, places, remote_place
from winnow.data.reading import Reading
from winnow.data.rows import as_classes, limited_rows, subset, with_unlabelled
from winnow.data.source import Source
from winnow.data.table import TABLES, MissingColumn, open_columns, table_source
from winnow.data.verified import verified_by_table
from winnow.errors import InputError, UsageError

Arrays = Mapping[str, Any]
"""Arrays named as in an .npz: `x` with the pictures, `y` with the labels, perhaps `class_names`, `id` and others."""


def open_source(
    data: str | Path | Arrays,
    *,
    label_column: str | None = None,
    clean_label_column: str | None = None,
    label_separator: str | None = None,
    image_column: str | None = None,
    verified: str | Path | None = None,
    unlabelled: str | Path | None = None,
    class_names: Sequence[str] | None = None,
    map_labels: str | Path | Mapping[str, str | None] | None = None,
    on_duplicate: str | None = None,
    limit: int | None = None,
    root: str | Path | None = None,
    download: bool = False,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    follow_links: bool = False,
    unlabelled_ok: bool = False,
    known_classes_only: bool = False,
    progress: Callable[[str, int, int], None] | None = None,
) -> Source:
    """Open a collection of images with labels. Pictures are read later; labels are checked now.

    Args:
        data: a folder with one sub-folder per class, a .csv, .tsv, .jsonl, .parquet, .npz or .tar file, several
            .parquet or .tar files (`part-{000..003}.tar`), a saved Hugging Face dataset, `hf:NAME`, a built-in name, or
            the address of one of these (`s3://bucket/photos.parquet`); or arrays as an .npz would hold them,
            `{"x": images, "y": labels}`.
        label_column: where the labels stand; by default as the file says, else `label` (`y` in .npz).
        clean_label_column: where the truth stands; only evaluation sees it.
        label_separator: between the classes of an image, where a text names several (`cat;dog`).
        image_column: where the pictures or their paths stand; by default found by name or type.
        verified: which labels a person has checked: a column of true and false, a column of labels, or a table file
            with `id` or `path` and `label`.
        unlabelled: more images, whose labels are not read.
        class_names: the only classes allowed, in index order (those of the training source, for a test set).
        map_labels: new names for labels, as `"old=new,old=new"`, a mapping, or a .csv with the columns old and new.
        on_duplicate: what becomes of an image that stands in a table twice: `first` keeps the first row that has a
            label, `conflict` the first row, without a label where labels differ; by default different ones are refused.
        limit: keep a random subset of this size, the same for every run, in source order.
        root: where the files of built-in collections lie; by default the environment variable WINNOW_DATA.
        download: fetch what is missing of a built-in collection or of `hf:NAME`.
        max_pixels: larger pictures are set aside.
        allow_truncated: use what can be decoded of cut-off pictures.
        follow_links: let links lead out of a folder.
        unlabelled_ok: accept data without labels, as for predictions; every image is then unlabelled.
        known_classes_only: with `unlabelled_ok`, refuse sub-folders that are named like none of `class_names`; by
            default their images are unlabelled.
        progress: hears of a download: what is fetched, bytes done, bytes in all.

    Raises:
        InputError: the data cannot be used; the message says what, where and what to do.
        MachineError: a download failed.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    if max_pixels < 1:
        raise UsageError(f"--max-pixels must be at least 1, got {max_pixels}")
    if label_separator == "":
        raise UsageError("--label-separator is empty; write what stands between two classes, such as ';'")
    opened = None if isinstance(data, Mapping) else _as_asked(locals())
    reading = Reading(
        label_column=label_column,
        clean_label_column=clean_label_column,
        label_separator=label_separator,
        image_column=image_column,
        verified=str(verified) if verified is not None else None,
        class_names=class_names,
        label_map=LabelMap.parsed(map_labels) if map_labels is not None else None,
        on_duplicate=on_duplicate,
        limits=Limits(max_pixels, allow_truncated),
        follow_links=follow_links,
        unlabelled_ok=unlabelled_ok,
        known_classes_only=known_classes_only,
        root=Path(root) if root else None,
        download=download,
        progress=progress,
    )
    if isinstance(data, Mapping):
        source = table_source(array_columns(data, image_column), reading, "the arrays")
    else:
        source = _with_test(_opened(str(data), reading), reading)
    if verified is not None and source.verified is None:
        source = _verified_beside(source, str(verified), reading)
    if limit is not None and limit < len(source):
        source = subset(source, limited_rows(source.ids, limit))
    if unlabelled is not None:
        alone = Reading(
            image_column=image_column,
            class_names=source.class_names,
            limits=reading.limits,
            follow_links=follow_links,
            ignore_labels=True,
            root=reading.root,
            download=download,
            progress=progress,
        )
        source = with_unlabelled(source, _opened(str(unlabelled), alone))
    return replace(source, opened=opened)


def _as_asked(asked: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `open_source` that are not the default, such that JSON keeps them and any folder is left."""
    parameters = inspect.signature(open_source).parameters
    found = {name: value for name, value in asked.items() if value != parameters[name].default}
    del found["data"]
    found.pop("progress", None)
    for name in ("verified", "unlabelled", "map_labels", "root"):
        if isinstance(found.get(name), str | Path):
            found[name] = absolute(str(found[name]))
    if "class_names" in found:
        found["class_names"] = list(found["class_names"])
    if isinstance(found.get("map_labels"), Mapping):
        found["map_labels"] = dict(found["map_labels"])
    return found


def open_test(
    data: str | Path | Arrays,
    train: Source,
    *,
    label_column: str | None = None,
    **reading: Any,
) -> Source:
    """Open a test set for a training source: the same classes, and the truth as its labels where it has one.

    Args:
        data: see `open_source`.
        train: the training source.
        label_column: the test labels; by default the training source's clean-label column if the test set has
            it, else the truth that the file itself names, else its default, else the training label column.
        reading: further arguments of `open_source`.

    Raises:
        InputError: the data cannot be used.
    """

    def attempt(column: str | None) -> Source:
        return open_source(data, label_column=column, class_names=train.class_names, **reading)

    if not isinstance(data, Mapping) and str(data) in builtin_names():
        # `--test mnist` means its test images; its training images may be the ones that are trained on.
        whole = attempt(label_column)
        return whole.test() if whole.test else whole
    if label_column is not None or train.label_column is None:
        return attempt(label_column)
    if train.clean_label_column is not None:
        try:
            return attempt(train.clean_label_column)
        except MissingColumn:
            pass
        except UsageError:  # a folder has no columns
            return attempt(None)
    try:
        source = attempt(None)
    except MissingColumn:
        return attempt(train.label_column)
    return attempt(source.clean_label_column) if source.clean_label_column is not None else source


def _opened(data: str, reading: Reading) -> Source:
    """Any kind of DATA, by its name and by what lies there."""
    if data in builtin_names():
        source = open_builtin(data, reading)
        known = None if reading.ignore_labels else reading.class_names
        return source if known is None else as_classes(source, known)
    if data.startswith(PREFIX) and not data.startswith(f"{PREFIX}//"):
        return open_hub(data, reading)
    if is_address(data):
        place = remote_place(data)
        if not is_pattern(data) and place.suffix not in TABLES | {".tar"}:
            return _opened_remote_folder(place, reading)
    elif Path(data).is_dir():
        return _opened_folder(Path(data), reading)
    elif not (Path(data).exists() or is_pattern(data)):
        raise _not_there(data, Path(data))
    files = places(data)
    kinds = {file.suffix for file in files}
    if len(kinds) > 1 or not kinds <= TABLES | {".tar"}:
        raise InputError(f"{data}: not a folder, .csv, .tsv, .jsonl, .parquet, .npz or .tar")
    if kinds == {".tar"}:
        shards = TarColumns(files, data)
        source = table_source(shards, reading, data)
        return replace(source, notes=(*shards.notes(), *source.notes))
    return table_source(open_columns(files, data, reading.image_column), reading, data)


def _opened_folder(folder: Path, reading: Reading) -> Source:
    """A folder of classes, a dataset that Hugging Face's library saved, or Parquet files that are one table."""
    if is_saved(folder):
        return open_saved(folder, reading)
    files, note = parquet_files(folder)
    if not files:
        return open_folder(folder, reading)
    table = open_columns([LocalPlace(file) for file in files], str(folder))
    source = table_source(table, reading, str(folder))
    return replace(source, notes=(note, *source.notes)) if note else source


def _opened_remote_folder(place: RemotePlace, reading: Reading) -> Source:
    if not place.exists():
        raise InputError(f"{place}: no such file or folder")
    if not place.is_folder():
        raise InputError(f"{place}: not a folder, .csv, .tsv, .jsonl, .parquet, .npz or .tar")
    return open_folder(place, reading)


def _verified_beside(source: Source, verified: str, reading: Reading) -> Source:
    """`--verified` named no column: it must be a table file."""
    if not (is_address(verified) or Path(verified).is_file()):
        raise InputError(f"--verified {verified}: {source.address} has no such column, and there is no such file")
    table = open_columns(places(verified), verified)
    return verified_by_table(source, table, reading.label_map, reading.label_separator)


def _with_test(source: Source, reading: Reading) -> Source:
    """A file of ours names the test set that belongs to it."""
    address = source.test_address
    if source.test is not None or address is None:
        return source
    alike = replace(reading.of_test_set(), class_names=source.class_names)
    return replace(source, test=lambda: _opened(address, alike))


def _not_there(data: str, path: Path) -> InputError:
    if path.parent != Path() or path.suffix:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        advice = f"; did you mean {path.parent / near[0]}?" if near else ""
        return InputError(f"{data}: no such file or folder{advice}")
    return unknown_builtin(data)
