"""A noisy collection as a file that is DATA again: labels, truth, and how the noise was made."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from winnow.data.classes import MISSING_TEXTS
from winnow.data.metadata import KEY, TableMetadata
from winnow.data.pictures import ArrayPictures, EncodedPictures, FilePictures
from winnow.data.source import Source, Unreadable
from winnow.errors import InputError
from winnow.files import atomic_write, write_error
from winnow.noise.inject import LabelNoise

FORMATS = (".parquet", ".csv", ".npz")
_ROWS_A_GROUP = 5_000


def labels_hash(labels: np.ndarray) -> str:
    """SHA-256 of class indices as little-endian int64."""
    return sha256(np.ascontiguousarray(labels, dtype="<i8").tobytes()).hexdigest()


def noise_record(source: Source, noise: LabelNoise) -> dict[str, Any]:
    """Everything that makes the noise reproducible."""
    return {
        "generator": noise.generator,
        "convention": noise.convention,
        "rate": noise.rate,
        "realised_rate": noise.realised_rate,
        "draw": noise.draw,
        "seed": noise.seed,
        "map": {str(key): target for key, target in noise.mapping.items()} if noise.mapping else None,
        "source": source.address,
        "clean_labels_sha256": labels_hash(source.noisy_labels),
        "noisy_labels_sha256": labels_hash(noise.noisy_labels),
    }


def check_output(source: Source, out: Path) -> None:
    """Refuse a format that cannot hold this source, before any work is done.

    Raises:
        InputError: the ending is unknown or does not fit the kind of source.
    """
    kind = out.suffix.lower()
    if kind not in FORMATS:
        raise InputError(f"{out}: the ending must be one of {', '.join(FORMATS)}")
    if kind == ".csv" and not isinstance(source.pictures, FilePictures):
        raise InputError(f"{out}: a .csv holds paths, but {source.address} has no image files; write .parquet")
    if kind == ".npz" and not isinstance(source.pictures, ArrayPictures):
        raise InputError(f"{out}: an .npz holds arrays, but {source.address} has encoded images; write .parquet")


def write_noisy(source: Source, noise: LabelNoise, out: Path) -> None:
    """Write a collection with noisy labels: its own become the truth, the noisy ones those to train on.

    A .parquet keeps encoded images as they are, images in files by their path relative to `out`, arrays as
    PNG. A .csv (for images in files) holds class names, an .npz (for arrays) indices. Further label columns
    are kept.

    Args:
        source: the collection, whose labels the noise was made from.
        noise: the noisy labels.
        out: the file; an older one is replaced.

    Raises:
        InputError: the format does not fit, or a name cannot be written.
        MachineError: the file cannot be written.
    """
    check_output(source, out)
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


def _other_labels(source: Source, taken: set[str]) -> dict[str, np.ndarray]:
    """Further label columns; one whose name is needed here gets `_before` behind it."""
    found: Mapping[str, np.ndarray] = source.other_labels() if source.other_labels else {}
    return {f"{name}_before" if name in taken else name: labels for name, labels in found.items()}


def _write_parquet(source: Source, noise: LabelNoise, out: Path) -> None:
    pictures = source.pictures
    image_column = "path" if isinstance(pictures, FilePictures) else "image"
    columns: dict[str, pa.Array | pa.ChunkedArray] = {"id": pa.array(source.ids, pa.string())}
    if isinstance(pictures, FilePictures):
        columns["path"] = pa.array(_relative_paths(pictures, out), pa.string())
    columns["label"] = _nullable(source.noisy_labels)
    columns["noisy_label"] = _nullable(noise.noisy_labels)
    others = _other_labels(source, {*columns, image_column})
    columns.update((name, _nullable(labels)) for name, labels in others.items())
    table = pa.table(columns)
    record = _metadata(source, noise, label="label", image=image_column).model_dump_json()
    schema = table.schema
    if image_column == "image":
        schema = schema.insert(1, pa.field("image", pa.large_binary()))
    schema = schema.with_metadata({KEY: record})

    def write(file: BinaryIO) -> None:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for start in range(0, len(source), _ROWS_A_GROUP):
                part = table.slice(start, _ROWS_A_GROUP)
                if image_column == "image":
                    images = _encoded(source, range(start, start + part.num_rows))
                    part = part.add_column(1, "image", [images])
                writer.write_table(part.cast(schema))

    atomic_write(out, write)


def _encoded(source: Source, rows: range) -> pa.Array:
    pictures = source.pictures
    if isinstance(pictures, EncodedPictures):
        return pa.array([_original(pictures, row) for row in rows], pa.large_binary())
    if not isinstance(pictures, ArrayPictures):
        raise InputError(f"{source.address}: pictures of the type {type(pictures).__name__} cannot be written")
    return pa.array([_png(pictures.array[row]) for row in rows], pa.large_binary())


def _original(pictures: EncodedPictures, row: int) -> bytes | None:
    try:
        return pictures.encoded(row)
    except Unreadable:  # its file is missing: the row stays, and is set aside again by whoever reads the copy
        return None


def _png(pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def _nullable(labels: np.ndarray) -> pa.Array:
    return pa.array(labels, pa.int64(), mask=labels < 0)


def _relative_paths(pictures: FilePictures, out: Path) -> list[str]:
    folder = os.path.abspath(out.parent)
    paths = [os.path.relpath(path, folder) if path else "" for path in pictures.paths]
    for path in paths:
        try:
            path.encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{out}: the file name {path!r} is not UTF-8 and has no place in a table; rename it"
            ) from None
    return paths


def _write_csv(source: Source, noise: LabelNoise, out: Path) -> None:
    assert isinstance(source.pictures, FilePictures)
    unclear = [name for name in source.class_names if name != name.strip() or name in MISSING_TEXTS]
    if unclear:
        raise InputError(f"{out}: a .csv cannot hold the class name {unclear[0]!r} safely; write .parquet")
    columns: dict[str, list[str]] = {
        "path": _relative_paths(source.pictures, out),
        "label": _names(source, source.noisy_labels),
        "noisy_label": _names(source, noise.noisy_labels),
    }
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
        "x": source.pictures.array,
        "y": source.noisy_labels,
        "noisy_label": noise.noisy_labels,
        "class_names": np.array(source.class_names, dtype=np.str_),
        "id": np.array(list(source.ids), dtype=np.str_),
        KEY: np.array(_metadata(source, noise, label="y", image="x").model_dump_json()),
    }
    arrays.update(_other_labels(source, set(arrays)))

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, allow_pickle=False, **arrays)

    atomic_write(out, write)
