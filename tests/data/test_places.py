"""Addresses and patterns: what DATA may name, and what is never fetched."""

import builtins
import contextlib
import io
import re
import tarfile
import zipfile

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from tests.data.pictures import message, png, value_of
from tests.data.serving import Handler, serving
from winnow.data.open import open_source
from winnow.data.places import absolute, is_address, remote_place
from winnow.data.source import Unreadable
from winnow.errors import UsageError


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    files.rm("/", recursive=True)


def shard_of(*values):
    shard = io.BytesIO()
    with tarfile.open(fileobj=shard, mode="w") as archive:
        for value in values:
            info = tarfile.TarInfo(f"{value}.png")
            info.size = len(png(value))
            archive.addfile(info, io.BytesIO(png(value)))
    return shard.getvalue()


def test_what_is_an_address():
    assert is_address("s3://bucket/a.csv")
    assert is_address("simplecache::https://host/a.csv")
    assert not any(map(is_address, ("photos", "a.csv", "./a:b", "cifar10n:worse", "hf:a/b", "C:photos")))


def test_a_table_at_an_address_reads_pictures_beside_it(memory):
    memory.pipe("/set/photos.csv", b"path,label\na.png,cat\nmore/b.png,dog\n../c.png,dog\nnone.png,cat\n")
    memory.pipe({"/set/a.png": png(1), "/set/more/b.png": png(2), "/c.png": png(3)})

    source = open_source("memory://set/photos.csv")

    assert source.address == "memory://set/photos.csv"
    assert list(source.ids) == ["a.png", "more/b.png", "../c.png", "none.png"]
    assert [value_of(source, row) for row in range(3)] == [1, 2, 3]
    with pytest.raises(Unreadable, match="unreadable"):
        source.pictures.read(3)


def test_every_kind_of_file_is_read_at_an_address(memory):
    memory.pipe("/t.jsonl", b'{"path": "a.png", "label": "x"}')
    memory.pipe("/a.png", png(4))
    table = io.BytesIO()
    pq.write_table(pa.table({"image": [png(5)], "label": ["y"]}), table)
    memory.pipe("/t.parquet", table.getvalue())
    arrays = io.BytesIO()
    np.savez(arrays, x=np.full((1, 8, 8, 3), 6, np.uint8), y=[0])
    memory.pipe("/t.npz", arrays.getvalue())
    memory.pipe("/t-0.tar", shard_of(7))
    memory.pipe("/t-1.tar", shard_of(7))

    values = [value_of(open_source(f"memory://t{end}"), 0) for end in (".jsonl", ".parquet", ".npz")]
    shards = open_source("memory://t-{0..1}.tar", unlabelled_ok=True)

    assert values == [4, 5, 6]
    assert [value_of(shards, row) for row in range(2)] == [7, 7]
    assert len(open_source("memory://t-*.tar", unlabelled_ok=True)) == 2


def test_a_folder_of_classes_may_lie_at_an_address(memory, tmp_path):
    memory.pipe(
        {"/set/cat/1.png": png(1), "/set/dog/deep/2.png": png(2), "/set/.x/3.png": png(3), "/set/cat/a.txt": b""}
    )

    source = open_source("memory://set")

    assert source.class_names == ("cat", "dog")
    assert list(source.ids) == ["cat/1.png", "dog/deep/2.png"]
    assert [value_of(source, row) for row in range(2)] == [1, 2]
    assert source.notes == ("Files without an image's extension were passed over: 1.",)

    with zipfile.ZipFile(tmp_path / "photos.zip", "w") as archive:
        archive.writestr("photos/cat/1.png", png(8))
    packed = open_source(f"zip://photos::file://{tmp_path}/photos.zip")
    assert (packed.class_names, value_of(packed, 0)) == (("cat",), 8)


def test_rows_of_a_source_at_an_address_can_be_taken(memory):
    memory.pipe({f"/set/x/{row:02d}.png": png(row) for row in range(20)})

    part = open_source("memory://set", limit=3)

    assert [value_of(part, row) for row in range(3)] == [int(name[2:4]) for name in part.ids]


def test_a_table_on_the_web_reads_what_lies_on_its_own_host_alone(server):
    port = server.server_port
    rows = ["a.png", f"http://127.0.0.1:{port}/deep/b.png", f"http://localhost:{port}/c.png", "file:///etc/hostname",
            f"memory::http://127.0.0.1:{port}/a.png"]  # fmt: skip
    server.files |= {"/deep/t.csv": ("path,label\n" + "".join(f"{row},x\n" for row in rows)).encode()}
    server.files |= {"/deep/a.png": png(1), "/deep/b.png": png(2), "/c.png": png(3)}

    source = open_source(f"{server.url}/deep/t.csv")

    assert [value_of(source, row) for row in (0, 1)] == [1, 2]
    for row in (2, 3, 4):
        with pytest.raises(Unreadable, match="an address on another host than the table's is not fetched"):
            source.pictures.read(row)
    assert "/c.png" not in server.asked


