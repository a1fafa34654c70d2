"""Datasets of the Hugging Face hub, read where they are, from a hub on this machine by the real client."""

import io
import os
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from tests.data.pictures import message, png, value_of
from winnow.api import fit
from winnow.cli import app
from winnow.data.collection import load
from winnow.data.open import open_source
from winnow.data.pictures import stretches
from winnow.errors import MachineError

datasets = pytest.importorskip("datasets")

from tests.data.hub import running_hub  # noqa: E402

SHARDS, ROWS, BYTES = 15, 40, 10_000


@pytest.fixture
def hub(tmp_path, monkeypatch):
    with running_hub(monkeypatch, tmp_path / "kept") as hub:
        yield hub


def content(rows, label=lambda row: row % 3, picture=png, **extra):
    """A Parquet file as `push_to_hub` writes it."""
    images = pa.array([{"bytes": picture(row), "path": f"{row}.png"} for row in rows])
    table = pa.table({"image": images, "label": [label(row) for row in rows], **extra})
    buffer = io.BytesIO()
    pq.write_table(table, buffer, row_group_size=20, use_dictionary=False, compression="none")
    return buffer.getvalue()


def noise(row):
    """No picture, but as large as one and like no other."""
    return np.random.default_rng(row).bytes(BYTES)


CARD = b"""---
dataset_info:
  features:
  - name: image
    dtype: image
  - name: label
    dtype:
      class_label:
        names:
          '0': red
          '1': green
          '2': blue
---
"""


@pytest.fixture
def small(hub):
    hub.datasets["some/colours"] = {
        "README.md": CARD,
        "data/train-00000-of-00002.parquet": content(range(30)),
        "data/train-00001-of-00002.parquet": content(range(30, 40)),
        "data/test-00000-of-00001.parquet": content([1, 2]),
    }
    return hub


def test_streamed_lists_of_class_labels_keep_their_names_and_empty_classes(hub):
    lists = CARD.replace(
        b"  - name: label\n    dtype:\n      class_label", b"  - name: label\n    sequence:\n      class_label"
    )
    hub.datasets["some/lists"] = {
        "README.md": lists,
        "data/train-00000-of-00001.parquet": content(range(2), label=lambda row: [[1, 0], []][row]),
    }

    source = open_source("hf:some/lists")

    assert source.class_names == ("red", "green", "blue")
    assert source.noisy_labels.tolist() == [[1, 1, 0], [0, 0, 0]]


@pytest.fixture
def large(hub):
    """6 MB of pictures in 15 files of 2 row groups, with a column that nobody asks for."""
    for shard in range(SHARDS):
        rows = range(shard * ROWS, (shard + 1) * ROWS)
        extra = {"id": [f"n{row}" for row in rows], "embedding": [noise(row)[:1000] for row in rows]}
        file = content(rows, picture=noise, **extra)
        hub.datasets.setdefault("some/noise", {})[f"data/train-{shard:05d}-of-{SHARDS:05d}.parquet"] = file
    return hub


def asked(hub):
    """How many bytes of Parquet files have been asked for since the last time."""
    count = sum(end - start for _, start, end in hub.ranges)
    hub.ranges.clear()
    return count


def test_what_is_not_here_is_read_on_the_hub(small):
    source = open_source("hf:some/colours")

    assert source.class_names == ("red", "green", "blue")
    assert source.noisy_labels.tolist() == [row % 3 for row in range(40)]
    assert [value_of(source, row) for row in (39, 0, 30)] == [39, 0, 30]
    assert source.notes[0] == "The split train is read; DATA for the others: hf:some/colours:test."
    assert source.notes[1] == "Streamed from the hub (0.0 MB in 2 files), nothing is kept; --download keeps it."
    assert open_source("hf:some/colours:test").noisy_labels.tolist() == [1, 2]
    assert "no split 'dev' (test, train)" in message("hf:some/colours:dev")


