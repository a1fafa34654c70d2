"""What our own files say about themselves, and which class names foreign ones bring."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from winnow.errors import InputError

KEY = "winnow"
SCHEMA_VERSION = 1


class TableMetadata(BaseModel):
    """How to read a collection that winnow wrote; stands in the file as JSON.

    Attributes:
        schema_version: of this record.
        class_names: in index order.
        label_column: the labels to train on.
        clean_label_column: the truth.
        image_column: the pictures, or the paths to them.
        test: the address of the test set that belongs to it.
        grey: see `Source`.
        mirror: see `Source`.
        noise: how the labels were made wrong.
    """

    schema_version: int = SCHEMA_VERSION
    class_names: list[str] | None = None
    label_column: str | None = None
    clean_label_column: str | None = None
    image_column: str | None = None
    test: str | None = None
    grey: bool = False
    mirror: bool | None = None
    noise: dict[str, Any] | None = None


def parse_metadata(text: str | bytes, where: str) -> TableMetadata:
    """The record that stands in a file.

    Raises:
        InputError: it is damaged, or of a newer version.
    """
    try:
        record = TableMetadata.model_validate_json(text)
    except ValidationError as error:
        raise InputError(f"{where}: its winnow metadata are damaged ({error.errors()[0]['msg']})") from error
    if record.schema_version > SCHEMA_VERSION:
        raise InputError(f"{where}: written by a newer winnow (schema {record.schema_version}); update winnow")
    return record


def of_parquet(metadata: Mapping[bytes, bytes] | None, where: str) -> TableMetadata:
    """The record in a Parquet file's key-value metadata."""
    metadata = metadata or {}
    if KEY.encode() in metadata:
        return parse_metadata(metadata[KEY.encode()], where)
    return TableMetadata()


def hugging_face_names(metadata: Mapping[bytes, bytes] | None) -> dict[str, list[str]]:
    """The class names of the columns that Hugging Face's record in a file calls class labels, or lists of them."""
    try:
        features = json.loads((metadata or {}).get(b"huggingface", b"{}"))["info"]["features"]
        kinds = {str(column): feature.get("feature", feature) for column, feature in features.items()}
        return {
            column: [str(name) for name in kind["names"]]
            for column, kind in kinds.items()
            if isinstance(kind, dict) and isinstance(kind.get("names"), list)
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return {}
