"""The folder of a run or of an audit as its report needs it: summary, epochs, labels, findings, what was set aside."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from winnow.errors import InputError


@dataclass(frozen=True)
class Labels:
    """The columns of `labels.parquet` that a page shows, one entry per image in source order.

    Where an image may have several classes there is an entry for each known class of each image, and absence is a class
    of its own: `no cat` stands behind all the classes that can be present.

    Args:
        class_names: in index order.
        given, suggested: class indices, -1 where there is none.
        quality, probability: `label_quality` and `suggested_probability`.
        doubted: the given label looks wrong.
        texts: the columns `id` and `reason`, read one row at a time.
        rows: the image of each entry, ascending.
        num_classes: classes that an image can show; the absences are numbered from there.
    """

    class_names: list[str]
    given: np.ndarray
    suggested: np.ndarray
    quality: np.ndarray
    probability: np.ndarray
    doubted: np.ndarray
    texts: pa.Table
    rows: np.ndarray
    num_classes: int

    def __len__(self) -> int:
        return len(self.given)

    def name(self, index: int) -> str:
        """The name of a class."""
        return self.class_names[index] if 0 <= index < len(self.class_names) else f"class {index}"

    def text(self, entry: int, column: str) -> str:
        """The text of an entry's `id` or `reason`, "" where there is none."""
        value = self.texts.column(column)[int(self.rows[entry])].as_py() if column in self.texts.column_names else None
        return "" if value is None else str(value)

    def given_names(self, row: int) -> list[str]:
        """The names of the classes given to an image, by its row; none where it has no label."""
        entries = self.given[slice(*np.searchsorted(self.rows, [row, row + 1]))]
        return [self.name(int(label)) for label in entries if 0 <= label < self.num_classes]


@dataclass(frozen=True)
class KindFindings:
    """The findings of one kind, the worst first: columns of `findings.parquet`.

    Args:
        rows, others: the image and the one that it is about, -1 where there is none.
        suggested: the class that a wrong label looks like, -1 where there is none.
        probability: that the finding is true; NaN where it is a fact, or only a similarity is known.
        similarity: of near copies, see `winnow.audit.findings.Found`; NaN elsewhere.
        groups: the duplicate group, -1 where there is none.
        texts: the columns `id`, `other_id` and `reason`, read one row at a time.
    """

    rows: np.ndarray
    others: np.ndarray
    suggested: np.ndarray
    probability: np.ndarray
    similarity: np.ndarray
    groups: np.ndarray
    texts: pa.Table

    def __len__(self) -> int:
        return len(self.rows)

    def text(self, place: int, column: str) -> str:
        """The text of a finding, "" where there is none."""
        value = self.texts.column(column)[place].as_py()
        return "" if value is None else str(value)


@dataclass(frozen=True)
class SetAside:
    """Images that were not used: how many for which reason, and the first few."""

    total: int
    reasons: list[tuple[str, int]]
    examples: list[tuple[str, str]]


def read_summary(run: Path) -> dict[str, Any]:
    """What the command said about its run.

    Raises:
        InputError: there is no readable `summary.json`.
    """
    return _read_object(run, "summary.json")


def read_source(audit: Path) -> dict[str, Any]:
    """What an audit read, from its `source.json`; nothing where there is none.

    Raises:
        InputError: the file is damaged.
    """
    return _read_object(audit, "source.json") if (audit / "source.json").exists() else {}


