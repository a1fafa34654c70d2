"""Tar shards, read in place: row 30 of the fault table."""

import io
import json
import os
import tarfile

import pytest

from tests.data.pictures import message, png, value_of
from winnow.data.open import open_source
from winnow.data.source import Unreadable


def member(name, data=b"", **attributes):
    info = tarfile.TarInfo(name)
    info.size = len(data)
    for key, value in attributes.items():
        setattr(info, key, value)
    return info, data


@pytest.fixture
def write(tmp_path):
    def write(*members, name="shards-000.tar"):
        folder = tmp_path / "shards"
        folder.mkdir(exist_ok=True)
        with tarfile.open(folder / name, "w") as archive:
            for info, data in members:
                archive.addfile(info, io.BytesIO(data))
        return folder / name

    return write


def fault(source, key):
    with pytest.raises(Unreadable) as caught:
        source.pictures.read(list(source.ids).index(key))
    return caught.value


def test_files_of_one_key_are_one_image_with_its_label(write):
    path = write(
        member("a/1.png", png(5)), member("a/1.cls", b"1\n"), member("a/2.cls", b"0"), member("a/2.png", png(6))
    )

    source = open_source(path)

    assert list(source.ids) == ["a/1", "a/2"]
    assert source.class_names == ("0", "1")
    assert source.noisy_labels.tolist() == [1, 0]
    assert [value_of(source, row) for row in (0, 1)] == [5, 6]
    assert source.notes == ()


def test_labels_may_stand_in_text_or_json_files(write):
    texts = open_source(write(member("1.png", png()), member("1.txt", b"cat\n"), member("2.png", png())))
    assert (texts.class_names, texts.noisy_labels.tolist()) == (("cat",), [0, -1])

    records = [{"label": "dog", "given": "cat", "boxes": [1]}, {"label": "cat", "given": "cat"}]
    members = [
        each
        for row, record in enumerate(records)
        for each in (member(f"{row}.jpg", png()), member(f"{row}.json", json.dumps(record).encode()))
    ]
    source = open_source(write(*members), label_column="given", clean_label_column="label")
    assert source.class_names == ("cat", "dog")
    assert source.clean_labels.wrong(source.noisy_labels).tolist() == [True, False]
    assert open_source(write(*members)).noisy_labels.tolist() == [1, 0]


def test_several_shards_are_one_collection(write, tmp_path):
    for shard in range(3):
        write(member("x.png", png(shard)), member("x.cls", str(shard).encode()), name=f"shards-{shard:03d}.tar")

    source = open_source(f"{tmp_path}/shards/shards-{{000..002}}.tar")

    # The same key in each: the shard's name tells them apart.
    assert list(source.ids) == ["shards-000/x", "shards-001/x", "shards-002/x"]
    assert [value_of(source, row) for row in range(3)] == [0, 1, 2]
    assert open_source(f"{tmp_path}/shards/shards-*.tar").ids == source.ids
    assert list(open_source(f"{tmp_path}/shards/shards-{{000,002}}.tar").noisy_labels) == [0, 2]
    assert "1 of its 4 files are not there" in message(f"{tmp_path}/shards/shards-{{000..003}}.tar")


