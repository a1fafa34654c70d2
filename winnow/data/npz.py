"""Arrays as a collection: pictures `x`, labels `y` and any other label columns. Never unpickles."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from winnow.data.classes import RawLabels, from_array, refuse_names
from winnow.data.decode import Limits
from winnow.data.metadata import KEY, TableMetadata, parse_metadata
from winnow.data.multilabel import Cells, Several, cells_from_matrix
from winnow.data.pictures import ArrayPictures
from winnow.data.places import Place
from winnow.errors import InputError

_NOT_COLUMNS = {"class_names", KEY}
_FAULTS = (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, TypeError, AttributeError, NotImplementedError)


class ArrayColumns:
    """Arrays over the same images; each is read when asked for.

    Args:
        where: the file, for messages.
        names: of the arrays.
        read: gives one of them.
        image: the array of pictures, uint8 (N, H, W) or (N, H, W, 3); None finds it.
        metadata: what the file says of itself.
        class_names: in index order, of every label column; None leaves them to the metadata.
        names_of: the classes of single columns.
    """

    def __init__(
        self,
        where: str,
        names: Sequence[str],
        read: Callable[[str], np.ndarray],
        image: str | None = None,
        metadata: TableMetadata | None = None,
        class_names: Sequence[str] | None = None,
        names_of: Mapping[str, Sequence[str]] | None = None,
    ):
        self.where = self.header = where
        self.columns = list(names)
        self.read = read
        metadata = metadata or TableMetadata()
        self.image = image or metadata.image_column or "x"
        self.metadata = metadata.model_copy(update={"image_column": self.image})
        self.names_of = names_of or {}
        self.names = list(class_names) if class_names is not None else metadata.class_names
        if self.names:
            refuse_names(self.names, where)
        self.images: np.ndarray | None = None
        if self.image in self.columns:
            self.images = checked_images(read(self.image), f"{where}: array '{self.image}'")
        self.num_rows = len(self.images) if self.images is not None else -1
        self.default_label = "y" if "y" in self.columns or "label" not in self.columns else "label"

    @property
    def label_like(self) -> list[str]:
        """Arrays with one integer or text an image; every one is read to see that."""
        candidates = [name for name in self.columns if name not in (self.image, "id")]
        shapes = {name: self.read(name) for name in candidates}
        return [
            name for name, values in shapes.items() if values.shape == (self.num_rows,) and values.dtype.kind in "iuU"
        ]

    def labels(self, column: str) -> RawLabels:
        """An array as labels."""
        values = self.read(column)
        if values.ndim == 1 and len(values) != self.num_rows:
            raise InputError(f"{self.where}: {len(values):,} labels '{column}' for {self.num_rows:,} images")
        # Only files that winnow wrote use -1 for a missing label; elsewhere it is more likely a mistake.
        return from_array(column, values, self.where, minus_one_is_missing=self.metadata.label_column is not None)

    def several(self, column: str, separator: str | None) -> Several | None:
        """A matrix (N, K) of 1, 0 and -1."""
        values = self.read(column)
        if values.ndim != 2 or values.shape[1] < 2:
            return None
        if len(values) != self.num_rows:
            raise InputError(f"{self.where}: {len(values):,} labels '{column}' for {self.num_rows:,} images")
        cells = cells_from_matrix(column, values, self.where)
        names = self.class_names(column) or [str(k) for k in range(cells.shape[1])]
        if len(names) != cells.shape[1]:
            raise InputError(f"{self.where}: labels '{column}' have {cells.shape[1]} columns for {len(names)} classes")
        return Cells(tuple(names), cells)

    def class_names(self, column: str) -> list[str] | None:
        """The classes that the file lists."""
        return list(self.names_of[column]) if column in self.names_of else self.names

    def texts(self, column: str) -> list[str] | None:
        """An array as texts; None if it is absent or holds something else."""
        values = self.read(column) if column in self.columns else None
        if values is None or values.ndim != 1 or values.dtype.kind not in "iubU":
            return None
        if len(values) != self.num_rows:
            raise InputError(f"{self.where}: {len(values):,} entries '{column}' for {self.num_rows:,} images")
        return [str(value) for value in values.tolist()]

    def is_picture_like(self, column: str) -> bool:
        """Whether an array is the one of pictures."""
        return column == self.image

    def pictures(self, column: str, limits: Limits) -> ArrayPictures:
        """An array as pictures."""
        if column != self.image or self.images is None:
            return ArrayPictures(checked_images(self.read(column), f"{self.where}: array '{column}'"))
        return ArrayPictures(self.images)

    def place(self, row: int) -> str:
        """The index into the arrays, counted from 0 as numpy does."""
        return f"index {row}"


def npz_columns(file: Place, image: str | None) -> ArrayColumns:
    """An .npz with `x`, labels, and perhaps `class_names` and `id`.

    Raises:
        InputError: the archive is damaged, or its pictures are misshapen.
    """
    names: list[str] = []

    def read(name: str) -> np.ndarray:
        with _archive(file, f"array '{name}'") as archive:
            return np.asarray(archive[name])

    with _archive(file, "it") as archive:
        names = list(archive.files)
    metadata = parse_metadata(str(read(KEY)), str(file)) if KEY in names else None
    class_names = [str(name) for name in read("class_names")] if "class_names" in names else None
    columns = [name for name in names if name not in _NOT_COLUMNS]
    return ArrayColumns(str(file), columns, read, image, metadata, class_names)


def array_columns(arrays: Mapping[str, Any], image: str | None) -> ArrayColumns:
    """The arrays of a program, named as in an .npz: `x`, labels, and perhaps `class_names` and `id`."""
    found = {str(name): np.asarray(values) for name, values in arrays.items()}
    class_names = [str(name) for name in found.pop("class_names")] if "class_names" in found else None
    return ArrayColumns("the arrays", list(found), found.__getitem__, image, class_names=class_names)


@contextmanager
def _archive(file: Place, what: str) -> Iterator[Any]:
    try:
        # Opened here, because numpy leaves a damaged file open.
        with file.open() as handle, np.load(handle, allow_pickle=False) as archive:
            yield archive
    except _FAULTS as error:
        raise InputError(f"{file}: {what} cannot be read as .npz: {error}") from error


def checked_images(array: np.ndarray, what: str) -> np.ndarray:
    """Images as (N, H, W) or (N, H, W, 3); a single channel loses its axis.

    Args:
        array: as given.
        what: names it in messages.

    Raises:
        InputError: it is not of type uint8, has other axes or holds no pixel.
    """
    shape = "x".join(map(str, array.shape))
    if array.dtype != np.uint8:
        raise InputError(f"{what} is of type {array.dtype}; uint8 from 0 to 255 is needed")
    if array.ndim == 4 and array.shape[3] == 1:
        array = array[..., 0]
    if array.ndim == 4 and array.shape[1] == 3 != array.shape[3]:
        raise InputError(f"{what} is {shape}; the channels belong last: x.transpose(0, 2, 3, 1)")
    if array.ndim not in (3, 4) or (array.ndim == 4 and array.shape[3] != 3):
        raise InputError(f"{what} is {shape}; (N, H, W) or (N, H, W, 3) is needed")
    if not array.size:
        raise InputError(f"{what} is {shape}: no images")
    return array
