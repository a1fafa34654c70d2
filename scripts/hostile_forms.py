"""The hostile files in three forms: a folder of classes, a table of paths, a table of bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import hostile_cases
import hostile_files
import numpy as np
from hostile_cases import CLASSES
from hostile_files import USED, Item


@dataclass(frozen=True)
class Placed:
    """A file of the corpus in one of its three forms: how the image is called there, and its class."""

    item: Item
    id: str
    label: str


def build(corpus: Path, items: Sequence[Item], good_a_class: int = 12) -> dict[str, list[Placed]]:
    """Writes `photos`, `table.csv` and `table.parquet`; gives what is in each.

    Args:
        corpus: an empty folder.
        items: the hostile files, in all three forms as far as they can be.
        good_a_class: pictures without fault, of each class.
    """
    chance = np.random.default_rng(1)
    outside = corpus / "outside"
    outside.mkdir()
    (outside / "secret.png").write_bytes(hostile_files.encoded(hostile_files.picture(chance, 0), "PNG"))
    good = []
    for number, name in enumerate(CLASSES):
        (corpus / "photos" / name).mkdir(parents=True)
        good += [(Item(0, f"good-{i}.png", _good(chance, number), USED), name) for i in range(good_a_class)]
    placed = good + [(item, CLASSES[number % 2]) for number, item in enumerate(items)]
    for item, label in placed:
        item.write(corpus / "photos" / label)
    folder = [Placed(item, _printable(f"{label}/{item.name}"), label) for item, label in placed]
    missing = Item(18, "deleted.jpg", b"", "unreadable")
    in_table = [(item, label) for item, label in placed if "\udcff" not in item.name]
    table = [Placed(item, f"photos/{label}/{item.name}", label) for item, label in [*in_table, (missing, CLASSES[0])]]
    rows = {"path": [each.id for each in table], "label": [each.label for each in table]}
    hostile_cases.write_csv(corpus / "table.csv", rows)
    null = Item(18, "null.jpg", b"", "unreadable|empty")
    in_bytes = [(item, label) for item, label in placed if isinstance(item.content, bytes)]
    stored = [
        Placed(item, _printable(f"{label}/{item.name}"), label) for item, label in [*in_bytes, (null, CLASSES[0])]
    ]
    contents = [None if each.item is null else each.item.content for each in stored]
    columns = {"id": [each.id for each in stored], "image": contents, "label": [each.label for each in stored]}
    hostile_cases.write_parquet(corpus / "table.parquet", columns)
    return {"photos": folder, "table.csv": table, "table.parquet": stored}


def _good(chance: np.random.Generator, kind: int) -> bytes:
    return hostile_files.encoded(hostile_files.picture(chance, kind), "PNG")


def _printable(name: str) -> str:
    """Bytes that are no UTF-8 as escapes: the id that such a file gets."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def expected_codes(item: Item, source: str) -> set[str]:
    """What may become of a file in one of the forms."""
    if item.name == "outside.png" and source == "table.csv":
        return {USED}  # paths in a table may point anywhere
    return set(item.expected.split("|"))
