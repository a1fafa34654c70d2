"""From what a user typed as DATA to a source."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

from winnow.data.builtin import builtin_names, open_builtin, unknown_builtin
from winnow.data.decode import MAX_PIXELS, Limits
from winnow.data.folder import open_folder
from winnow.data.npz import open_npz
from winnow.data.rows import limited_rows, subset
from winnow.data.source import Source
from winnow.data.table import MissingColumn, open_table
from winnow.errors import InputError, UsageError

_TABLES = {".csv", ".tsv", ".parquet"}


def open_source(
    data: str | Path,
    *,
    label_column: str | None = None,
    clean_label_column: str | None = None,
    image_column: str | None = None,
    class_names: Sequence[str] | None = None,
    limit: int | None = None,
    root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    follow_links: bool = False,
    unlabelled_ok: bool = False,
) -> Source:
    """Open a collection of images with labels. Pictures are read later; labels are checked now.

    Args:
        data: a folder with one sub-folder per class, a .csv, .tsv, .parquet or .npz file, or a built-in name.
        label_column: where the labels stand; by default as the file says, else `label` (`y` in .npz).
        clean_label_column: where the truth stands; only evaluation sees it.
        image_column: where the pictures or their paths stand; by default found by name or type.
        class_names: the only classes allowed, in index order (those of the training source, for a test set).
        limit: keep a random subset of this size, the same for every run, in source order.
        root: where the files of built-in collections lie; by default the environment variable WINNOW_DATA.
        max_pixels: larger pictures are set aside.
        allow_truncated: use what can be decoded of cut-off pictures.
        follow_links: let links lead out of a folder.
        unlabelled_ok: accept data without labels, as for predictions; every image is then unlabelled.

    Raises:
        InputError: the data cannot be used; the message says what, where and what to do.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"--limit must be at least 1, got {limit}")
    if max_pixels < 1:
        raise UsageError(f"--max-pixels must be at least 1, got {max_pixels}")
    limits = Limits(max_pixels, allow_truncated)
    path = Path(data)
    suffix = path.suffix.lower()
    if str(data) in builtin_names():
        source = open_builtin(
            str(data),
            root=Path(root) if root else None,
            label_column=label_column,
            clean_label_column=clean_label_column,
            limits=limits,
        )
        if class_names is not None and tuple(class_names) != source.class_names:
            raise InputError(f"{data}: its classes ({_few(source.class_names)}) are not {_few(class_names)}")
    elif path.is_dir():
        if label_column or clean_label_column or image_column:
            raise UsageError(f"{data}: a folder has no columns; its labels are the sub-folders' names")
        source = open_folder(
            path,
            class_names=class_names,
            limits=limits,
            follow_links=follow_links,
            unlabelled_ok=unlabelled_ok,
        )
    elif not path.exists():
        raise _not_there(str(data), path)
    elif suffix in _TABLES:
        source = open_table(
            path,
            label_column=label_column,
            clean_label_column=clean_label_column,
            image_column=image_column,
            class_names=class_names,
            limits=limits,
            unlabelled_ok=unlabelled_ok,
        )
    elif suffix == ".npz":
        source = open_npz(
            path,
            label_column=label_column,
            clean_label_column=clean_label_column,
            image_column=image_column,
            class_names=class_names,
            unlabelled_ok=unlabelled_ok,
        )
    else:
        raise InputError(f"{data}: not a folder, .csv, .tsv, .parquet or .npz")
    source = _with_test(source, limits, root)
    return source if limit is None or limit >= len(source) else subset(source, limited_rows(source.ids, limit))


def open_test(
    data: str | Path,
    train: Source,
    *,
    label_column: str | None = None,
    image_column: str | None = None,
    root: str | Path | None = None,
    max_pixels: int = MAX_PIXELS,
    allow_truncated: bool = False,
    follow_links: bool = False,
) -> Source:
    """Open a test set for a training source: the same classes, and the truth as its labels where it has one.

    Args:
        data: see `open_source`.
        train: the training source.
        label_column: the test labels; by default the training source's clean-label column if the test set has
            it, else the truth that the file itself names, else its default, else the training label column.
        image_column: see `open_source`.
        root: see `open_source`.
        max_pixels: see `open_source`.
        allow_truncated: see `open_source`.
        follow_links: see `open_source`.

    Raises:
        InputError: the data cannot be used.
    """

    def attempt(column: str | None) -> Source:
        return open_source(
            data,
            label_column=column,
            image_column=image_column,
            class_names=train.class_names,
            root=root,
            max_pixels=max_pixels,
            allow_truncated=allow_truncated,
            follow_links=follow_links,
        )

    if str(data) in builtin_names():
        # `--test mnist` means its test images; its training images may be the ones that are trained on.
        whole = attempt(label_column)
        return whole.test() if whole.test else whole
    if label_column is not None or Path(data).is_dir():
        return attempt(label_column)
    if train.clean_label_column is not None:
        try:
            return attempt(train.clean_label_column)
        except MissingColumn:
            pass
    try:
        source = attempt(None)
    except MissingColumn:
        if train.label_column is None:
            raise
        return attempt(train.label_column)
    return attempt(source.clean_label_column) if source.clean_label_column is not None else source


def _with_test(source: Source, limits: Limits, root: str | Path | None) -> Source:
    address = source.test_address
    if source.test is not None or address is None:
        return source

    def test() -> Source:
        found = open_source(address, root=root, max_pixels=limits.max_pixels, allow_truncated=limits.allow_truncated)
        if found.class_names != source.class_names:
            raise InputError(f"{source.address}: its test set {address} has other classes")
        return found

    return replace(source, test=test)


def _not_there(data: str, path: Path) -> InputError:
    if path.parent != Path() or path.suffix:
        siblings = [entry.name for entry in path.parent.iterdir()] if path.parent.is_dir() else []
        near = get_close_matches(path.name, siblings, n=1)
        advice = f"; did you mean {path.parent / near[0]}?" if near else ""
        return InputError(f"{data}: no such file or folder{advice}")
    return unknown_builtin(data)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
