"""Comma- and tab-separated files, read strictly: what does not fit is named by its line."""

from __future__ import annotations

import codecs
import csv
import io
from pathlib import Path

from winnow.errors import InputError

_BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_LONGEST_CELL = 131_072


def read_delimited(path: Path) -> dict[str, list[str]]:
    """Columns by name, every cell as its text.

    Raises:
        InputError: the file is not UTF-8 or UTF-16, holds NUL bytes, or a line does not fit the header.
    """
    text = _text(path)
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ","
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    line = 1
    rows: list[list[str]] = []
    header: list[str] = []
    try:
        for cells in reader:
            if not header:
                header = _header(cells, path, line)
            elif cells:  # else an empty line
                if len(cells) != len(header):
                    raise InputError(f"{path} line {line}: {len(cells)} fields where the header has {len(header)}")
                rows.append(cells)
            line = reader.line_num + 1
    except csv.Error as error:
        raise InputError(f"{path} line {line}: {error}") from error
    if not header:
        raise InputError(f"{path}: the file is empty")
    return {name: [row[place] for row in rows] for place, name in enumerate(header)}


def _text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from error
    encoding = next((name for bom, name in _BOMS if data.startswith(bom)), "utf-8")
    if encoding != "utf-16" and b"\x00" in data:
        line = data[: data.index(b"\x00")].count(b"\n") + 1
        raise InputError(f"{path} line {line}: a NUL byte; is this a text file?")
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{path} line {line}: not {encoding.upper()}; save the table as UTF-8") from error


def _header(cells: list[str], path: Path, line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"{path} line {line}: two columns are named '{twice[0]}'")
    if len(names) == 1:
        for other, word in ((";", "semicolons"), ("\t", "tabs"), (",", "commas"), ("|", "bars")):
            if other in names[0]:
                raise InputError(f"{path} line {line}: one column '{names[0]}'; it seems to be separated by {word}")
    return names