def test_nothing_of_the_data_is_kept_and_what_was_fetched_is_used(small, tmp_path):
    load(open_source("hf:some/colours"))
    kept = [name for _, _, files in os.walk(tmp_path) for name in files]
    small.ranges.clear()

    assert not [name for name in kept if name.endswith((".parquet", ".arrow"))]
    assert max(os.path.getsize(os.path.join(at, name)) for at, _, files in os.walk(tmp_path) for name in files) < 1000

    fetched = open_source("hf:some/colours", download=True)
    again = open_source("hf:some/colours")

    assert small.ranges == []
    assert again.notes == fetched.notes == ("The split train is read; DATA for the others: hf:some/colours:test.",)
    assert again.noisy_labels.tolist() == [row % 3 for row in range(40)]


def test_opening_reads_labels_and_identifiers_in_one_pass_and_no_pictures(large):
    told = []

    source = open_source("hf:some/noise", progress=lambda *news: told.append(news))

    assert list(source.ids) == [f"n{row}" for row in range(SHARDS * ROWS)]
    assert [name for name, _, _ in told] == ["reading labels of hf:some/noise"] * SHARDS
    assert [done for _, done, _ in told] == sorted({done for _, done, _ in told})
    assert told[-1][1] == told[-1][2] < 30_000
    # Arrow takes 64 KiB at the end of each file for its directory.
    assert asked(large) < SHARDS * 2**16 + 30_000


def test_pictures_come_in_one_pass_of_which_one_row_group_at_a_time_is_in_memory(large):
    source = open_source("hf:some/noise")
    asked(large)
    base, most = pa.total_allocated_bytes(), 0
    tracemalloc.start()
    try:
        for stretch in stretches(source.pictures):
            for row, (_, data) in zip(stretch.rows, stretch.read(), strict=True):
                assert data == noise(row)
            most = max(most, pa.total_allocated_bytes() - base)
        most += tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    total = SHARDS * ROWS * BYTES
    assert total <= asked(large) < 1.02 * total
    # The server here and the client have a row group's 200 kB twice each before Arrow has them.
    assert most < 6 * 20 * BYTES < total / 4


def test_single_pictures_can_be_had_and_their_row_group_is_kept(large):
    source = open_source("hf:some/noise")
    asked(large)

    assert source.pictures.encoded(95) == noise(95)
    assert 20 * BYTES <= asked(large) < 20.5 * BYTES
    assert [source.pictures.encoded(row) for row in (99, 80)] == [noise(99), noise(80)]
    assert asked(large) == 0


def test_a_run_and_its_predictions_need_nothing_else(small, tmp_path):
    run = fit(
        "hf:some/colours", out=tmp_path / "run", method="cross-entropy", model="mlp", epochs=1, device="cpu", threads=1
    )
    out = str(tmp_path / "predictions.parquet")
    answer = CliRunner().invoke(app, ["predict", str(run.folder), "hf:some/colours:test", "--out", out, "--quiet"])

    assert pq.read_table(run.folder / "labels.parquet").num_rows == 40
    assert answer.exit_code == 0, answer.output
    assert {row["predicted_class"] for row in pq.read_table(out).to_pylist()} <= {"red", "green", "blue"}
    assert pq.read_table(out).num_rows == 2


def test_a_network_that_fails_is_one_line(small, monkeypatch):
    source = open_source("hf:some/colours")
    small.broken = True

    with pytest.raises(MachineError, match=r"train-00000-of-00002.parquet: the network failed: [^\n]+; try again$"):
        load(source)
    assert "the network failed" in message("hf:some/colours", error=MachineError)

    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)  # between its attempts
    assert message("hf:some/other", error=MachineError).startswith("hf:some/other: cannot be fetched: ")


def test_what_is_not_on_the_hub_or_cannot_be_streamed_says_so(small, monkeypatch):
    small.datasets["some/code"] = {"code.py": b"import nothing"}
    small.datasets["some/files"] = {"train/red/1.png": png(), "train/blue/2.png": png()}

    assert message("hf:some/nothing").startswith("hf:some/nothing: Dataset 'some/nothing' doesn't exist on the Hub")
    assert message("hf:some/folder/nowhere").startswith("hf:some/folder/nowhere: ")
    assert "needs code of its own to be read, which is not run" in message("hf:some/code")
    assert "stored as .png; only Parquet is streamed: fetch it with --download" in message("hf:some/files")
    assert "no column 'colour' (label)" in message("hf:some/colours", label_column="colour")

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    offline = "hf:some/colours: not on this machine, and HF_HUB_OFFLINE keeps the network from it"
    assert message("hf:some/colours") == offline
