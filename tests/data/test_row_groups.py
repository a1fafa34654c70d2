"""Parquet columns that are read as they are asked for."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from winnow.data import row_groups
from winnow.data.row_groups import StoredColumn
from winnow.errors import InputError

VALUES = [None if row == 11 else b"%d" % row * (row % 7) for row in range(100)]


@pytest.fixture(params=["column", "field"])
def column(request, tmp_path):
    values = VALUES if request.param == "column" else [{"path": "x", "bytes": value} for value in VALUES]
    table = pa.table({"other": range(100), "image": values})
    paths = [tmp_path / "1.parquet", tmp_path / "2.parquet"]
    pq.write_table(table.slice(0, 70), paths[0], row_group_size=30)
    pq.write_table(table.slice(70), paths[1], row_group_size=30)
    files = [pq.ParquetFile(path) for path in paths]
    return StoredColumn(files, "image" if request.param == "column" else "image.bytes", "here")


def sequence(column):
    return [values[place].as_py() for values, places in column.sequence() for place in places]


@pytest.mark.parametrize("kept", [0, 10**9])
def test_every_value_can_be_had_in_any_order(column, monkeypatch, kept):
    monkeypatch.setattr(row_groups, "_KEPT_BYTES", kept)
    rows = np.random.default_rng(0).permutation(100)

    assert len(column) == 100
    assert [column.value(row) for row in rows] == [VALUES[row] for row in rows]


@pytest.mark.parametrize("batch", [1, 50, 10**6])
def test_all_values_come_in_one_pass(column, monkeypatch, batch):
    monkeypatch.setattr(row_groups, "_BATCH_BYTES", batch)

    assert sequence(column) == VALUES


@pytest.mark.parametrize("rows", [[], [5], [0, 1, 29, 30, 69, 70, 99], [98, 2, 2, 50], [3, 3, 60]])
def test_some_rows_of_some_rows(column, rows):
    part = column.take(np.arange(99, -1, -1)).take(99 - np.array(rows, dtype=np.int64))

    assert len(part) == len(rows)
    assert sequence(part) == [VALUES[row] for row in rows]
    assert [part.value(row) for row in range(len(rows))] == [VALUES[row] for row in rows]


def test_row_groups_are_forgotten_beyond_the_limit(column, monkeypatch):
    monkeypatch.setattr(row_groups, "_KEPT_BYTES", column._bytes_of(0) + column._bytes_of(1))

    for row in range(100):
        column.value(row)

    assert 1 <= len(column._kept) <= 2


def test_a_damaged_row_group_is_one_line(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": [bytes([row]) * 500 for row in range(200)]}), path, use_dictionary=False)
    data = bytearray(path.read_bytes())
    data[4:60] = b"\xff" * 56
    path.write_bytes(data)

    with pytest.raises(InputError, match=r"^a.parquet: column 'image' cannot be read: [^\n]+$"):
        sequence(StoredColumn([pq.ParquetFile(path)], "image", "a.parquet"))
