"""A numpy archive: pictures `x`, labels `y` and any other label columns. Never unpickles."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from winnow.data.classes import RawLabels, are_class_labels, encode, from_array, indices_of
from winnow.data.metadata import KEY, TableMetadata, parse_metadata
from winnow.data.pictures import ArrayPictures
from winnow.data.source import UNLABELLED, Source
from winnow.data.table import choose_columns, no_column
from winnow.errors import InputError
from winnow.labels.truth import CleanLabels

_NOT_LABELS = {"class_names", "id", KEY}


def open_npz(
    path: Path,
    *,
    label_column: str | None = None,
    clean_label_column: str | None = None,
    image_column: str | None = None,
    class_names: Sequence[str] | None = None,
    unlabelled_ok: bool = False,
) -> Source:
    """Read an .npz with `x` (N, H, W) or (N, H, W, 3), uint8, labels, and perhaps `class_names` and `id`.

    Args:
        path: the archive.
        label_column: name of the label array; by default what the file says of itself, else `y`.
        clean_label_column: name of the array with the truth, for evaluation.
        image_column: name of the picture array, by default `x`.
        class_names: the only classes allowed, in index order.
        unlabelled_ok: accept an archive without labels: every image is unlabelled.

    Raises:
        InputError: the archive is damaged, an array is missing or misshapen, or labels cannot be used.
    """
    arrays = _Arrays(path)
    metadata = arrays.metadata()
    names_of_arrays = [name for name in arrays.names if name not in _NOT_LABELS]
    image_column = image_column or metadata.image_column or "x"
    if image_column not in arrays.names:
        raise no_column(image_column, names_of_arrays, str(path), "--image-column")
    images = _images(arrays.read(image_column), image_column, path)
    wanted: list[str] = []
    remark: str | None = None
    default = "y" if "y" in arrays.names or "label" not in arrays.names else "label"
    if label_column or metadata.label_column or default in arrays.names or not unlabelled_ok:
        label_column, clean_label_column, remark = choose_columns(
            [name for name in names_of_arrays if name != image_column],
            label_column,
            clean_label_column,
            metadata,
            where=str(path),
            default=default,
        )
        wanted = [label_column] + ([clean_label_column] if clean_label_column else [])
    ids = arrays.ids(len(images))
    raw = [arrays.labels(name, len(images), metadata) for name in wanted]
    own_names = arrays.class_names() or metadata.class_names
    names, encoded = encode(raw, ids, class_names=class_names or own_names, where=str(path))

    def other_labels() -> Mapping[str, np.ndarray]:
        others = _Arrays(path)
        found = {}
        for name in names_of_arrays:
            if name in wanted or name == image_column:
                continue
            values = others.read(name)
            if values.shape == (len(images),) and values.dtype.kind in "iuU":
                found[name] = from_array(name, values, str(path), minus_one_is_missing=True)
        return {name: indices_of(column, names) for name, column in found.items() if are_class_labels(column, names)}

    return Source(
        address=str(path),
        ids=ids,
        class_names=names,
        noisy_labels=encoded[0] if encoded else np.full(len(images), UNLABELLED),
        pictures=ArrayPictures(images),
        clean_labels=CleanLabels(encoded[-1]) if clean_label_column and encoded else None,
        grey=images.ndim == 3,
        mirror=metadata.mirror,
        notes=(remark,) if remark else (),
        label_column=wanted[0] if wanted else None,
        clean_label_column=clean_label_column,
        test_address=metadata.test,
        other_labels=other_labels,
    )


class _Arrays:
    """The arrays of an archive, read one by one."""

    def __init__(self, path: Path):
        self.path = path
        try:
            # Opened here, because numpy leaves a damaged file open.
            with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                self.names = list(archive.files)
        except (OSError, ValueError, EOFError, zipfile.BadZipFile, TypeError, AttributeError) as error:
            raise InputError(f"{path}: cannot be read as .npz: {error}") from error

    def read(self, name: str) -> np.ndarray:
        try:
            with open(self.path, "rb") as file, np.load(file, allow_pickle=False) as archive:
                return np.asarray(archive[name])
        except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{self.path}: array '{name}' cannot be read: {error}") from error

    def metadata(self) -> TableMetadata:
        return parse_metadata(str(self.read(KEY)), str(self.path)) if KEY in self.names else TableMetadata()

    def class_names(self) -> list[str] | None:
        return [str(name) for name in self.read("class_names")] if "class_names" in self.names else None

    def ids(self, count: int) -> list[str]:
        if "id" not in self.names:
            return [f"{row:06d}" for row in range(count)]
        ids = [str(value) for value in self.read("id").reshape(-1)]
        if len(ids) != count or len(set(ids)) != count:
            raise InputError(f"{self.path}: array 'id' must name each of the {count:,} images once")
        return ids

    def labels(self, name: str, count: int, metadata: TableMetadata) -> RawLabels:
        values = self.read(name)
        if values.ndim == 1 and len(values) != count:
            raise InputError(f"{self.path}: {len(values):,} labels '{name}' for {count:,} images")
        # Only files that winnow wrote use -1 for a missing label; elsewhere it is more likely a mistake.
        ours = metadata.label_column is not None
        return from_array(name, values, str(self.path), minus_one_is_missing=ours)


def _images(array: np.ndarray, name: str, path: Path) -> np.ndarray:
    shape = "x".join(map(str, array.shape))
    if array.dtype != np.uint8:
        raise InputError(f"{path}: array '{name}' is of type {array.dtype}; uint8 from 0 to 255 is needed")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim == 4 and array.shape[1] == 3 != array.shape[3]:
        raise InputError(f"{path}: array '{name}' is {shape}; the channels belong last: x.transpose(0, 2, 3, 1)")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3):
        raise InputError(f"{path}: array '{name}' is {shape}; (N, H, W) or (N, H, W, 3) is needed")
    if not array.size:
        raise InputError(f"{path}: array '{name}' is {shape}: no images")
    return array
