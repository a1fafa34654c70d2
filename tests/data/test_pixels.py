"""Decoded pictures in memory and on disk: the same answers, and no more memory than is asked for."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from tests.data.test_collection import arrays, colours, encoded
from winnow.data import pixels as module
from winnow.data.collection import load, parts
from winnow.data.open import open_source
from winnow.data.pixels import ArrayPixels, Backing, FilePixels, PixelsPart, blocks, free_memory
from winnow.data.views import Preprocessing, Views, on_device
from winnow.errors import MachineError

IMAGES = np.random.default_rng(0).integers(0, 256, (700, 8, 8, 3), dtype=np.uint8)


def on_disk(folder, images=IMAGES):
    stored = FilePixels(folder, images.shape[1:])
    for start in range(0, len(images), 300):
        stored.append(images[start : start + 300])
    return stored


def test_a_file_gives_the_pictures_of_any_rows(tmp_path):
    stored = on_disk(tmp_path)
    rows = np.array([699, 0, 5, 5, 300])

    assert stored.shape == (700, 8, 8, 3)
    assert len(stored) == 700
    assert (stored.take(rows) == IMAGES[rows]).all()
    assert stored.take(rows[:0]).shape == (0, 8, 8, 3)
    assert (np.concatenate(list(blocks(stored))) == IMAGES).all()


def test_the_file_has_no_name_and_its_room_comes_back(tmp_path):
    stored = on_disk(tmp_path)
    link = f"/proc/self/fd/{stored._file}"

    assert list(tmp_path.iterdir()) == []
    assert os.readlink(link).startswith(str(tmp_path))
    del stored
    gc.collect()
    assert not os.path.lexists(link)


def test_a_part_counts_anew(tmp_path):
    for whole in (on_disk(tmp_path), ArrayPixels(IMAGES)):
        part = PixelsPart(whole, np.array([9, 3, 600]))

        assert part.shape == (3, 8, 8, 3)
        assert (part.take(np.array([2, 0])) == IMAGES[[600, 9]]).all()


def test_what_takes_more_than_half_of_the_free_memory_goes_to_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "free_memory", lambda: 2 * 100 * 192)
    backing = Backing(folder=tmp_path)

    assert isinstance(backing.room(100, (8, 8, 3)), ArrayPixels)
    assert isinstance(backing.room(101, (8, 8, 3)), FilePixels)
    assert isinstance(Backing(True, tmp_path).room(1, (8, 8, 3)), FilePixels)
    assert isinstance(Backing(False, tmp_path).room(101, (8, 8, 3)), ArrayPixels)


def test_too_full_a_disk_is_told_before_anything_is_decoded(tmp_path):
    with pytest.raises(MachineError, match=r"19,200,000,000,000,000 bytes there, [0-9,]+ are free; make room"):
        Backing(True, tmp_path).room(10**14, (8, 8, 3))


def test_a_disk_that_fills_up_is_one_line(tmp_path, monkeypatch):
    stored = FilePixels(tmp_path, (8, 8, 3))

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(MachineError, match="the disk is full: 134,400 bytes or more are needed"):
        stored.append(IMAGES)


def test_free_memory_is_told_by_this_machine():
    assert 0 < free_memory() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def test_a_containers_limit_counts_what_can_be_taken_back_as_free(tmp_path, monkeypatch):
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("900000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300000\n")
    monkeypatch.setattr(module, "_CGROUP", tmp_path)

    assert free_memory() == 400_000
    (tmp_path / "memory.max").write_text("max\n")
    assert free_memory() > 1_000_000


# Views


@pytest.mark.parametrize("kind", ["plain", "weak", "strong"])
@pytest.mark.parametrize("channels", [1, 3])
def test_views_have_the_same_bits_from_memory_and_from_disk(tmp_path, kind, channels):
    images = np.ascontiguousarray(IMAGES[..., :channels])
    preprocessing = Preprocessing.of(images, mirror=True)
    rows = np.array([5, 699, 5, 300])
    expected = Views(torch.from_numpy(images), preprocessing, 0).view(kind, rows, 3, "train/0")

    assert Preprocessing.of(on_disk(tmp_path, images), mirror=True) == preprocessing
    for pixels in (on_disk(tmp_path, images), ArrayPixels(images)):
        views = Views(pixels, preprocessing, 0)
        assert torch.equal(views.view(kind, rows, 3, "train/0"), expected)
        assert torch.equal(views.part(rows).view("plain", np.arange(4), 0, ""), views.view("plain", rows, 0, ""))


def test_pictures_in_memory_become_a_tensor_and_those_on_disk_stay_there(tmp_path):
    stored = on_disk(tmp_path)

    assert on_device(stored, torch.device("cpu")) is stored
    found = on_device(ArrayPixels(IMAGES), torch.device("cpu"))
    assert found.data_ptr() == IMAGES.ctypes.data  # no copy


# Whole collections


SHAPES = {
    "one size": [(16, 16)] * 5,
    "off the square": [(16, 20)] * 5,
    "mixed": [(16, 16), (16, 16), (20, 16), (64, 64), (100, 30), (9, 9)],
    "large first": [(100, 90), (16, 16), (64, 64)],
    "native after 64": [(64, 60), (64, 60), (70, 70)],
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("grey", [0, 2, 99])
@pytest.mark.parametrize("size", [None, 24])
def test_loading_to_disk_gives_the_same_pictures(tmp_path, name, grey, size):
    pictures = [colours(*shape, seed) for seed, shape in enumerate(SHAPES[name])]
    pictures = [np.repeat(p[..., :1], 3, axis=2) if n < grey else p for n, p in enumerate(pictures)]
    path = tmp_path / "pictures.parquet"
    data = [encoded(p) for p in pictures]
    pq.write_table(pa.table({"image": [*data[:2], b"", *data[2:]], "label": [0] * (len(data) + 1)}), path)
    source = open_source(path)
    here, there = load(source, size=size), load(source, size=size, backing=Backing(True, tmp_path))

    assert isinstance(there.pixels, FilePixels)
    assert there.images.shape == here.images.shape
    assert (there.images == here.images).all()
    assert there.rows.tolist() == here.rows.tolist() == [0, 1, *range(3, len(data) + 1)]
    assert there.notes[0].startswith("The decoded images are kept on disk, not in memory: ")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pictures.parquet"]


def test_arrays_are_kept_on_disk_too_if_that_is_asked_for(tmp_path):
    for images in (IMAGES, IMAGES[..., 0]):
        here, there = load(arrays(images)), load(arrays(images), backing=Backing(True, tmp_path))

        assert isinstance(there.pixels, FilePixels)
        assert (there.images == here.images).all()


def test_the_wanted_channels_are_given(tmp_path):
    grey = arrays(IMAGES[..., 0])
    luma = np.rint(IMAGES.astype(float) @ [0.299, 0.587, 0.114])

    for backing in (Backing(False), Backing(True, tmp_path)):
        assert (load(grey, channels=3, backing=backing).images == IMAGES[..., :1].repeat(3, axis=3)).all()
        assert np.abs(load(arrays(IMAGES), channels=1, backing=backing).images[..., 0] - luma).max() <= 1


def test_parts_are_the_whole_bit_by_bit(tmp_path, monkeypatch):
    from winnow.data import collection

    monkeypatch.setattr(collection, "_PART_BYTES", 10 * 8 * 8 * 3)
    path = tmp_path / "pictures.parquet"
    data = [b"" if row in (3, 29, 30) else encoded(IMAGES[row]) for row in range(31)]
    pq.write_table(pa.table({"image": data, "label": [0] * 31}), path)
    whole = load(open_source(path), size=8, channels=3)

    found = list(parts(open_source(path), size=8, channels=3))

    assert [len(part.rows) for part in found] == [10, 10, 8]
    assert np.concatenate([part.rows for part in found]).tolist() == whole.rows.tolist()
    assert (np.concatenate([part.images for part in found]) == whole.images).all()
    assert [item.row for part in found for item in part.quarantined] == [3, 29, 30]


_STREAMED = """
import sys, zlib
from pathlib import Path
import numpy as np
from winnow.data.collection import load
from winnow.data.pixels import Backing, blocks
from winnow.data.source import Source
from winnow.data.views import Preprocessing, Views

class Made:
    def __init__(self, count): self.count = count
    def __len__(self): return self.count
    def read(self, row): return np.random.default_rng(row).integers(0, 256, (64, 64, 3), dtype=np.uint8)

def anonymous():
    line = next(line for line in open("/proc/self/status") if line.startswith("RssAnon"))
    return int(line.split()[1]) // 1024

count = int(sys.argv[1])
source = Source("made", range(count), ("x",), np.zeros(count, np.int64), Made(count))
peak = [anonymous()]
found = load(source, backing=Backing(True, Path(sys.argv[2])), progress=lambda done, total: peak.append(anonymous()))
views = Views(found.pixels, Preprocessing.of(found.pixels, True), 0)
for start in range(0, count, 64):
    views.view("weak", np.arange(start, min(count, start + 64)), 0, "")
    peak.append(anonymous())
print(max(peak) - peak[0])
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_collection(tmp_path):
    def peak(count):
        command = [sys.executable, "-c", _STREAMED, str(count), str(tmp_path)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=Path(__file__).parents[2])
        return int(done.stdout)

    few, many = peak(1000), peak(8000)  # 12 and 98 MB of pixels

    assert many < few + 25
