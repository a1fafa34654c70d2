"""Published collections in the files that torchvision keeps, small ones of the same form."""

import gzip
import io
import os
import pickle
import tarfile

import numpy as np
import pytest
import torch

from tests.data.pictures import message
from winnow.data.open import open_source

CHANCE = np.random.default_rng(0)


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + b"".join(size.to_bytes(4) for size in array.shape) + array.tobytes()


def write_idx(folder, count=4, packed=True):
    folder.mkdir(parents=True)
    images = CHANCE.integers(0, 256, (count, 28, 28), dtype=np.uint8)
    labels = np.arange(count, dtype=np.uint8) % 10
    for part in ("train", "t10k"):
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            path = folder / f"{part}-{name}-ubyte"
            if packed:
                path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                path.write_bytes(idx(array))
    return images, labels


def python2_pickle(data, lists):
    """What Python 2 and its numpy wrote: byte strings, and the module names of that time."""

    def text(value):
        return b"U" + bytes([len(value)]) + value.encode()

    rows, width = data.shape
    content = data.tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\nK\x00\x85" + text("b") + b"tR(K\x01"
        + b"J" + rows.to_bytes(4, "little") + b"J" + width.to_bytes(4, "little") + b"\x86cnumpy\ndtype\n("
        + text("u1") + b"K\x00K\x01tR(K\x03" + text("|") + b"NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89"
        + b"T" + len(content).to_bytes(4, "little") + content + b"tb"
    )  # fmt: skip
    entries = [text("data") + array]
    for name, values in lists.items():
        items = b"".join(text(value) if isinstance(value, str) else b"K" + bytes([value]) for value in values)
        entries.append(text(name) + b"](" + items + b"e")
    return b"\x80\x02}(" + b"".join(entries) + b"u."


def rows_of(images):
    return images.transpose(0, 3, 1, 2).reshape(len(images), 3072)


def cifar10(root, *, archive=False):
    """Twelve images, two a batch, and their labels."""
    images = CHANCE.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(12) % 10
    names = [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]
    files = {
        f"cifar-10-batches-py/{name}": python2_pickle(
            rows_of(images[2 * at : 2 * at + 2]), {"labels": labels[2 * at : 2 * at + 2].tolist()}
        )
        for at, name in enumerate(names)
    }
    write_files(root, files, root / "cifar-10-python.tar.gz" if archive else None)
    return images, labels


def cifar100(root, coarse=None, fine=(0, 1, 2, 0, 1, 2)):
    images = CHANCE.integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    fine = list(fine)
    coarse = coarse or [0, 0, 1, 0, 0, 1]
    batch = python2_pickle(rows_of(images), {"fine_labels": fine, "coarse_labels": coarse})
    names = python2_pickle(
        np.zeros((1, 1), np.uint8),
        {"fine_label_names": ["apple", "pear", "cat"], "coarse_label_names": ["fruit", "pet"]},
    )
    files = {f"cifar-100-python/{name}": batch for name in ("train", "test")} | {"cifar-100-python/meta": names}
    write_files(root, files, None)
    return images, np.array(fine)


def write_files(root, files, archive):
    if archive is None:
        for name, content in files.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_bytes(content)
        return
    with tarfile.open(archive, "w:gz") as packed:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            packed.addfile(info, io.BytesIO(content))


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize(
    ("name", "folder", "classes"),
    [("mnist", "MNIST", ("0", "1")), ("fashion-mnist", "FashionMNIST", ("T-shirt/top", "Trouser"))],
)
def test_idx_files_are_read_packed_or_not(tmp_path, name, folder, classes, packed):
    images, labels = write_idx(tmp_path / folder / "raw", packed=packed)

    source = open_source(name, root=tmp_path)

    assert (source.pictures.array == images).all()
    assert source.noisy_labels.tolist() == labels.tolist()
    assert source.class_names[:2] == classes
    assert len(source.class_names) == 10
    assert source.grey
    assert len(source.test()) == 4
    assert source.test_address == f"{name}:test"


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"\x00\x00\x0d\x03" + bytes(12), "no IDX file of 3-dimensional bytes"),
        (idx(np.zeros((2, 28, 28), np.uint8))[:-5], "1,563 bytes of data, 1,568 are announced"),
        (b"\x00\x00\x08\x03" + b"\xff" * 12, "no IDX file of 3-dimensional bytes"),
        (b"", "no IDX file"),
    ],
)
def test_a_damaged_idx_file_is_refused(tmp_path, content, expected):
    write_idx(tmp_path / "MNIST" / "raw", packed=False)
    (tmp_path / "MNIST" / "raw" / "train-images-idx3-ubyte").write_bytes(content)

    assert expected in message("mnist", root=tmp_path)


def test_a_cut_off_gzip_and_unequal_counts_are_refused(tmp_path):
    folder = tmp_path / "FashionMNIST" / "raw"
    write_idx(folder)
    path = folder / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in message("fashion-mnist", root=tmp_path)
    path.write_bytes(gzip.compress(idx(np.zeros((3, 28, 28), np.uint8))))
    assert "3 images, but 4 labels" in message("fashion-mnist", root=tmp_path)


@pytest.mark.parametrize("archive", [True, False])
def test_cifar10_is_read_from_its_folder_or_straight_from_its_archive(tmp_path, archive):
    images, labels = cifar10(tmp_path, archive=archive)
    before = sorted(tmp_path.rglob("*"))

    source = open_source("cifar10", root=tmp_path)

    assert (source.pictures.array == images[:10]).all()
    assert source.noisy_labels.tolist() == labels[:10].tolist()
    assert source.class_names[3] == "cat"
    assert source.test().noisy_labels.tolist() == labels[10:].tolist()
    assert sorted(tmp_path.rglob("*")) == before


