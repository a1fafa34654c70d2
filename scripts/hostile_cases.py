"""Collections that are hostile as a whole: their names, labels and tables, and what a command must make of each."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from hostile_files import encoded, picture
from PIL import Image

csv.field_size_limit(sys.maxsize)
CLASSES = ("cat", "dog", "<script>", '"><img src=x onerror=alert(1)>', "{{7*7}}", "=cmd()", "+1", "-x", "@SUM(A1)")
Build = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Case:
    """One collection and one command.

    Attributes:
        row: of the fault table.
        what: is hostile about it.
        build: makes it in a folder and gives the command, in which `{}` stands for that folder.
        expected: beside the exit code.
        code: the exit code.
        says: what must stand on stderr.
        summary: what the run's summary must say.
        permissions: to be run without an administrator's right to read everything.
    """

    row: int
    what: str
    build: Build
    expected: str
    code: int = 0
    says: str = ""
    summary: Mapping[str, Any] = field(default_factory=dict)
    permissions: bool = False


def write_csv(path: Path, columns: Mapping[str, Sequence[str]], encoding: str = "utf-8") -> None:
    """Writes columns as a comma-separated table."""
    with path.open("w", newline="", encoding=encoding) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def write_parquet(path: Path, columns: Mapping[str, Any]) -> None:
    """Writes columns as Parquet."""
    pq.write_table(pa.table(dict(columns)), path)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """A table's rows, every cell exact."""
    if path.suffix == ".parquet":
        rows: list[dict[str, Any]] = pq.read_table(path).to_pylist()
        return rows
    with path.open(newline="", encoding="utf-8") as file:
        return [dict(row) for row in csv.DictReader(file)]


def photos(folder: Path, counts: Mapping[str, int], *, alike: bool = False) -> Path:
    """A folder of good pictures: so many of each class."""
    chance = np.random.default_rng(3)
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((24, 24, 3), 9, np.uint8) if alike else picture(chance, number, 24)
            (folder / name / f"{i:03d}.png").write_bytes(encoded(pixels, "PNG"))
    return folder


def _folder(counts: Mapping[str, int], *options: str, alike: bool = False) -> Build:
    def build(folder: Path) -> list[str]:
        photos(folder / "photos", counts, alike=alike)
        return ["train", "{}/photos", *options]

    return build


def _labels(labels: Sequence[str], **more: Sequence[str]) -> Build:
    """A table with those labels of as many pictures."""

    def build(folder: Path) -> list[str]:
        photos(folder / "p", {"x": len(labels)})
        paths = [f"p/x/{i:03d}.png" for i in range(len(labels))]
        write_csv(folder / "t.csv", {"path": paths, "label": list(labels), **more})
        return ["train", "{}/t.csv"]

    return build


def _text(content: str | bytes, name: str = "t.csv") -> Build:
    """A table of that text, beside a few pictures `p/x/00N.png`."""

    def build(folder: Path) -> list[str]:
        photos(folder / "p", {"x": 4, "y": 4})
        (folder / name).write_bytes(content if isinstance(content, bytes) else content.encode())
        return ["train", f"{{}}/{name}"]

    return build


def _parquet(labels: object, images: object = None, num: int = 12) -> Build:
    """A Parquet file with that label column."""

    def build(folder: Path) -> list[str]:
        chance = np.random.default_rng(4)
        pictures = [encoded(picture(chance, i % 2, 24), "PNG") for i in range(num)]
        write_parquet(folder / "t.parquet", {"image": pictures if images is None else images, "label": labels})
        return ["train", "{}/t.parquet"]

    return build


def _rows(count: int = 8) -> str:
    return "".join(f"p/{'xy'[i % 2]}/{i // 2:03d}.png,{'xy'[i % 2]}\n" for i in range(count))


def _followed_link(folder: Path) -> list[str]:
    photos(folder / "photos", {"a": 8, "b": 8})
    photos(folder / "elsewhere", {"c": 2})
    (folder / "photos" / "a" / "link.png").symlink_to("../../elsewhere/c/000.png")
    return ["train", "{}/photos", "--follow-links"]


def _no_permission(folder: Path) -> list[str]:
    photos(folder / "photos", {"a": 8, "b": 8})
    (folder / "photos" / "a" / "003.png").chmod(0)
    return ["train", "{}/photos"]


def _odd_folders(folder: Path) -> list[str]:
    photos(folder / "photos", {".hidden": 3, "Cat": 4, "cat": 4, "dog": 0, "dog/deep/deeper": 4, "empty": 0})
    (folder / "photos" / "cat" / "Thumbs.db").write_bytes(b"\0" * 9)
    (folder / "photos" / "cat" / ".DS_Store").write_bytes(b"\0" * 9)
    return ["train", "{}/photos"]