@pytest.fixture
def web():
    """A web server on this machine that may send parts of files, say that it does not, or say nothing of it."""

    class Parts(Handler):
        def do_HEAD(self):
            self.answer()

        def do_GET(self):
            self.answer()

        def answer(self):
            content, total, kind = self.server.content, len(self.server.content), self.server.kind
            asked = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
            start, end = 0, total
            if asked and kind == "parts":
                start, end = int(asked[1]), min(int(asked[2]) + 1, total)
                self.send_response(206)
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{total}")
            else:
                self.send_response(200)
            if kind == "says no":
                self.send_header("Accept-Ranges", "none")
            if kind != "no length":
                self.send_header("Content-Length", str(end - start))
            self.end_headers()
            if self.command == "GET":
                with contextlib.suppress(ConnectionError):  # who asked may have heard enough
                    self.wfile.write(content[start:end])

    with serving(Parts) as running:
        yield running


def test_an_archive_on_the_web_is_read_in_parts(web):
    web.content, web.kind = shard_of(7, 8), "parts"

    source = open_source(f"{web.url}/t.tar", unlabelled_ok=True)

    assert [value_of(source, row) for row in range(2)] == [7, 8]
    assert not any("break off" in note for note in source.notes)


@pytest.mark.parametrize("kind", ["says nothing", "says no", "no length"])
def test_a_web_server_that_sends_no_parts_of_files_is_named_as_the_reason(web, kind):
    web.content, web.kind = shard_of(7, 8), kind

    found = message(f"{web.url}/t.tar", unlabelled_ok=True)

    reason = "does not say how long it is" if kind == "no length" else "sends whole files only, no parts of them"
    assert f"/t.tar: its server {reason}" in found
    assert "fetch the file and name it here" in found


def test_bytes_that_were_not_asked_for_are_not_taken_for_a_part(web):
    web.content, web.kind = shard_of(7), "says nothing"

    with pytest.raises(OSError, match="sends whole files only"):
        remote_place(f"{web.url}/t.tar").read_range(512, 600)


def test_a_picture_on_the_web_does_not_send_us_elsewhere(server):
    server.files |= {"/t.csv": b"path,label\na.png,x\n", "/a.png": f"{server.url}/inside.png", "/inside.png": png(1)}

    with pytest.raises(Unreadable):
        open_source(f"{server.url}/t.csv").pictures.read(0)
    assert "/inside.png" not in server.asked


def test_a_table_on_this_machine_makes_us_fetch_nothing(server, tmp_path):
    server.files["/a.png"] = png(1)
    (tmp_path / "t.csv").write_text(f"path,label\n{server.url}/a.png,x\n")

    with pytest.raises(Unreadable):
        open_source(tmp_path / "t.csv").pictures.read(0)
    assert server.asked == []


def test_an_address_that_leads_nowhere_says_so_in_one_line(server, memory, monkeypatch):
    assert message("memory://none.csv") == "memory://none.csv: no such file, or its server cannot be reached"
    assert message("memory://none") == "memory://none: no such file or folder"
    assert "Protocol not known" in message("unheardof://x.csv")
    assert "no such file" in message(f"{server.url}/none.csv")
    server.server_close()

    def without_driver(name, *arguments):
        if name.startswith("s3fs"):
            raise ImportError("No module named 's3fs'")
        return real(name, *arguments)

    real = builtins.__import__
    monkeypatch.setattr(builtins, "__import__", without_driver)
    assert message("s3://bucket/a.csv") == "s3://bucket/a.csv: no driver for s3:// is installed; pip install s3fs"


def test_braces_name_files_in_order(tmp_path):
    for number in range(3):
        pq.write_table(pa.table({"image": [png(number)], "label": [number]}), tmp_path / f"p-{number:02d}-a.parquet")

    assert open_source(f"{tmp_path}/p-{{02,00}}-a.parquet").noisy_labels.tolist() == [2, 0]
    assert open_source(f"{tmp_path}/p-{{00..02}}-{{a,a}}.parquet").noisy_labels.tolist() == [0, 0, 1, 1, 2, 2]
    assert "no such file" in message(f"{tmp_path}/q-*.parquet")
    assert "must run from a smaller number to a larger one" in message(f"{tmp_path}/p-{{2..0}}.tar", error=UsageError)
    assert "names 100,000,000 files" in message("{0..9999}{0..9999}.tar", error=UsageError)
    (tmp_path / "a.csv").write_text("path,label\na,b\n")
    (tmp_path / "b.csv").write_text("path,label\na,b\n")
    assert "only .parquet and .tar files are read as one" in message(f"{tmp_path}/*.csv")


def test_a_pattern_is_recorded_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    assert absolute("part-{0..1}.tar") == f"{tmp_path}/part-{{0..1}}.tar"
    assert [absolute(name) for name in ("s3://a/*.tar", "mnist", "hf:x")] == ["s3://a/*.tar", "mnist", "hf:x"]