def test_a_damaged_archive_is_refused(tmp_path):
    cifar10(tmp_path, archive=True)
    path = tmp_path / "cifar-10-python.tar.gz"
    path.write_bytes(path.read_bytes()[:1000])

    assert "damaged" in message("cifar10", root=tmp_path)


def test_cifar100_has_fine_and_coarse_labels(tmp_path):
    images, fine = cifar100(tmp_path)

    source = open_source("cifar100", root=tmp_path)
    coarse = open_source("cifar100:coarse", root=tmp_path)

    assert (source.pictures.array == images).all()
    assert source.class_names == ("apple", "pear", "cat")
    assert source.noisy_labels.tolist() == fine.tolist()
    assert coarse.class_names == ("fruit", "pet")
    assert coarse.noisy_labels.tolist() == [0, 0, 1, 0, 0, 1]
    assert coarse.test().class_names == ("fruit", "pet")


def test_a_class_in_two_coarse_classes_is_not_cifar100(tmp_path):
    cifar100(tmp_path, coarse=[0, 0, 1, 1, 0, 1])

    assert "a class lies in two coarse classes" in message("cifar100", root=tmp_path)


def test_fewer_labels_than_images_are_refused(tmp_path):
    cifar100(tmp_path, fine=[0, 1, 2])
    cifar10(tmp_path)
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(
        python2_pickle(np.zeros((2, 3072), np.uint8), {"labels": [0]})
    )

    assert "3 'fine_labels' for 6 images" in message("cifar100", root=tmp_path)
    assert "9 'labels' for 10 images" in message("cifar10", root=tmp_path)


def test_human_labels_of_cifar100_bring_their_truth(tmp_path):
    _, fine = cifar100(tmp_path)
    noisy, coarse = np.array([1, 1, 2, 0, 1, 0]), np.array([0, 0, 1, 0, 0, 1])
    np.savez(tmp_path / "cifar100n_labels.npz", clean=fine, noisy=noisy, clean_coarse=coarse, noisy_coarse=1 - coarse)

    source = open_source("cifar100n:fine", root=tmp_path)
    whole = open_source("cifar100n:coarse", root=tmp_path)

    assert source.noisy_labels.tolist() == noisy.tolist()
    assert source.clean_labels.wrong(source.noisy_labels).tolist() == [True, False, False, False, False, True]
    assert source.class_names == ("apple", "pear", "cat")
    assert source.test_address == "cifar100:test"
    assert whole.clean_labels.accuracy(whole.noisy_labels) == 0
    assert whole.test().class_names == ("fruit", "pet")


def test_the_published_files_of_human_labels_are_read_without_running_anything(tmp_path):
    _, fine = cifar100(tmp_path)
    _, labels = cifar10(tmp_path)
    coarse = np.array([0, 0, 1, 0, 0, 1])
    record = {"clean_label": fine, "noisy_label": 2 - fine, "clean_coarse_label": coarse, "noisy_coarse_label": coarse}
    torch.save(record, tmp_path / "CIFAR-100_human.pt")
    names = ("clean_label", "aggre_label", "worse_label", "random_label1", "random_label2", "random_label3")
    torch.save({name: (labels[:10] + at) % 10 for at, name in enumerate(names)}, tmp_path / "CIFAR-10_human.pt")

    assert open_source("cifar100n:fine", root=tmp_path).noisy_labels.tolist() == (2 - fine).tolist()
    worse = open_source("cifar10n:worse", root=tmp_path)
    assert worse.noisy_labels.tolist() == ((labels[:10] + 2) % 10).tolist()
    assert worse.clean_labels.accuracy(worse.noisy_labels) == 0


def test_human_labels_that_do_not_belong_to_the_images_are_refused(tmp_path):
    _, fine = cifar100(tmp_path)
    assert "not there; the human labels are published at https://" in message("cifar100n:fine", root=tmp_path)

    np.savez(tmp_path / "cifar100n_labels.npz", clean=fine[::-1], noisy=fine, noisy_coarse=fine)
    assert "its right labels are not those of the images" in message("cifar100n:fine", root=tmp_path)

    np.savez(tmp_path / "cifar100n_labels.npz", clean=fine)
    assert "no labels 'noisy' (clean)" in message("cifar100n:fine", root=tmp_path)


class Hostile:
    """A pickle that would make a folder."""

    def __init__(self, canary):
        self.canary = canary

    def __reduce__(self):
        return os.mkdir, (str(self.canary),)


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_a_hostile_pickle_is_refused_and_not_run(tmp_path, protocol):
    cifar100(tmp_path)
    (tmp_path / "cifar-100-python" / "train").write_bytes(
        pickle.dumps({"data": Hostile(tmp_path / "canary")}, protocol)
    )

    text = message("cifar100", root=tmp_path)

    assert "it asks for posix.mkdir, which no data of CIFAR needs" in text
    assert not (tmp_path / "canary").exists()


def test_a_hostile_file_of_human_labels_is_refused_and_not_run(tmp_path):
    cifar100(tmp_path)
    torch.save({"clean_label": Hostile(tmp_path / "canary")}, tmp_path / "CIFAR-100_human.pt")

    assert "cannot be read as human labels" in message("cifar100n:fine", root=tmp_path)
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "cifar100", "cifar10n:worse", "cifar100n:fine"])
def test_absent_collections_say_what_is_looked_for_and_how_to_get_it(tmp_path, name):
    text = message(name, root=tmp_path)

    assert f"in {tmp_path}" in text
    assert "--download" in text
