"""Published collections in the files in which torchvision keeps them, extracted or as they were fetched.

The pickles of CIFAR are read by an unpickler that can make numpy arrays and plain containers, nothing else.
"""

from __future__ import annotations

import gzip
import pickle
import tarfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from winnow.data.fetch import LARGEST, fetch
from winnow.data.reading import Reading
from winnow.data.source import first_line
from winnow.errors import InputError


@dataclass(frozen=True)
class Published:
    """A file that can be fetched.

    Attributes:
        path: below the root.
        url: where it comes from.
        md5: of its content.
    """

    path: str
    url: str
    md5: str


def _idx_files(folder: str, site: str, checksums: Sequence[str]) -> tuple[Published, ...]:
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    return tuple(
        Published(f"{folder}/raw/{name}-ubyte.gz", f"{site}{name}-ubyte.gz", md5)
        for name, md5 in zip(names, checksums, strict=True)
    )


MNIST = _idx_files(
    "MNIST",
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    (
        "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "d53e105ee54ea40749a09fcbcd1e9432",
        "9fb629c4189551a2d022fa330f9573f3",
        "ec29112dd5afa0611ce80d1b7f02629c",
    ),
)
FASHION_MNIST = _idx_files(
    "FashionMNIST",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
    (
        "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
        "25c81989df183df01b3e8a0aad5dffbe",
        "bef4ecab320f06d8554ea6380940ec79",
        "bb300cfdad3c16e7a12a480ee83cd310",
    ),
)
CIFAR10 = Published(
    "cifar-10-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-10-python.tar.gz",
    "c58f30108f718f92721af3b95e74349a",
)
CIFAR100 = Published(
    "cifar-100-python.tar.gz",
    "https://www.cs.toronto.edu/~kriz/cifar-100-python.tar.gz",
    "eb9058c3a382ffc7106e4002c42a8d85",
)


def idx_arrays(files: Sequence[Published], part: str, root: Path, reading: Reading) -> dict[str, np.ndarray] | None:
    """Images `x` and labels `y` of MNIST's kind of files; None where they are not there and may not be fetched.

    Args:
        files: images and labels for training, then for tests.
        part: `train` or `test`.
        root: where torchvision was told to keep them.
        reading: whether to fetch what is missing.
    """
    images, labels = files[:2] if part == "train" else files[2:]
    found = [_there(file, root, reading, plain=True) for file in (images, labels)]
    if None in found:
        return None
    x, y = (_idx(path, number) for path, number in zip(found, (3, 1), strict=True) if path is not None)
    if len(x) != len(y):
        raise InputError(f"{found[0]}: {len(x):,} images, but {len(y):,} labels in {found[1]}")
    return {"x": x, "y": y.astype(np.int64)}


def cifar_batches(
    archive: Published, folder: str, names: Sequence[str], root: Path, reading: Reading
) -> list[dict[str, Any]] | None:
    """Some pickles of CIFAR, from their folder or straight from the archive; None where neither is there.

    Args:
        archive: the published one.
        folder: what it is extracted to.
        names: of the pickles.
        root: where torchvision was told to keep them.
        reading: whether to fetch what is missing.
    """
    paths = [root / folder / name for name in names]
    if all(path.is_file() for path in paths):
        return [_record(path.read_bytes(), str(path)) for path in paths]
    packed = _there(archive, root, reading)
    if packed is None:
        return None
    contents = _members(packed, [f"{folder}/{name}" for name in names])
    return [_record(data, f"{packed}: {folder}/{name}") for data, name in zip(contents, names, strict=True)]


def cifar_images(batches: Sequence[dict[str, Any]], where: str) -> np.ndarray:
    """uint8 (N, 32, 32, 3) from the rows of CIFAR's pickles.

    Raises:
        InputError: they are no such rows.
    """
    rows = [data for batch in batches if isinstance(data := batch.get("data"), np.ndarray)]
    if len(rows) < len(batches) or not all(data.dtype == np.uint8 and data.shape[1:] == (3072,) for data in rows):
        raise InputError(f"{where}: not the pictures of CIFAR")
    return np.ascontiguousarray(np.concatenate(rows).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))


