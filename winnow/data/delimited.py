"""Comma- and tab-separated files, read strictly: what does not fit is named by its line."""

from __future__ import annotations

import codecs
import csv
import io
from dataclasses import dataclass
from pathlib import Path

from winnow.data.places import LocalPlace, Place
from winnow.errors import InputError

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))


@dataclass(frozen=True)
class Cells:
    """A table of texts.

    Attributes:
        columns: the cells of each column, by its name.
        lines: where each row begins, counted from 1 as an editor does.
    """

    columns: dict[str, list[str]]
    lines: list[int]


def read_delimited(path: Path | Place) -> Cells:
    """Every cell of a .csv or .tsv file as its text.

    Raises:
        InputError: the file is not UTF-8 or UTF-16, holds NUL bytes, or a line does not fit the header.
    """
    place = LocalPlace(path) if isinstance(path, Path) else path
    text = read_text(place)
    delimiter = "\t" if place.suffix == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    rows: list[list[str]] = []
    lines: list[int] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not header:
                header = _header(cells, place, line)
            elif cells:  # else an empty line
                if len(cells) != len(header):
                    raise InputError(f"{place} line {line}: {len(cells)} fields where the header has {len(header)}")
                rows.append(cells)
                lines.append(line)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{place} line {line}: {error}") from error
    if not header:
        raise InputError(f"{place}: the file is empty")
    return Cells({name: [row[column] for row in rows] for column, name in enumerate(header)}, lines)


def read_text(path: Place) -> str:
    """A whole text file, UTF-8 or UTF-16 by its mark.

    Raises:
        InputError: it cannot be read, or is neither.
    """
    data = path.read_bytes()
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    if encoding != "utf-16" and b"\x00" in data:
        line = data[: data.index(b"\x00")].count(b"\n") + 1
        raise InputError(f"{path} line {line}: a NUL byte; is this a text file?")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path} line {line}: not {encoding.upper()}; save the table as UTF-8") from error


def _header(cells: list[str], path: Place, line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path} line {line}: two columns are named '{twice[0]}'")
    if len(names) == 1:
        for other, word in ((";", "semicolons"), ("\t", "tabs"), (",", "commas"), ("|", "bars")):
            if other in names[0]:
                raise InputError(f"{path} line {line}: one column '{names[0]}'; it seems to be separated by {word}")
    return names