def test_a_shard_cut_off_in_a_picture_gives_all_others(write):
    path = write(*(member(f"{row}.png", png(row, 64)) for row in range(3)))
    with tarfile.open(path) as archive:
        last = archive.getmembers()[2]
    os.truncate(path, last.offset_data + last.size // 2)

    source = open_source(path, unlabelled_ok=True)

    assert [value_of(source, row) for row in (0, 1)] == [0, 1]
    found = fault(source, "2")
    assert found.code == "truncated-archive"
    assert f"{path} at byte {last.offset_data:,}" in found.reason
    assert f"Archives that break off: 1 ({path}: at byte {os.path.getsize(path):,})" in " ".join(source.notes)


def cut_anywhere(path):
    """The source after each cut between the header of the first picture and the end of the last member."""
    with tarfile.open(path) as archive:
        first = next(each.offset for each in archive.getmembers() if each.name.endswith(".png"))
        last = archive.offset
    content = path.read_bytes()
    for end in range(first + 512, last + 1, 512):
        path.write_bytes(content[:end])
        yield end, open_source(path, unlabelled_ok=True)


@pytest.mark.parametrize("order", ["by key", "pictures first, then labels", "labels first"])
def test_wherever_a_shard_is_cut_no_picture_is_used_without_its_label(write, order):
    pictures = [member(f"{row:02d}.png", png(row)) for row in range(12)]
    labels = [member(f"{row:02d}.cls", str(row % 3).encode()) for row in range(12)]
    by_key = [each for pair in zip(pictures, labels, strict=True) for each in pair]
    members = {"by key": by_key, "labels first": labels + pictures}.get(order, pictures + labels)
    path = write(*members)
    seen = set()

    for end, source in cut_anywhere(path):
        used = 0
        for row, key in enumerate(source.ids):
            if source.pictures.faults[row]:
                found = fault(source, key)
                assert found.code == "truncated-archive"
                assert str(path) in found.reason
                continue
            assert value_of(source, row) == int(key)
            used += 1
            # Where no label is left at all, nothing tells pictures that come first from unlabelled ones.
            if order != "pictures first, then labels" or (source.noisy_labels >= 0).any():
                assert source.class_names[source.noisy_labels[row]] == str(int(key) % 3)
        assert any(note.startswith("Archives that break off: 1") for note in source.notes), end
        seen.add(used)

    assert seen >= ({0, 1, 6, 11} if order == "by key" else {0, 1} if order == "labels first" else {1, 6, 11})


def test_a_shard_cut_in_its_second_label_file_loses_that_picture_alone(write):
    endings = {"png": png(), "cls": b"0", "txt": b"cat"}
    path = write(*(member(f"{row}.{ending}", data) for row in range(2) for ending, data in endings.items()))
    with tarfile.open(path) as archive:
        os.truncate(path, archive.getmembers()[-1].offset)

    source = open_source(path)

    assert source.pictures.read(0).shape == (10, 10, 3)
    assert fault(source, "1").code == "truncated-archive"


def test_a_damaged_header_in_the_middle_is_an_archive_that_breaks_off(write):
    path = write(*(each for row in range(4) for each in (member(f"{row}.png", png(row)), member(f"{row}.cls", b"0"))))
    with tarfile.open(path) as archive:
        third = archive.getmembers()[4].offset
    content = bytearray(path.read_bytes())
    content[third + 148 : third + 156] = b"????????"
    path.write_bytes(content)

    source = open_source(path)

    assert list(source.ids) == ["0", "1"]
    assert f"Archives that break off: 1 ({path}: at byte {third:,})." in source.notes


@pytest.mark.parametrize(
    "bad", [member("b.cls", b"\xff"), member("b.json", b"{"), member("b.json", b"[1]"), member("b.cls", b"1" * 2**21)]
)
def test_one_damaged_label_costs_that_label_alone(write, bad):
    path = write(member("a.png", png(1)), member("a.cls", b"0"), member("b.png", png(2)), bad)

    source = open_source(path)

    assert source.noisy_labels.tolist() == [0, -1]
    assert [value_of(source, row) for row in (0, 1)] == [1, 2]
    note = f"Labels that cannot be read, the images are used without them: 1 ({path}: {bad[0].name}: "
    assert any(each.startswith(note) for each in source.notes)


def test_lists_in_json_files_give_an_image_several_classes(write):
    records = [{"label": ["cat", "dog"]}, {"label": []}, {"other": 1}, {"label": ["dog"], "unknown_label": ["cat"]}]
    members = [
        each
        for row, record in enumerate(records)
        for each in (member(f"{row}.png", png()), member(f"{row}.json", json.dumps(record).encode()))
    ]

    source = open_source(write(*members))

    assert source.class_names == ("cat", "dog")
    assert source.noisy_labels.tolist() == [[1, 1], [0, 0], [-1, -1], [-1, 1]]
    assert "shards-000.tar (9): 'label' is 'cat', where others are lists" in message(
        write(*members, member("9.png", png()), member("9.json", b'{"label": "cat"}'))
    )


def test_a_name_that_stands_there_twice_gives_the_first_and_sets_the_second_aside(write):
    path = write(member("a.png", png(1)), member("a.cls", b"0"), member("a.png", png(2)), member("a.cls", b"1"))

    source = open_source(path)

    assert value_of(source, 0) == 1
    assert source.noisy_labels.tolist() == [0, -1]
    assert fault(source, source.ids[1]).code == "duplicate-member"
    assert "Labels that stand there twice, the first is used: 1" in source.notes[0]


def test_a_key_without_a_label_is_unlabelled_and_one_without_a_picture_is_noted(write):
    source = open_source(
        write(member("a.png", png()), member("a.cls", b"0"), member("b.png", png()), member("c.cls", b"1"))
    )

    assert list(source.ids) == ["a", "b"]
    assert source.noisy_labels.tolist() == [0, -1]
    assert "Labels without a picture were passed over: 1" in source.notes[0]


@pytest.mark.parametrize(
    ("info", "code"),
    [
        (member("../../x.png", png()), "path-outside"),
        (member("/etc/x.png", png()), "path-outside"),
        (member("x.png", type=tarfile.SYMTYPE, linkname="/etc/passwd"), "link-in-archive"),
        (member("x.png", type=tarfile.LNKTYPE, linkname="a.png"), "link-in-archive"),
        (member("x.png", type=tarfile.CHRTYPE), "not-a-regular-file"),
        (member("x.png", type=tarfile.FIFOTYPE), "not-a-regular-file"),
    ],
)
def test_hostile_members_are_set_aside_with_their_place_and_nothing_is_written(write, tmp_path, info, code):
    path = write(member("a.png", png(3)), member("a.cls", b"0"), info)
    before = sorted(tmp_path.rglob("*"))

    source = open_source(path)

    assert value_of(source, 0) == 3
    found = fault(source, source.ids[1])
    assert found.code == code
    assert str(path) in found.reason
    assert sorted(tmp_path.rglob("*")) == before


def test_a_sparse_bomb_is_set_aside_without_being_read(write):
    # GNU's old sparse header: a map of one piece, and a real size of 2**40 bytes.
    name, data = "bomb.png", b"x" * 512
    header = bytearray(tarfile.TarInfo(name).tobuf(tarfile.GNU_FORMAT))
    header[124:136] = b"%011o\0" % len(data)
    header[156:157] = tarfile.GNUTYPE_SPARSE
    header[386:398], header[398:410] = b"%011o\0" % 0, b"%011o\0" % len(data)
    header[483:495] = b"\x80" + (2**40).to_bytes(11)
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    path = write(member("a.png", png(3)))
    content = path.read_bytes()
    with tarfile.open(path) as archive:
        start = archive.getmembers()[0].offset_data + 512 * -(-archive.getmembers()[0].size // 512)
    path.write_bytes(content[:start] + bytes(header) + data + bytes(1024))

    source = open_source(path, unlabelled_ok=True)

    assert value_of(source, 0) == 3
    assert fault(source, "bomb").code == "sparse-in-archive"


@pytest.mark.parametrize(
    ("info", "expected"),
    [
        (member("a.cls", b"\xff"), "a.cls: cannot be read"),
        (member("a.json", b"{"), "a.json: cannot be read"),
        (member("a.json", b"[1]"), "a.json: one JSON object is needed, this is a list"),
        (member("a.cls", b"1" * (2**20 + 1)), "bytes are no label"),
    ],
)
def test_a_damaged_label_is_named(write, info, expected):
    assert expected in message(write(member("a.png", png()), info))


def test_a_file_that_is_no_archive_or_holds_no_picture_says_so(tmp_path, write):
    (tmp_path / "x.tar").write_bytes(b"no archive" * 100)

    assert "cannot be read as .tar" in message(tmp_path / "x.tar")
    path = write(member("a.cls", b"1"))
    assert "no pictures in it" in message(path)
    os.truncate(path, 1024)
    assert "no pictures in it; it breaks off" in message(path)


def test_rows_taken_from_shards_keep_their_pictures(write):
    path = write(*(each for row in range(20) for each in (member(f"{row}.png", png(row)), member(f"{row}.cls", b"0"))))

    part = open_source(path, limit=5)

    assert [value_of(part, row) for row in range(5)] == [int(name) for name in part.ids]


def test_labels_in_shards_that_cannot_be_used_are_named_by_shard_and_key(write):
    path = write(member("a.png", png()), member("a.cls", b"-1"), member("b.png", png()), member("b.cls", b"2.5"))

    assert f"'-1' (negative) at {path} (a)" in message(path)
