"""Downloads: from a server on this machine, whole and checked, or not at all."""

import gzip
import hashlib

import numpy as np
import pytest

from tests.data.test_layouts import idx
from winnow.data import builtin
from winnow.data.fetch import fetch
from winnow.data.layouts import Published
from winnow.data.open import open_source
from winnow.errors import MachineError


def md5(data):
    return hashlib.md5(data).hexdigest()


def test_a_file_is_fetched_into_its_folder_and_told_of(server, tmp_path):
    server.files["/x"] = b"content"
    heard = []

    fetch(f"{server.url}/x", tmp_path / "new" / "x.gz", md5(b"content"), progress=lambda *told: heard.append(told))

    assert (tmp_path / "new" / "x.gz").read_bytes() == b"content"
    assert heard == [("fetching x.gz", 7, 7)]


@pytest.mark.parametrize("old", [None, b"old"])
def test_another_content_a_cut_off_one_and_an_absent_one_leave_everything_as_it_was(server, tmp_path, old):
    target = tmp_path / "x"
    if old is not None:
        target.write_bytes(old)
    server.files["/x"] = b"content"

    with pytest.raises(MachineError, match=r"its checksum is .*, not .*: another file, or damaged; nothing was kept"):
        fetch(f"{server.url}/x", target, md5(b"other"))
    with pytest.raises(MachineError, match=r"cannot be fetched .the server answers 404"):
        fetch(f"{server.url}/y", target, md5(b""))
    server.announced = 100
    with pytest.raises(MachineError, match=r"broke off after 7 of 100 bytes|cannot be fetched"):
        fetch(f"{server.url}/x", target, md5(b"content"))

    assert [path.read_bytes() for path in tmp_path.iterdir()] == ([old] if old else [])


def test_a_refused_connection_is_the_machines_failure(server, tmp_path):
    url = server.url
    server.server_close()

    with pytest.raises(MachineError, match=r"cannot be fetched .*bring the file here by other means") as caught:
        fetch(f"{url}/x", tmp_path / "x", md5(b""))

    assert caught.value.exit_code == 5


def test_a_content_beyond_the_limit_is_given_up(server, tmp_path, monkeypatch):
    monkeypatch.setattr("winnow.data.fetch.LARGEST", 5)
    server.files["/x"] = b"content"

    with pytest.raises(MachineError, match="more than 5 bytes"):
        fetch(f"{server.url}/x", tmp_path / "x", md5(b"content"))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_the_machines_failure(server, tmp_path):
    (tmp_path / "x").write_bytes(b"")
    server.files["/x"] = b"content"

    with pytest.raises(MachineError, match="cannot be written"):
        fetch(f"{server.url}/x", tmp_path / "x" / "y", md5(b"content"))


def test_a_built_in_collection_is_fetched_only_if_asked_and_only_once(server, tmp_path, monkeypatch):
    images, labels = np.zeros((3, 28, 28), np.uint8), np.array([0, 1, 2], np.uint8)
    files = []
    for name, array in (("train-images-idx3", images), ("train-labels-idx1", labels)) * 2:
        content = gzip.compress(idx(array), mtime=0)
        server.files[f"/{name}"] = content
        files.append(Published(f"FashionMNIST/raw/{name}-ubyte.gz", f"{server.url}/{name}", md5(content)))
    monkeypatch.setattr(builtin, "FASHION_MNIST", tuple(files))

    with pytest.raises(Exception, match="--download"):
        open_source("fashion-mnist", root=tmp_path)
    assert server.asked == []
    source = open_source("fashion-mnist", root=tmp_path, download=True)
    assert source.noisy_labels.tolist() == [0, 1, 2]
    assert len(source.test()) == 3
    open_source("fashion-mnist", root=tmp_path, download=True)
    assert server.asked == ["/train-images-idx3", "/train-labels-idx1"]


def test_a_test_set_is_fetched_and_heard_of_as_the_training_set_is(server, tmp_path, monkeypatch):
    files = []
    for name, shape in (("train-x", (2, 28, 28)), ("train-y", (2,)), ("test-x", (3, 28, 28)), ("test-y", (3,))):
        content = gzip.compress(idx(np.zeros(shape, np.uint8)), mtime=0)
        server.files[f"/{name}"] = content
        files.append(Published(f"FashionMNIST/raw/{name}.gz", f"{server.url}/{name}", md5(content)))
    monkeypatch.setattr(builtin, "FASHION_MNIST", tuple(files))
    heard = []

    source = open_source(
        "fashion-mnist", root=tmp_path, download=True, progress=lambda what, *_: heard.append(what.split()[-1])
    )
    assert set(heard) == {"train-x.gz", "train-y.gz"}

    assert len(source.test()) == 3
    assert set(heard) == {"train-x.gz", "train-y.gz", "test-x.gz", "test-y.gz"}
