"""Per-sample memory goes back to its checkpoint, whatever happened after it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from winnow.labels.memory import Damaged, Memory


def memory(folder: Path | None, num: int = 20) -> tuple[Memory, object, object]:
    made = Memory(num, folder)
    return made, made.rows("wide", 3, fill=0.5), made.rows("narrow", dtype="int64")


def test_rows_start_with_the_fill_value_and_keep_what_is_written():
    made = Memory(5)
    rows = made.rows("beliefs", 2, fill=0.5)

    rows.write(torch.tensor([3, 1]), torch.tensor([[1.0, 0.0], [0.25, 0.75]]))

    assert rows.read(torch.tensor([1, 3, 0])).tolist() == [[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]]


def test_one_name_is_one_memory():
    made = Memory(5)
    made.rows("a")

    with pytest.raises(ValueError, match="two per-sample memories"):
        made.rows("a")


writes = st.lists(
    st.one_of(
        st.tuples(st.just("write"), st.lists(st.integers(0, 19), min_size=1, max_size=6), st.integers(0, 99)),
        st.tuples(st.just("checkpoint"), st.none(), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=60, deadline=None)
@given(writes)
def test_any_sequence_of_writes_is_undone_exactly(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("rows")
    made, wide, narrow = memory(folder)
    snapshots = []

    def checkpoint() -> None:
        snapshots.append((made.checksums(), wide.values.copy(), narrow.values.copy()))
        made.begin_log(len(snapshots) - 1, keep=len(snapshots) - 2)

    checkpoint()
    for kind, rows, value in steps:
        if kind == "checkpoint":
            checkpoint()
        else:
            indices = torch.tensor(rows)
            wide.write(indices, torch.full((len(rows), 3), float(value)))
            narrow.write(indices, torch.full((len(rows),), value))

    for number in range(len(snapshots) - 1, max(-1, len(snapshots) - 3), -1):
        # A new process finds the files as the old one left them, and goes back to either of the two last checkpoints.
        again, wide, narrow = memory(folder)
        checksums, old_wide, old_narrow = snapshots[number]
        again.restore(number, checksums)
        assert np.array_equal(wide.values, old_wide)
        assert np.array_equal(narrow.values, old_narrow)


def test_going_back_may_itself_be_interrupted(tmp_path, monkeypatch):
    made, wide, _ = memory(tmp_path)
    made.begin_log(0, keep=0)
    checksums, old = made.checksums(), wide.values.copy()
    wide.write(torch.arange(10), torch.ones(10, 3))
    again, wide, _ = memory(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(Memory, "flush", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            again.restore(0, checksums)

    third, wide, _ = memory(tmp_path)
    third.restore(0, checksums)

    assert np.array_equal(wide.values, old)


def test_a_torn_last_entry_of_the_log_is_ignored(tmp_path):
    made, wide, _ = memory(tmp_path)
    made.begin_log(0, keep=0)
    checksums, old = made.checksums(), wide.values.copy()
    wide.write(torch.arange(4), torch.ones(4, 3))
    with (tmp_path / "undo-000000000.log").open("ab") as log:
        log.write(b"WNOW\x04")

    again, wide, _ = memory(tmp_path)
    again.restore(0, checksums)

    assert np.array_equal(wide.values, old)


def test_rows_changed_behind_our_back_are_noticed(tmp_path):
    made, _, _ = memory(tmp_path)
    made.begin_log(0, keep=0)
    checksums = made.checksums()
    with (tmp_path / "wide.rows").open("r+b") as file:
        file.seek(7)
        file.write(b"\xff")

    again, _, _ = memory(tmp_path)

    with pytest.raises(Damaged, match="wide does not match"):
        again.restore(0, checksums)
