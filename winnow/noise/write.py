"""A noisy collection as a file that is DATA again: labels, truth, and how the noise was made."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from winnow.data.classes import MISSING_TEXTS
from winnow.data.copying import encoded, file_path
from winnow.data.metadata import KEY, TableMetadata
from winnow.data.pictures import ArrayPictures, FilePictures, JoinedPictures
from winnow.data.source import Pictures, Source, Unreadable
from winnow.errors import InputError
from winnow.files import atomic_write, write_error
from winnow.noise.channel import LabelNoise
from winnow.noise.noisy_source import true_labels

FORMATS = (".parquet", ".csv", ".npz")
_ROWS_A_GROUP = 5_000


def labels_hash(labels: np.ndarray) -> str:
    """SHA-256 of class indices as little-endian int64."""
    return sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()


def noise_record(source: Source, noise: LabelNoise) -> dict[str, Any]:
    """Everything that makes the noise reproducible."""
    return {
        "generator": noise.generator,
        "taxonomy": noise.taxonomy,
        "convention": noise.convention,
        "rate": noise.rate,
        "realised_rate": noise.realised_rate,
        "realised_rates": dict(noise.realised_rates),
        "draw": noise.draw,
        "seed": noise.seed,
        "map": {str(key): target for key, target in noise.mapping.items()} if noise.mapping else None,
        "source": source.address,
        "clean_labels_sha256": labels_hash(true_labels(source, noise)),
        "noisy_labels_sha256": labels_hash(noise.noisy_labels),
    }


def check_output(source: Source, out: Path, pictures: Pictures | None = None) -> None:
    """Refuse a format that cannot hold this source, before any work is done.

    Args:
        source: the collection.
        out: the file.
        pictures: its images, where some were replaced.

    Raises:
        InputError: the ending is unknown or does not fit the kind of source.
    """
    kind = out.suffix.lower()
    if kind not in FORMATS:
        raise InputError(f"{out}: the ending must be one of {', '.join(FORMATS)}")
    if kind == ".csv" and _is_in_files(source.pictures) != (True, False):
        raise InputError(f"{out}: a .csv holds paths, but {source.address} has no image files; write .parquet")
    if kind == ".csv" and pictures is not None and _is_in_files(pictures) != (True, False):
        raise InputError(f"{out}: a .csv holds paths, but the foreign images are no files; write .parquet")
    if kind == ".npz" and not isinstance(source.pictures, ArrayPictures):
        raise InputError(f"{out}: an .npz holds arrays, but {source.address} has encoded images; write .parquet")


def write_noisy(source: Source, noise: LabelNoise, out: Path) -> None:
    """Write a collection with noisy labels: its own become the truth, the noisy ones those to train on.

    A .parquet keeps encoded images as they are, images in files by their path relative to `out` (or, where that is no
    UTF-8, by their bytes), arrays as PNG. A .csv (for images in files) holds class names, an .npz (for arrays) indices.
    Further label columns are kept. Foreign images are marked in a column `foreign` and have no truth.

    Args:
        source: the collection, whose labels the noise was made from.
        noise: the noisy labels.
        out: the file; an older one is replaced.

    Raises:
        InputError: the format does not fit, or a name cannot be written.
        MachineError: the file cannot be written.
    """
    check_output(source, out, noise.pictures)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_error(error, out.parent, 0) from error
    {".parquet": _write_parquet, ".csv": _write_csv, ".npz": _write_npz}[out.suffix.lower()](source, noise, out)


def _metadata(source: Source, noise: LabelNoise, *, label: str, image: str) -> TableMetadata:
    return TableMetadata(
        class_names=list(source.class_names),
        label_column="noisy_label",
        clean_label_column=label,
        image_column=image,
        test=source.test_address,
        grey=source.grey,
        mirror=source.mirror,
        noise=noise_record(source, noise),
    )


def _label_columns(source: Source, noise: LabelNoise, label: str) -> dict[str, np.ndarray]:
    """The truth under its name, the noisy labels, and those of annotators."""
    return {label: true_labels(source, noise), "noisy_label": noise.noisy_labels, **noise.label_columns}


def _other_labels(source: Source, taken: set[str]) -> dict[str, np.ndarray]:
    """Further label columns; one whose name is needed here gets `_before` behind it."""
    found: Mapping[str, np.ndarray] = source.other_labels() if source.other_labels else {}
    return {f"{name}_before" if name in taken else name: labels for name, labels in found.items()}


def _write_parquet(source: Source, noise: LabelNoise, out: Path) -> None:
    pictures = noise.pictures or source.pictures
    in_files, elsewhere = _is_in_files(pictures)
    paths = _relative_paths(pictures, out) if in_files else []
    # A name that is no text has no place in a table: such an image brings its bytes.
    unwritable = [row for row, path in enumerate(paths) if not _is_text(path)]
    for row in unwritable:
        paths[row] = ""
    elsewhere = elsewhere or bool(unwritable)
    image_column = "image" if elsewhere else "path"
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"id": pa.array(source.ids, pa.string())}
    if not elsewhere:
        columns["path"] = pa.array(paths, pa.string())
    columns.update((name, _nullable(labels)) for name, labels in _label_columns(source, noise, "label").items())
    if noise.foreign is not None:
        columns["foreign"] = pa.array(noise.foreign)
    others = _other_labels(source, {*columns, image_column})
    columns.update((name, _nullable(labels)) for name, labels in others.items())
    table = pa.table(columns)
    record = _metadata(source, noise, label="label", image=image_column).model_dump_json()
    schema = table.schema
    if image_column == "image":
        # Beside files, foreign images without one bring their bytes: the struct that Hugging Face writes.
        kind = pa.struct({"bytes": pa.large_binary(), "path": pa.string()}) if in_files else pa.large_binary()
        schema = schema.insert(1, pa.field("image", kind))
    schema = schema.with_metadata({KEY: record})

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for start in range(0, len(source), _ROWS_A_GROUP):
                part = table.slice(start, _ROWS_A_GROUP)
                if image_column == "image":
                    rows = range(start, start + part.num_rows)
                    images = [_image(pictures, row, paths) for row in rows]
                    part = part.add_column(1, "image", [pa.array(images, schema.field("image").type)])
                writer.write_table(part.cast(schema))

    atomic_write(out, write)


def _image(pictures: Pictures, row: int, paths: Sequence[str]) -> bytes | dict[str, bytes | str | None] | None:
    """An image's bytes; beside files with its path in their place, where it is one."""
    if not paths:
        return _encoded(pictures, row)
    return {"bytes": None if paths[row] else _encoded(pictures, row), "path": paths[row] or None}


