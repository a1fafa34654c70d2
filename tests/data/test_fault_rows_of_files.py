"""What a file system does to image files, row by row of the fault table: rows 15, 16, 18 and 19."""

import os
import socket
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.data.test_decode import encoded, picture
from winnow.data.collection import load, write_quarantine
from winnow.data.decode import Limits, read_file, read_stamped_file
from winnow.data.open import open_source
from winnow.data.pictures import FilePictures
from winnow.data.source import Unreadable

# Rows 15 and 16: what is no file


def reading_code(path):
    with pytest.raises(Unreadable) as caught:
        read_file(str(path))
    return caught.value.code


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    for number in range(3):
        Image.fromarray(picture(20, 20, number)).save(folder / "a" / f"{number}.png")
    return folder


def test_row_15_pipes_devices_sockets_and_folders_are_set_aside_at_once(photos, monkeypatch):
    monkeypatch.chdir(photos / "a")  # a socket's path must be short
    os.mkfifo("pipe.jpg")
    Path("folder.jpg").mkdir()
    Path("device.jpg").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket.jpg")
        source = open_source(photos, follow_links=True)
        load(source)  # whatever a start takes
        started = time.monotonic()
        found = load(source)

    assert time.monotonic() - started < 1
    assert {item.id: item.code for item in found.quarantined} == {
        f"a/{name}.jpg": "not-a-regular-file" for name in ("device", "folder", "pipe", "socket")
    }
    assert len(found.rows) == 3


def test_row_15_a_file_that_becomes_a_pipe_does_not_hold_us_up(tmp_path, monkeypatch):
    path = tmp_path / "x.jpg"
    path.write_bytes(b"12345")
    was = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    monkeypatch.setattr(os, "stat", lambda path: was)

    assert reading_code(path) == "not-a-regular-file"


def test_row_16_loops_and_dangling_links_are_set_aside(photos):
    (photos / "a" / "loop.jpg").symlink_to("loop.jpg")
    (photos / "a" / "nothing.jpg").symlink_to("missing")

    found = load(open_source(photos))

    assert {item.id: item.code for item in found.quarantined} == {
        "a/loop.jpg": "unreadable", "a/nothing.jpg": "unreadable",
    }  # fmt: skip
    assert len(found.rows) == 3


# Row 18


def test_row_18_a_file_that_is_deleted_after_it_was_listed_is_unreadable(photos):
    source = open_source(photos)
    (photos / "a" / "1.png").unlink()

    found = load(source)

    assert [(item.id, item.code) for item in found.quarantined] == [("a/1.png", "unreadable")]
    assert found.rows.tolist() == [0, 2]


@pytest.mark.parametrize("how", ["longer", "as long, later"])
def test_row_18_a_file_that_is_changed_after_it_was_listed_is_set_aside(photos, how):
    source = open_source(photos)
    path = photos / "a" / "1.png"
    if how == "longer":
        path.write_bytes(path.read_bytes() + b"\0")
    else:
        os.utime(path, ns=(0, 1_000_000_007))

    found = load(source)

    assert [(item.id, item.code) for item in found.quarantined] == [("a/1.png", "changed")]


def test_row_18_a_file_that_is_changed_between_two_readings_is_noticed(photos):
    path = photos / "a" / "1.png"
    pictures = FilePictures([str(path)], Limits())  # as from a table: nothing was listed
    pictures.read(0)
    Image.fromarray(picture(20, 20, 9)).save(path)
    os.utime(path, ns=(0, 1_000_000_007))

    with pytest.raises(Unreadable, match="changed: the file is not the one that was listed"):
        pictures.read(0)
    with pytest.raises(Unreadable, match="changed"):
        pictures.take(np.array([0])).read(0)


def test_row_18_a_file_that_grows_while_it_is_read_is_set_aside(tmp_path, monkeypatch):
    path = tmp_path / "x.png"
    path.write_bytes(b"12345")
    was = os.stat(path)
    path.write_bytes(b"1234567")
    os.utime(path, ns=(was.st_atime_ns, was.st_mtime_ns))
    monkeypatch.setattr(os, "stat", lambda path: was)

    with pytest.raises(Unreadable, match="changed: the file was written to while it was read"):
        read_stamped_file(str(path))


@pytest.mark.skipif(os.geteuid() == 0, reason="an administrator may read everything")
def test_row_18_a_file_that_may_not_be_read_is_unreadable(photos):
    (photos / "a" / "1.png").chmod(0)

    assert [item.code for item in load(open_source(photos)).quarantined] == ["unreadable"]


# Row 19

NAMES = [
    b"\xff\xfe",
    b"a\nb",
    b"x" * 250,
    "\U0001f600".encode(),
    "\u202egpj".encode(),
    b"a ",
    b"a..b",
    b"CON",
    b"a\\b",
    b"%00",
]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
@pytest.mark.parametrize("content", ["good", "bad"])
def test_row_19_odd_names_are_read_and_told_exactly(tmp_path, name, content):
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    Image.fromarray(picture(20, 20)).save(folder / "a" / "0.png")
    path = os.path.join(os.fsencode(folder / "a"), name + b".png")
    with open(path, "wb") as file:
        file.write(encoded(picture(20, 20, 1), "PNG") if content == "good" else b"text")
    shown = "\\xff\\xfe" if name == NAMES[0] else name.decode()

    source = open_source(folder)
    found = load(source)
    write_quarantine(tmp_path / "q.parquet", found.quarantined)

    assert set(source.ids) == {"a/0.png", f"a/{shown}.png"}
    expected = [] if content == "good" else [f"a/{shown}.png"]
    assert pq.read_table(tmp_path / "q.parquet")["id"].to_pylist() == expected
    assert len(found.rows) == 2 - len(expected)