def human_labels(path: Path, count: int) -> dict[str, np.ndarray]:
    """The label columns of `CIFAR-10_human.pt` or `CIFAR-100_human.pt`, as published; nothing in it is run.

    Raises:
        InputError: the file is no such record, or of another length.
    """
    import torch

    try:
        with torch.serialization.safe_globals(list(_ARRAY_PARTS)):
            record = torch.load(path, map_location="cpu", weights_only=True)
        columns = {str(name): np.asarray(labels).astype(np.int64) for name, labels in record.items()}
    except Exception as error:  # torch.load fails in every way on what it did not write.
        raise InputError(f"{path}: cannot be read as human labels: {first_line(error)}") from error
    wrong = [name for name, labels in columns.items() if labels.shape != (count,)]
    if wrong:
        raise InputError(f"{path}: '{wrong[0]}' has not one label for each of the {count:,} images")
    return columns


def _there(file: Published, root: Path, reading: Reading, *, plain: bool = False) -> Path | None:
    """Where a file is, unpacked if that will do, fetched if that is allowed."""
    path = root / file.path
    if plain and path.with_suffix("").is_file():
        return path.with_suffix("")
    if not path.is_file() and reading.download:
        fetch(file.url, path, file.md5, progress=reading.progress)
    return path if path.is_file() else None


def _idx(path: Path, dimensions: int) -> np.ndarray:
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            head = file.read(4 + 4 * dimensions)
            shape = [int.from_bytes(head[start : start + 4]) for start in range(4, len(head), 4)]
            if head[:4] != bytes([0, 0, 8, dimensions]) or int(np.prod(shape, dtype=object)) > LARGEST:
                raise InputError(f"{path}: no IDX file of {dimensions}-dimensional bytes")
            data = file.read(int(np.prod(shape)) + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read: {first_line(error)}") from error
    if len(data) != np.prod(shape):
        raise InputError(f"{path}: {len(data):,} bytes of data, {int(np.prod(shape)):,} are announced; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


def _members(path: Path, names: Sequence[str]) -> list[bytes]:
    """Some files of a compressed archive, in one pass and without extracting anything."""
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r|gz") as archive:
            for member in archive:
                file = archive.extractfile(member) if member.name in names and member.isreg() else None
                if file is not None and member.size <= LARGEST:
                    found[member.name] = file.read()
                if len(found) == len(names):
                    break
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise InputError(f"{path}: damaged: {first_line(error)}; fetch it again") from error
    absent = [name for name in names if name not in found]
    if absent:
        raise InputError(f"{path}: holds no {absent[0]}")
    return [found[name] for name in names]


def _array_parts() -> list[Callable[..., Any]]:
    """What numpy arrays are pickled by."""
    from numpy._core.multiarray import _reconstruct, scalar

    kinds = [type(np.dtype(kind)) for kind in (np.uint8, np.int8, np.int16, np.int32, np.int64, np.float32, np.float64)]
    return [_reconstruct, scalar, np.ndarray, np.dtype, *kinds]


def _as_bytes(text: str, encoding: str) -> bytes:
    """How Python 3 writes bytes in an old pickle; no other codec is of use."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"it asks for the codec {encoding}")
    return text.encode("latin1")


_ARRAY_PARTS = _array_parts()
_ALLOWED: dict[tuple[str, str], Any] = {
    ("_codecs", "encode"): _as_bytes,
    ("numpy.core.multiarray", "_reconstruct"): _ARRAY_PARTS[0],
    ("numpy._core.multiarray", "_reconstruct"): _ARRAY_PARTS[0],
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
}


class _ArraysOnly(pickle.Unpickler):
    """Unpickles arrays, lists, dictionaries, texts and numbers; whatever else a pickle asks for is refused."""

    def find_class(self, module: str, name: str) -> Any:
        """One of the few parts of numpy's arrays."""
        if (module, name) in _ALLOWED:
            return _ALLOWED[module, name]
        raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no data of CIFAR needs")


def _record(data: bytes, where: str) -> dict[str, Any]:
    try:
        record = _ArraysOnly(BytesIO(data), encoding="latin1").load()
    except Exception as error:  # A damaged pickle fails in every way.
        raise InputError(f"{where}: refused as data of CIFAR: {first_line(error)}") from error
    if not isinstance(record, dict):
        raise InputError(f"{where}: not a record of CIFAR")
    return record