def _read_object(folder: Path, name: str) -> dict[str, Any]:
    try:
        content = json.loads((folder / name).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: no readable {name}, is this a finished run? ({error})") from error
    if not isinstance(content, dict):
        raise InputError(f"{folder}/{name}: expected an object, found {type(content).__name__}")
    return content


def read_epochs(run: Path) -> list[dict[str, Any]]:
    """The lines of `metrics.jsonl`, none without the file; a last line cut short by a crash is left out.

    Raises:
        InputError: a line before the last is no JSON.
    """
    try:
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    epochs = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            epochs.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{run}/metrics.jsonl line {number}: no JSON ({error})") from error
    return epochs


def read_labels(run: Path, class_names: list[str]) -> Labels:
    """The label table of a run; `class_names` are used where the file itself carries none.

    Raises:
        InputError: the table is missing, damaged or lacks a column.
    """
    wanted = ["id", "given_label", "label_quality", "suggested_label", "suggested_probability", "is_issue"]
    path = run / "labels.parquet"
    try:
        schema = pq.read_schema(path)
        several = "given_label" in schema.names and pa.types.is_list(schema.field("given_label").type)
        optional = [name for name in ("issue", "reason") if name in schema.names]
        optional += ["unknown_label", "label_quality_by_class"] if several else []
        table = pq.read_table(path, columns=[*wanted, *optional])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable label table ({error})") from error
    missing = [name for name in wanted if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}")
    stored = (schema.metadata or {}).get(b"class_names")
    names = json.loads(stored) if stored else class_names
    texts = table.select(["id", *(name for name in ("reason",) if name in table.column_names)])
    if several:
        return _cells(table, names, texts)

    given, suggested = (_whole(table, column) for column in ("given_label", "suggested_label"))
    flagged = pc.fill_null(table.column("is_issue"), False).to_numpy().astype(bool)
    if "issue" in table.column_names:
        kind = pc.fill_null(table.column("issue").cast(pa.string()), "wrong_label")
        flagged = flagged & pc.equal(kind, "wrong_label").to_numpy().astype(bool)
    return Labels(
        class_names=names,
        given=given,
        suggested=suggested,
        quality=_decimal(table, "label_quality"),
        probability=_decimal(table, "suggested_probability"),
        doubted=flagged & (given >= 0) & (suggested >= 0),
        texts=texts,
        rows=np.arange(len(given)),
        num_classes=len(names),
    )


def read_findings(audit: Path) -> dict[str, KindFindings]:
    """The findings of an audit by their kind, in the order of the file.

    Raises:
        InputError: the table is missing, damaged or lacks a column.
    """
    path = audit / "findings.parquet"
    columns = [
        "kind",
        "row",
        "id",
        "probability",
        "similarity",
        "reason",
        "suggested_label",
        "other_row",
        "other_id",
        "group",
    ]
    try:
        table = pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable table of findings ({error})") from error
    missing = [name for name in columns if name not in table.column_names]
    if missing:
        raise InputError(f"{path}: no column {', '.join(missing)}")
    kinds = pc.unique(table.column("kind")).to_pylist()
    return {kind: _of_kind(table.filter(pc.equal(table.column("kind"), kind))) for kind in kinds}


def _of_kind(table: pa.Table) -> KindFindings:
    return KindFindings(
        rows=_whole(table, "row"),
        others=_whole(table, "other_row"),
        suggested=_whole(table, "suggested_label"),
        probability=_decimal(table, "probability"),
        similarity=_decimal(table, "similarity"),
        groups=_whole(table, "group"),
        texts=table.select(["id", "other_id", "reason"]),
    )


def _whole(table: pa.Table, column: str) -> np.ndarray:
    return pc.fill_null(table.column(column).cast(pa.int64()), -1).to_numpy()


def _decimal(table: pa.Table, column: str) -> np.ndarray:
    return pc.fill_null(table.column(column).cast(pa.float64()), np.nan).to_numpy()


def _cells(table: pa.Table, names: list[str], texts: pa.Table) -> Labels:
    """An entry for each known class of each image."""
    num, classes = table.num_rows, len(names)

    def member(column: str) -> np.ndarray:
        lists = table.column(column).combine_chunks()
        lengths = pc.fill_null(lists.value_lengths(), 0).to_numpy()
        found = np.zeros((num, classes), dtype=bool)
        found[np.repeat(np.arange(num), lengths), lists.flatten().to_numpy()] = True
        return found

    known = ~member("unknown_label") & pc.is_valid(table.column("given_label")).to_numpy()[:, None]
    known &= pc.is_valid(table.column("suggested_label")).to_numpy()[:, None]
    rows, columns = np.nonzero(known)
    given, suggested = (np.where(member(c), 0, classes)[known] + columns for c in ("given_label", "suggested_label"))
    qualities = pc.fill_null(
        table.column("label_quality_by_class").combine_chunks().flatten().cast(pa.float64()), np.nan
    )
    quality = qualities.to_numpy().reshape(num, classes)[known]
    return Labels(
        class_names=[*names, *(f"no {name}" for name in names)],
        given=given,
        suggested=suggested,
        quality=quality,
        probability=np.where(given == suggested, quality, 1 - quality),
        doubted=(quality < 0.5) & (given != suggested),
        texts=texts,
        rows=rows,
        num_classes=classes,
    )


def read_set_aside(run: Path, examples: int = 10) -> SetAside:
    """What `quarantine.parquet` lists; nothing if there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    path = run / "quarantine.parquet"
    if not path.exists():
        return SetAside(0, [], [])
    try:
        table = pq.read_table(path, columns=["id", "code", "reason"])
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: no readable list ({error})") from error
    first = table.slice(0, examples).to_pylist()
    counted = [(str(code["values"]), int(code["counts"])) for code in pc.value_counts(table.column("code")).to_pylist()]
    return SetAside(
        total=table.num_rows,
        reasons=sorted(counted, key=lambda reason: -reason[1]),
        examples=[(str(row["id"]), f"{row['code']}: {row['reason']}") for row in first],
    )