def _unknown_test_class(folder: Path) -> list[str]:
    photos(folder / "photos", {"a": 8, "b": 8})
    photos(folder / "test", {"a": 2, "c": 2})
    return ["train", "{}/photos", "--test", "{}/test"]


def _tab_class(command: str, ending: str) -> Build:
    def build(folder: Path) -> list[str]:
        photos(folder / "photos", {"\ttab": 8, "\rreturn": 8, "plain": 8})
        return [command, "{}/photos", *(["--rate", "0.2", "--out", f"{{}}-n.{ending}"] if command == "noise" else [])]

    return build


def _many_classes(folder: Path) -> list[str]:
    chance = np.random.default_rng(5)
    labels = chance.permutation(10_000)[:2_000]
    names = np.array([f"class {i}" for i in range(10_000)])
    np.savez(folder / "t.npz", x=chance.integers(0, 255, (2_000, 8, 8)).astype(np.uint8), y=labels, class_names=names)
    return ["train", "{}/t.npz"]


def _cut_parquet(folder: Path) -> list[str]:
    arguments = _parquet(["a", "b"] * 6)(folder)
    data = (folder / "t.parquet").read_bytes()
    (folder / "t.parquet").write_bytes(data[: len(data) // 2])
    return arguments


def _all_broken(folder: Path) -> list[str]:
    for name in ("a", "b"):
        (folder / "photos" / name).mkdir(parents=True)
        for i in range(4):
            (folder / "photos" / name / f"{i}.jpg").write_bytes(b"" if i else b"no picture")
    return ["train", "{}/photos"]


def _no_images(folder: Path) -> list[str]:
    (folder / "photos" / "a").mkdir(parents=True)
    return ["train", "{}/photos"]


_TWO = ["a", "b"] * 6
CASES: tuple[Case, ...] = (
    Case(17, "a link out of the folder, with --follow-links", _followed_link, "used", summary={"quarantined": 0}),
    Case(18, "a file that may not be read", _no_permission, "set aside", summary={"quarantined": 1}, permissions=True),
    Case(21, "classes that begin with TAB and CR", _tab_class("train", ""), "names exact",
         summary={"class_names": ["\ttab", "\rreturn", "plain"]}),
    Case(21, "the same to .parquet", _tab_class("noise", "parquet"), "written"),
    Case(21, "the same to .csv", _tab_class("noise", "csv"), "refused: blanks at its edge are lost in a table", 4,
         "write .parquet"),
    Case(22, "hidden, empty, nested and twin folders, other files", _odd_folders, "hidden ignored, others kept",
         says="differ only in case", summary={"class_names": ["Cat", "cat", "dog", "empty"], "num_images": 12}),
    Case(23, "labels that are empty, nan, None, null, NA", _labels([*_TWO, "", "nan", "None", "null", "NA"]),
         "unlabelled", summary={"unlabelled": 5, "class_names": ["a", "b"]}),
    Case(23, "null labels in Parquet", _parquet([*_TWO[:10], None, None]), "unlabelled", summary={"unlabelled": 2}),
    Case(23, "no label at all", _labels([""] * 12), "says so", 4, "label"),
    Case(24, "floats as labels", _labels(["3.0", "1"] * 6), "names them", 4, "3.0"),
    Case(24, "floats as labels in Parquet", _parquet([0.0, 1.0] * 6), "names them", 4, "label"),
    Case(24, "a label with a blank behind it", _labels(["cat", "cat "] * 6), "names it", 4, "cat "),
    Case(24, "negative labels", _parquet([0, -1] * 6), "names them", 4, "-1"),
    Case(24, "labels from 1 to K", _parquet([1, 2] * 6), "says so", 4, "1"),
    Case(24, "a test set with an unknown class", _unknown_test_class, "names it", 4, "'c'"),
    Case(25, "the same id twice", _labels(_TWO, id=["x"] * 2 + [str(i) for i in range(10)]), "names it", 4, "'x'"),
    Case(25, "the same file twice with two labels", _text("path,label\n" + _rows() + "p/x/000.png,y\n"),
         "names the pair", 4, "p/x/000.png"),
    Case(26, "one class", _folder({"a": 8}), "trained, warned", says="one class"),
    Case(26, "a class of one image", _folder({"a": 8, "b": 1}), "trained", summary={"num_classes": 2}),
    Case(26, "more classes than images", _folder({**dict.fromkeys("abcdefgh", 0), "i": 2, "j": 2}), "trained",
         summary={"num_classes": 10, "num_images": 4}),
    Case(26, "10,000 classes, 2,000 images", _many_classes, "trained", summary={"num_classes": 10_000}),
    Case(27, "semicolons", _text("path;label\n" + _rows().replace(",", ";")), "says so", 4, "semicolons"),
    Case(27, "tabs in a .csv", _text("path\tlabel\n" + _rows().replace(",", "\t")), "says so", 4, "tabs"),
    Case(27, "a quote that never ends", _text('path,label\np/x/000.png,"x\n' + _rows()), "the line", 4, "line 2"),
    Case(27, "quotes across lines", _text('path,label,remark\np/x/000.png,x,"two\nlines"\np/y/000.png,y,-\n'), "read",
         summary={"num_images": 2}),
    Case(27, "UTF-8 with a mark", _text("\ufeffpath,label\n" + _rows()), "read", summary={"num_images": 8}),
    Case(27, "UTF-16", _text(("path,label\n" + _rows()).encode("utf-16")), "read", summary={"num_images": 8}),
    Case(27, "Latin-1", _text(("path,label\n" + _rows()).encode() + b"p/x/000.png,\xe9\n"), "the line", 4, "line 10"),
    Case(27, "ragged rows", _text("path,label\n" + _rows(4) + "p/x/003.png,x,more\n"), "the line", 4, "line 6"),
    Case(27, "a NUL byte", _text("path,label\n" + _rows(2) + "p/x/0\00000.png,x\n"), "the line", 4, "line 4"),
    Case(27, "a field of 50 MB", _text("path,label\n" + _rows(2) + "x" * 50_000_000 + ",x\n"), "the line", 4, "line 4"),
    Case(27, "two columns of one name", _text("path,label,label\n" + _rows()), "says so", 4, "label"),
    Case(27, "an empty file", _text(""), "says so", 4, "empty"),
    Case(27, "a header alone", _text("path,label\n"), "says so", 4, "no rows"),
    Case(28, "cut in half", _cut_parquet, "names the file", 4, "t.parquet"),
    Case(28, "text named .parquet", _text("path,label\n" + _rows(), "t.parquet"), "names the file", 4, "t.parquet"),
    Case(28, "images that are numbers", _parquet(_TWO, list(range(12))), "names column and type", 4, "image"),
    Case(28, "nested labels", _parquet([{"a": 1}] * 12), "names column and type", 4, "label"),
    Case(28, "labels stored as a dictionary", _parquet(pa.array(_TWO).dictionary_encode()), "read",
         summary={"num_images": 12, "class_names": ["a", "b"]}),
    Case(28, "no rows", _parquet(pa.array([], pa.string()), pa.array([], pa.binary()), 0), "says so", 4, "no rows"),
    Case(50, "no images", _no_images, "says so", 4, "no images"),
    Case(50, "one image", _folder({"a": 1}), "trained", summary={"num_images": 1}),
    Case(50, "two images", _folder({"a": 1, "b": 1}), "trained", summary={"num_images": 2}),
    Case(50, "all images alike", _folder({"a": 8, "b": 8}, alike=True), "trained", summary={"num_images": 16}),
    Case(50, "all images broken", _all_broken, "says why", 4, "empty"),
)  # fmt: skip


# The mixed folder

_FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF", "AVIF")
_MIXED = ("disc", "square", "triangle", "bars", "cross")


def write_mixed(folder: Path, count: int, seed: int, broken: bool = True) -> int:
    """A folder of five classes of shapes in every format, size and mode; gives how many files are broken."""
    chance = np.random.default_rng(seed)
    number_broken = 0
    for number in range(count):
        kind = number % 5
        name, data = _mixed_file(chance, number, kind)
        if broken and number % 20 == 7:
            data = (b"", data[: len(data) // 3], b"<html>not found</html>")[number_broken % 3]
            number_broken += 1
        path = folder / _MIXED[kind] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return number_broken


def _mixed_file(chance: np.random.Generator, number: int, kind: int) -> tuple[str, bytes]:
    width, height = (round(10 * 60 ** chance.uniform(0, 1)) for _ in range(2))
    # Pictures of a collection are rarely much longer than wide.
    height = int(np.clip(height, max(10, width * 0.7), width * 1.4))
    pixels = picture(chance, kind, width, height)
    image = Image.fromarray(pixels)
    form = _FORMATS[number // 5 % len(_FORMATS)]
    how: dict[str, Any] = {}
    if form in ("JPEG", "TIFF") and number % 3 == 0:
        image = image.convert("CMYK")
    elif form == "PNG" and number % 3 == 0:
        grey = np.asarray(image.convert("L")).astype(np.uint16) * 257
        image = Image.fromarray(grey)
    elif form in ("PNG", "WEBP") and number % 3 == 1:
        image.putalpha(Image.new("L", image.size, 255))
    elif number % 4 == 0:
        image = image.convert("L")
    if form == "JPEG" and number % 2:
        exif = Image.Exif()
        exif[0x0112] = 6  # stored lying on its side
        image, how = image.transpose(Image.Transpose.ROTATE_90), {"exif": exif}
    return f"{number:04d}.{form.lower()}", encoded(image, form, **how)
