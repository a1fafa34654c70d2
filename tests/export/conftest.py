"""A folder of photos and a table of several classes an image, each with its audit."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.export.audits import jpeg, png, write_audit


@pytest.fixture
def photos(tmp_path):
    """Twelve pictures in three classes, one of them a JPEG with a PNG's name.

    Rows: cat/0, cat/3, cat/6, cat/9 are 0 to 3, dog 4 to 7 (1, 10, 4, 7), fox 8 to 11 (11, 2, 5, 8), as sorted.
    """
    for number in range(12):
        path = tmp_path / "photos" / ("cat", "dog", "fox")[number % 3] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(jpeg(20 * number) if number == 3 else png(20 * number))
    return tmp_path / "photos"


@pytest.fixture
def audited(photos, tmp_path):
    """An audit of `photos` with every kind of fate.

    Row 1 looks like fox, row 2 is an outlier, row 3 cannot be read, 5 is a copy of 4, 6 and 9 are copies with
    two labels.
    """
    folder = tmp_path / "audit"
    write_audit(
        folder,
        photos,
        found={
            "wrong_label": [1],
            "conflicting_duplicate": [6, 9],
            "exact_duplicate": [5, 9],
            "outlier": [2],
            "unreadable": [3],
        },
        suggested={1: 2},
        quality={1: 0.05},
        reasons={1: "looks like fox", 2: "far from all", 3: "truncated: cut off"},
        copies=[(5, 4), (9, 6)],
    )
    return folder


@pytest.fixture
def several(tmp_path):
    """An audit of a table of six pictures with lists of classes: empty ones, missing ones, unknown classes."""
    lists = [[0], [0, 2], [], None, [1], [2]]
    table = pa.table(
        {
            "id": pa.array([f"img {number}" for number in range(6)]),
            "image": pa.array([png(20 * number) for number in range(6)], pa.binary()),
            "label": pa.array(lists, pa.list_(pa.int64())),
            "unknown_label": pa.array([[], [], [], [], [2], []], pa.list_(pa.int64())),
        }
    )
    names = b'{"schema_version": 1, "class_names": ["cat", "dog", "fox"], "label_column": "label"}'
    pq.write_table(table.replace_schema_metadata({b"winnow": names}), tmp_path / "several.parquet")
    folder = tmp_path / "several-audit"
    qualities = {row: np.full(3, 0.9) for row in range(6)} | {1: np.array([0.9, 0.9, 0.1])}
    write_audit(
        folder,
        tmp_path / "several.parquet",
        found={"wrong_label": [1]},
        suggested={1: np.array([1, 0, 0])},
        quality=qualities,
    )
    return folder
