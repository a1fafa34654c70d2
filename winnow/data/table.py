"""A source from the columns of a table, whatever holds them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from difflib import get_close_matches

import numpy as np

from winnow.data.classes import are_class_labels, class_indices, indices_of
from winnow.data.columns import Columns, DelimitedColumns, ParquetColumns
from winnow.data.duplicates import Named, resolved
from winnow.data.jsonl import JsonLinesColumns
from winnow.data.metadata import TableMetadata
from winnow.data.multilabel import Several, cells_from_columns, encode_several, written
from winnow.data.npz import npz_columns
from winnow.data.pictures import ArrayPictures, FilePictures
from winnow.data.places import Place
from winnow.data.reading import Reading
from winnow.data.rows import subset
from winnow.data.source import UNLABELLED, Pictures, Source, without_label
from winnow.data.verified import flags
from winnow.errors import InputError
from winnow.labels.truth import CleanLabels

TABLES = {".csv", ".tsv", ".jsonl", ".ndjson", ".parquet", ".npz"}
IMAGE_COLUMNS = (
    "image",
    "path",
    "file",
    "filename",
    "file_name",
    "filepath",
    "file_path",
    "image_path",
    "img",
    "img_path",
)


class MissingColumn(InputError):
    """A table or array file lacks a column that was asked for."""


def no_column(wanted: str, columns: Sequence[str], where: str, option: str) -> MissingColumn:
    """The error for a column that is not there, with the nearest that is."""
    near = get_close_matches(wanted, columns, n=1)
    advice = f"did you mean {option} {near[0]}?" if near else f"name it with {option}"
    return MissingColumn(f"{where}: no column '{wanted}' ({', '.join(columns)}); {advice}")


def choose_columns(
    columns: Sequence[str],
    label_column: str | None,
    clean_label_column: str | None,
    metadata: TableMetadata,
    *,
    where: str,
    default: str = "label",
) -> tuple[str, str | None, str | None]:
    """The label column, the truth column if there is one, and a remark where the choice was ours."""
    remark = None
    if label_column is None:
        label_column = metadata.label_column
        if label_column is None and {"noisy_label", default} <= set(columns):
            label_column, clean_label_column = "noisy_label", clean_label_column or default
            remark = f"Labels are read from 'noisy_label', their truth from '{clean_label_column}'."
        label_column = label_column or default
    if label_column not in columns and "," in label_column and set(label_column.split(",")) <= set(columns):
        return label_column, clean_label_column, None  # a column a class
    parts = label_column.split(",")
    if label_column not in columns and set(parts) & set(columns):
        absent = next(part for part in parts if part not in columns)
        near = [part if part in columns else next(iter(get_close_matches(part, columns, n=1)), part) for part in parts]
        advice = f"did you mean --label-column {','.join(near)}?" if set(near) <= set(columns) else "name one a class"
        raise MissingColumn(f"{where}: no column '{absent}' ({', '.join(columns)}); {advice}")
    clean_label_column = clean_label_column or metadata.clean_label_column
    if label_column not in columns:
        raise no_column(label_column, columns, where, "--label-column")
    if clean_label_column is not None and clean_label_column not in columns:
        raise no_column(clean_label_column, columns, where, "--clean-label-column")
    return label_column, clean_label_column, remark


def open_columns(files: Sequence[Place], address: str, image_column: str | None = None) -> Columns:
    """The columns of a table file; several Parquet files are one table.

    Raises:
        InputError: the file is damaged, or several are not Parquet.
    """
    suffix = files[0].suffix
    if suffix == ".parquet":
        return ParquetColumns(files, address)
    if len(files) > 1:
        raise InputError(f"{address}: {len(files):,} files; only .parquet and .tar files are read as one")
    if suffix == ".npz":
        return npz_columns(files[0], image_column)
    return JsonLinesColumns(files[0]) if suffix in (".jsonl", ".ndjson") else DelimitedColumns(files[0])


def table_source(table: Columns, reading: Reading, address: str) -> Source:
    """The images and labels of a table; paths in it are relative to the table.

    Raises:
        InputError: a column is missing or labels cannot be used.
    """
    if not table.num_rows:
        raise InputError(f"{table.where}: the table has no rows")
    image_column = _image_column(table, reading.image_column or table.metadata.image_column)
    label_column, clean_label_column, notes = _label_columns(table, image_column, reading)
    pictures = table.pictures(image_column, reading.limits)
    named = _named(table, image_column, pictures)
    checked = _checked_column(table, reading)
    wanted = [column for column in (label_column, clean_label_column, checked) if column is not None]
    notes += _separator_note(table, label_column, reading.label_separator)
    names, encoded = _several(table, wanted, reading, named, notes) or _encoded(table, wanted, reading, named, notes)
    by_column = dict(zip(wanted, encoded, strict=True))
    labels = by_column[label_column] if label_column else np.full(table.num_rows, UNLABELLED)
    verified = None
    if checked is not None:
        labels = np.where(by_column[checked] >= 0, by_column[checked], labels)
        verified = ~without_label(by_column[checked])
    elif reading.verified is not None and (answers := flags(table, reading.verified, names)) is not None:
        verified = answers & ~without_label(labels)
    labels, kept, note = resolved(named, labels, names, reading.on_duplicate)
    notes += [note] if note else []

    def other_labels() -> Mapping[str, np.ndarray]:
        if labels.ndim == 2:
            return {}
        taken = {*wanted, image_column, "id"}
        columns = {name: table.labels(name) for name in table.label_like if name not in taken}
        return {name: indices_of(found, names) for name, found in columns.items() if are_class_labels(found, names)}

    source = Source(
        address=address,
        ids=_ids(table, image_column, named, kept),
        class_names=names,
        noisy_labels=labels,
        pictures=pictures,
        clean_labels=CleanLabels(by_column[clean_label_column]) if clean_label_column else None,
        verified=verified,
        grey=table.metadata.grey or (isinstance(pictures, ArrayPictures) and pictures.array.ndim == 3),
        mirror=table.metadata.mirror,
        notes=tuple(notes),
        label_column=label_column,
        clean_label_column=clean_label_column,
        test_address=table.metadata.test,
        other_labels=other_labels,
    )
    return subset(source, kept) if len(kept) < len(source) else source


def _label_columns(table: Columns, image_column: str, reading: Reading) -> tuple[str | None, str | None, list[str]]:
    """The columns of labels and of truth, and remarks."""
    default = table.default_label
    optional = reading.unlabelled_ok and not (reading.label_column or table.metadata.label_column)
    if reading.ignore_labels or (optional and default not in table.columns):
        return None, None, ["No label column: every image is unlabelled."]
    label_column, clean_label_column, remark = choose_columns(
        [name for name in table.columns if not (name == image_column and table.is_picture_like(name))],
        reading.label_column,
        reading.clean_label_column,
        table.metadata,
        where=table.header,
        default=default,
    )
    return label_column, clean_label_column, [remark] if remark else []


def _checked_column(table: Columns, reading: Reading) -> str | None:
    """The column of labels that a person checked, unless it only says which were."""
    column = reading.verified
    if column is None or column not in table.columns or flags(table, column, None) is not None:
        return None
    return column


def _encoded(
    table: Columns, wanted: Sequence[str], reading: Reading, named: Named, notes: list[str]
) -> tuple[tuple[str, ...], list[np.ndarray]]:
    """Class names, and each column as class indices; what the file lists as classes is honoured."""
    raw = [table.labels(column) for column in wanted]
    own: list[Sequence[str] | None] = [table.class_names(column) for column in wanted or [table.default_label]]
    if reading.label_map is not None and raw:
        raw, own, unused = reading.label_map.of_columns(raw, own)
        notes += _unused_note(unused)
    return class_indices(raw, own, class_names=reading.class_names, place=named.located, where=table.where)


def _separator_note(table: Columns, label_column: str | None, separator: str | None) -> list[str]:
    """A remark where no label holds the separator: it may be the wrong one."""
    texts = table.texts(label_column) if separator and label_column in table.columns else None
    if separator is None or texts is None or any(separator in text for text in texts):
        return []
    return [f"--label-separator '{separator}' occurs in no label: every image has one class at most."]


def _several(
    table: Columns, wanted: Sequence[str], reading: Reading, named: Named, notes: list[str]
) -> tuple[tuple[str, ...], list[np.ndarray]] | None:
    """Class names, and each column as cells, if an image may have several classes."""
    found = [_of_image(table, column, reading.label_separator, named) for column in wanted]
    several = [column for column in found if column is not None]
    if not several:
        return None
    if len(several) < len(found):
        other = wanted[found.index(None)]
        raise InputError(
            f"{table.header}: '{wanted[0]}' gives an image several classes and '{other}' one, or the reverse"
        )
    own = [table.class_names(column) if column in table.columns else None for column in wanted]
    if reading.label_map is not None:
        labels = set().union(*(written(column, names) for column, names in zip(several, own, strict=True)))
        notes += _unused_note(reading.label_map.unused(labels))
    return encode_several(
        several,
        own,
        class_names=reading.class_names,
        label_map=reading.label_map,
        place=named.located,
        where=table.where,
    )


def _unused_note(unused: Sequence[str]) -> list[str]:
    return [f"--map-labels names labels that do not occur: {', '.join(unused[:10])}."] if unused else []


def _of_image(table: Columns, column: str, separator: str | None, named: Named) -> Several | None:
    """A column that gives several classes, or the columns of the classes themselves."""
    if column in table.columns:
        return table.several(column, separator)
    return cells_from_columns({name: table.labels(name) for name in column.split(",")}, named.located, table.where)


def _image_column(table: Columns, wanted: str | None) -> str:
    if wanted is not None:
        if wanted not in table.columns:
            raise no_column(wanted, table.columns, table.header, "--image-column")
        return wanted
    by_name = [name for name in IMAGE_COLUMNS if name in table.columns]
    by_type = [name for name in table.columns if table.is_picture_like(name)]
    both = [name for name in by_name if name in by_type]
    for candidates in (both, by_type if len(by_type) == 1 else [], by_name):
        if candidates:
            return candidates[0]
    raise MissingColumn(
        f"{table.header}: no image column ({', '.join(table.columns)}); "
        "name the one with paths or bytes: --image-column"
    )


def _named(table: Columns, image_column: str, pictures: Pictures) -> Named:
    """What names each image: an `id`, and the path of its file."""
    paths = None if table.is_picture_like(image_column) else table.texts(image_column)
    one_spelling = os.path.abspath if isinstance(pictures, FilePictures) else os.path.normpath
    places = pictures.paths if isinstance(pictures, FilePictures) else paths
    files = None if paths is None or places is None else [one_spelling(path) if path else "" for path in places]
    return Named(table.texts("id"), paths, files, table.where, table.place)


def _ids(table: Columns, image_column: str, named: Named, kept: np.ndarray) -> Sequence[str]:
    """Column `id`, else `name` or the path if every row that is kept has its own, else the row's number from 0."""
    if named.ids is not None:
        return named.ids
    candidates = ["name"] if table.is_picture_like(image_column) else [image_column, "name"]
    for column in candidates:
        texts = table.texts(column)
        if texts is not None:
            some = [texts[row] for row in kept]
            if all(some) and len(set(some)) == len(some):
                return texts
    return [f"{row:06d}" for row in range(table.num_rows)]