def _encoded(pictures: Pictures, row: int) -> bytes | None:
    """An image as it is stored, else as PNG."""
    try:
        return encoded(pictures, row)
    except Unreadable:  # its file is missing: the row stays, and is set aside again by whoever reads the copy
        return None


def _nullable(labels: np.ndarray) -> pa.Array:
    return pa.array(labels, pa.int64(), mask=labels < 0)


def _is_in_files(pictures: Pictures) -> tuple[bool, bool]:
    """Whether any picture lies in a file of its own, and whether any does not."""
    if isinstance(pictures, JoinedPictures):
        found = [_is_in_files(part) for part in pictures.parts]
        return any(own for own, _ in found), any(other for _, other in found)
    in_file = isinstance(pictures, FilePictures)
    return in_file, not in_file


def _relative_paths(pictures: Pictures, out: Path) -> list[str]:
    """Paths of the images in files, relative to the table; empty for others."""
    folder = os.path.abspath(out.parent)
    found = (file_path(pictures, row) for row in range(len(pictures)))
    return [os.path.relpath(path, folder) if path else "" for path in found]


def _is_text(path: str) -> bool:
    """Whether a path is UTF-8."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write_csv(source: Source, noise: LabelNoise, out: Path) -> None:
    unclear = [name for name in source.class_names if name != name.strip() or name in MISSING_TEXTS]
    if unclear:
        raise InputError(f"{out}: a .csv cannot hold the class name {unclear[0]!r} safely; write .parquet")
    paths = _relative_paths(noise.pictures or source.pictures, out)
    for path in paths:
        if not _is_text(path):
            raise InputError(f"{out}: the file name {path!r} is not UTF-8; rename it, or write .parquet")
    columns: dict[str, list[str]] = {
        "path": paths,
        **{name: _names(source, labels) for name, labels in _label_columns(source, noise, "label").items()},
    }
    if noise.foreign is not None:
        columns["foreign"] = ["true" if is_foreign else "false" for is_foreign in noise.foreign]
    others = _other_labels(source, set(columns))
    columns.update((name, _names(source, labels)) for name, labels in others.items())
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(columns)
    writer.writerows(zip(*columns.values(), strict=True))
    atomic_write(out, text.getvalue().encode())


def _names(source: Source, labels: np.ndarray) -> list[str]:
    return [source.class_names[label] if label >= 0 else "" for label in labels]


def _write_npz(source: Source, noise: LabelNoise, out: Path) -> None:
    assert isinstance(source.pictures, ArrayPictures)
    arrays = {
        "x": _array(source.pictures, noise),
        **_label_columns(source, noise, "y"),
        "class_names": np.array(source.class_names, dtype=np.str_),
        "id": np.array(list(source.ids), dtype=np.str_),
        KEY: np.array(_metadata(source, noise, label="y", image="x").model_dump_json()),
    }
    if noise.foreign is not None:
        arrays["foreign"] = noise.foreign
    arrays.update(_other_labels(source, set(arrays)))

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, allow_pickle=False, **arrays)

    atomic_write(out, write)


def _array(pictures: ArrayPictures, noise: LabelNoise) -> np.ndarray:
    """The images, foreign ones in their places."""
    if noise.pictures is None or noise.foreign is None:
        return pictures.array
    array = pictures.array.copy()
    for row in np.flatnonzero(noise.foreign).tolist():
        try:
            pixels = noise.pictures.read(row)
        except Unreadable as fault:
            raise InputError(
                f"a foreign image cannot be used ({fault.reason}); choose another donor, or write .parquet"
            ) from fault
        array[row] = pixels[..., 0] if array.ndim == 3 else pixels
    return array
