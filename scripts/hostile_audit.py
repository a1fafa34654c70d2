"""Audits of a thousand files with every fault among them: as a folder, as a table of paths, as a table of bytes.

What cannot occur in a form is a line that says why. The rows are those of the project's fault table.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import hostile_cases
import hostile_files
import numpy as np
import pyarrow.parquet as pq
from hostile_cases import CLASSES
from hostile_files import USED, Item, encoded, picture
from hostile_forms import Placed, build, expected_codes
from hostile_lines import WITHOUT_RIGHTS, Corpus, Row, escaped, fingerprint, last_line

_FILES, _FEW_FILES = 1000, 250
_MOST_RSS = 1500 * 2**20
_MISSING = ("", "nan", "None", "null", "NA")
_ABSENT = {
    ("photos", 23): "a folder's labels are the names of its sub-folders: none is missing",
    ("photos", 24): "every sub-folder's name is a class",
    ("photos", 25): "a file system has one file of a name",
    ("table.csv", 22): "a table names its files; folders mean nothing there",
    ("table.parquet", 22): "the pictures are bytes in the table: there are no folders",
    ("table.parquet", 15): "bytes in a table are no pipe, socket, device or folder",
    ("table.parquet", 16): "bytes in a table are no link",
    ("table.parquet", 17): "bytes in a table are no link",
}
"""Why a row of the fault table does not occur in a form."""


def run_audits(corpus: Corpus, *, quick: bool) -> None:
    """A line for each audit, one for each fault, and those that concern a collection as a whole."""
    folder = corpus.work / "corpus"
    folder.mkdir()
    items = hostile_files.items()
    total = _FEW_FILES if quick else _FILES
    forms = build(folder, items, 1 + (total - len(items)) // len(CLASSES))
    extended = {"photos": _folders(folder, forms["photos"]), "table.csv": _gaps(folder, forms["table.csv"])}
    extended["table.parquet"] = _null_labels(folder, forms["table.parquet"])
    before = fingerprint(folder)
    sources = ["photos"] if quick else list(extended)
    outcomes = {source: _audit(corpus, source, extended[source], before, quick) for source in sources}
    _tell_faults(corpus, sources, extended, outcomes)
    _probabilities(corpus)
    _whole(corpus, sources, forms, quick)
    corpus.tell()


# What the forms hold beside the hostile files


def _folders(corpus: Path, placed: Sequence[Placed]) -> list[Placed]:
    """Rows 18 and 22: a file that nobody may read; hidden, empty, nested and twin folders, other files."""
    root, chance = corpus / "photos", np.random.default_rng(6)
    found = list(placed)

    def put(item: Item, label: str, below: str = "") -> None:
        (root / label / below).mkdir(parents=True, exist_ok=True)
        item.write(root / label / below)
        found.append(Placed(item, f"{label}/{below}{'/' if below else ''}{item.name}", label))

    for name in ("Cat", "cat"):
        put(Item(22, f"of-{name}.png", encoded(picture(chance, 0), "PNG"), USED), name)
    put(Item(22, "nested.png", encoded(picture(chance, 1), "PNG"), USED), "dog", "deep/deeper")
    put(Item(22, "twin.png", encoded(picture(chance, 0), "PNG"), USED), "Cat")
    (root / "empty").mkdir()
    (root / ".hidden").mkdir()
    (root / ".hidden" / "unseen.png").write_bytes(encoded(picture(chance, 1), "PNG"))
    (root / "cat" / "Thumbs.db").write_bytes(b"\0" * 9)
    if _may_lock():
        put(Item(18, "locked.png", encoded(picture(chance, 0), "PNG"), "unreadable"), "cat")
        (root / "cat" / "locked.png").chmod(0)
    return found


def _gaps(corpus: Path, placed: Sequence[Placed]) -> list[Placed]:
    """Row 23: labels that are none."""
    rows = hostile_cases.read_rows(corpus / "table.csv")
    for row, text in zip(rows, _MISSING, strict=False):
        row["label"] = text
    hostile_cases.write_csv(corpus / "table.csv", {name: [row[name] for row in rows] for name in rows[0]})
    return _without_labels(placed)


def _null_labels(corpus: Path, placed: Sequence[Placed]) -> list[Placed]:
    table = pq.read_table(corpus / "table.parquet").to_pydict()
    table["label"][: len(_MISSING)] = [None] * len(_MISSING)
    hostile_cases.write_parquet(corpus / "table.parquet", table)
    return _without_labels(placed)


def _without_labels(placed: Sequence[Placed]) -> list[Placed]:
    """The first ones, which are pictures without fault, now with row 23's."""
    first = [Placed(replace(each.item, row=23), each.id, "") for each in placed[: len(_MISSING)]]
    return [*first, *placed[len(_MISSING) :]]


def _may_lock() -> bool:
    """Whether reading can be forbidden here and its hash be taken all the same."""
    return os.geteuid() == 0 and shutil.which(WITHOUT_RIGHTS[0]) is not None


# One audit


def _audit(
    corpus: Corpus, source: str, placed: Sequence[Placed], before: dict[bytes, str], quick: bool
) -> dict[str, str]:
    """Audits one form; what became of each image by id, and what is said of its file."""
    out = corpus.work / "audits" / source
    beside = set(os.listdir(corpus.work)) | {"audits"}
    budget = "0" if quick or source != "photos" else "0.2"
    lock = WITHOUT_RIGHTS if _may_lock() else ()
    done = corpus.winnow("audit", f"corpus/{source}", "--out", f"audits/{source}", "--budget", budget, "--json",
                         before=lock)  # fmt: skip
    line = corpus.add(Row(0, f"audit {source}: {len(placed):,} images", "exit 0; all counted, all faults named"), done)
    line.same_sources(corpus.work / "corpus", before)
    line.must(set(os.listdir(corpus.work)) == beside, "files beside the source")
    if done.code:
        line.wrong.append(last_line(done.err))
        return {}
    summary = json.loads(done.out)
    labels = pq.read_table(out / "labels.parquet").to_pylist()
    findings = pq.read_table(out / "findings.parquet").to_pylist()
    aside = {row["id"]: row["code"] for row in pq.read_table(out / "quarantine.parquet").to_pylist()}
    told = {row["id"]: row["reason"] for row in findings if row["kind"] == "unreadable"}
    remarks = {row["id"]: row["reason"] for row in findings if row["kind"] == "odd_file"}
    readable = len(labels) - len(aside)
    line.counts = f"{len(labels)} = {readable} + {len(aside)}"
    kinds = Counter(row["kind"] for row in findings)
    line.observed = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    line.must(summary["num_images"] == len(labels) == len(placed), f"{len(placed)} images are there")
    line.must(summary["quarantined"] == len(aside) == len(told), "unreadable ones are counted differently")
    line.must(summary["counts"] == dict(kinds), "findings and summary differ")
    line.must(sorted(row["id"] for row in labels) == sorted(each.id for each in placed), "ids are not exact")
    unlabelled = sum(not each.label for each in placed)
    line.must(summary["unlabelled"] == unlabelled, f"{summary['unlabelled']} without a label, {unlabelled} are")
    names = {*CLASSES, "Cat", "empty"} if source == "photos" else set(CLASSES)
    line.must(summary["num_classes"] == len(names), f"{summary['num_classes']} classes, {len(names)} are there")
    _compare_classes(line, summary, labels, placed, set(aside), out)
    line.must(all(row["reason"] and row["id"] for row in findings), "a finding without a name or a reason")
    line.must(all(told[name].startswith(f"{code}: ") for name, code in aside.items()), "a reason without its code")
    _compare_copies(line, labels, placed)
    line.must(done.rss < _MOST_RSS, f"{done.rss // 2**20} MB")
    report = (out / "report.html").read_text(encoding="utf-8")
    line.must("<script" not in report and "<img src=x" not in report, "a name became markup in the report")
    corpus.tell()
    return {each.id: USED for each in placed} | aside | {f"remark {name}": text for name, text in remarks.items()}


def _compare_classes(
    line: Row, summary: dict[str, Any], labels: list[dict[str, Any]], placed: Sequence[Placed], aside: set[str],
    out: Path,
) -> None:  # fmt: skip
    """The images of each class, as the summary and as the table count them."""
    names = json.loads(pq.read_schema(out / "labels.parquet").metadata[b"class_names"])
    there = Counter(each.label for each in placed if each.label and each.id not in aside)
    counted = {names[entry["class"]]: entry["images"] for entry in summary["class_shares"] if entry["images"]}
    line.must(counted == dict(there), "classes are counted differently")
    given = Counter(names[row["given_label"]] for row in labels
                    if row["given_label"] is not None and row["id"] not in aside)  # fmt: skip
    line.must(given == there, "labels.parquet has other labels")


def _compare_copies(line: Row, labels: list[dict[str, Any]], placed: Sequence[Placed]) -> None:
    """Pictures that differ only in how they are stored are copies; those without fault are no exact ones."""
    by_id = {row["id"]: row for row in labels}
    for group in sorted({each.item.same_as for each in placed} - {""}):
        found = {by_id[each.id]["duplicate_group"] for each in placed if each.item.same_as == group}
        line.must(len(found) == 1 and None not in found, f"the pictures of '{group}' are not one group of copies")
    good = [by_id[each.id] for each in placed if each.item.row in (0, 23)]
    wrong = [row["id"] for row in good if {"exact_duplicate", "unreadable", "odd_file"} & set(row["issues"])]
    line.must(not wrong, f"found in pictures without fault: {', '.join(wrong[:3])}")


def _tell_faults(
    corpus: Corpus, sources: Sequence[str], forms: dict[str, list[Placed]], outcomes: dict[str, dict[str, str]]
) -> None:
    """A line for each fault: what became of its files in each form."""
    for number in range(1, 24):
        line = Row(number, "", "")
        names: dict[str, None] = {}
        expected: dict[str, None] = {}
        seen = []
        for source in sources:
            ours = [each for each in forms[source] if each.item.row == number]
            if not ours:
                line.must((source, number) in _ABSENT, f"{source}: nothing of this row is there")
                seen.append(f"{source}: cannot occur, {_ABSENT.get((source, number), '')}")
                continue
            found = [_fate(line, source, each, outcomes[source]) for each in ours]
            counts = Counter(found)
            seen.append(f"{source}: " + ", ".join(f"{count} {code}" for code, count in sorted(counts.items())))
            names |= dict.fromkeys(each.item.name for each in ours)
            expected |= dict.fromkeys(each.item.expected for each in ours)
        shown = ", ".join(escaped(name) for name in list(names)[:6])
        line.done = f"{len(names)} files: {shown}{', ...' if len(names) > 6 else ''}"
        line.expected, line.observed = "; ".join(expected).replace("|", " or "), "; ".join(seen)
        corpus.rows.append(line)


def _fate(line: Row, source: str, each: Placed, outcome: dict[str, str]) -> str:
    """What became of one file, and whether that and no more is said of it."""
    code, item = outcome.get(each.id, "LOST"), each.item
    line.must(code in expected_codes(item, source), f"{source}: {item.name!r} is {code}")
    said = outcome.get(f"remark {each.id}", "")
    nameless = item.remark == "extension-mismatch" and source == "table.parquet"
    wanted = bool(item.remark) and not nameless and code == USED
    line.must(not wanted or f"({item.remark})" in said, f"{source}: nothing is said of {item.name!r}")
    line.must(wanted or not said, f"{source}: of {item.name!r} it is said: {said}")
    return f"{code} ({item.remark})" if wanted else code


# Rows 24, 25, 31 and 50: refused, or of very few pictures


def _probabilities(corpus: Corpus) -> None:
    """Row 31: an audit makes its own probabilities; a person's come to `find_label_issues`."""
    from winnow import find_label_issues

    chance = np.random.default_rng(7)
    labels = chance.integers(0, 5, 1000)
    probs = np.full((1000, 5), 0.02)
    probs[np.arange(1000), labels] = 0.92
    faults: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
        "NaN": (lambda p: _changed(p, np.nan), "row 17"),
        "infinite": (lambda p: _changed(p, np.inf), "row 17"),
        "negative": (lambda p: _changed(p, -0.1), "row 17"),
        "no sum of 1": (lambda p: p * 1.3, "row"),
        "a column less": (lambda p: p[:, :4] / p[:, :4].sum(axis=1, keepdims=True), "4 columns"),
        "a row less": (lambda p: p[:-1], "999 rows"),
        "columns in another order": (lambda p: p[:, [1, 2, 3, 4, 0]], "class -> column"),
    }
    for what, (made, says) in faults.items():
        row = Row(31, f"find_label_issues, 1,000 rows: {what}", f"refused, says '{says}'")
        try:
            find_label_issues(labels, made(probs))
            row.wrong.append("accepted")
        except ValueError as error:
            row.observed = str(error)[:300]
            row.must(says in str(error), "says something else")
        corpus.rows.append(row)


def _changed(probs: np.ndarray, value: float) -> np.ndarray:
    changed = probs.copy()
    changed[17, 2] = value
    return changed


def _whole(corpus: Corpus, sources: Sequence[str], forms: dict[str, list[Placed]], quick: bool) -> None:
    """Rows 24 and 25 in the table of a thousand files; row 50 in each form."""
    table = corpus.work / "corpus" / "table.csv"
    rows = hostile_cases.read_rows(table)
    for number, what in ((24, "a label with a blank behind it"), (25, "one path twice with two labels")):
        changed = [dict(row) for row in rows]
        if number == 24:
            changed[50]["label"] += " "
            mended = ["--map-labels", f"{rows[50]['label']} ={rows[50]['label']}"]
        else:
            changed.append({"path": rows[60]["path"], "label": next(c for c in CLASSES if c != rows[60]["label"])})
            mended = ["--on-duplicate", "conflict"]
        for ending in ("csv",) if quick else ("csv", "parquet"):
            name = f"corpus/row-{number}.{ending}"
            columns = {key: [row[key] for row in changed] for key in rows[0]}
            (hostile_cases.write_csv if ending == "csv" else hostile_cases.write_parquet)(corpus.work / name, columns)
            says = repr(changed[50]["label"]) if number == 24 else escaped(rows[60]["path"])
            _refused(corpus, number, f"{what}, in .{ending}", name, says)
            if not quick:
                total = len(changed) - (number == 25)
                _accepted(corpus, number, f"the same with {' '.join(mended)}", name, mended, total)
    for source in sources:
        for what, label, code in (("no image", "none", 4), ("one image", "one", 0), ("two images", "two", 0),
                                  ("all alike", "alike", 0), ("all broken", "broken", 4)):  # fmt: skip
            if not quick or label in ("one", "broken"):
                name, count = _few(corpus, source, label)
                if code:
                    _refused(corpus, 50, f"{what}, {source}", name, "no " if label == "none" else "none of the")
                else:
                    _accepted(corpus, 50, f"{what}, {source}", name, [], count)


def _few(corpus: Corpus, source: str, what: str) -> tuple[str, int]:
    """A collection of next to nothing; its address and how many images it has."""
    count = {"none": 0, "one": 1, "two": 2}.get(what, 12)
    chance = np.random.default_rng(8)
    data = [encoded(picture(chance, i % 2), "PNG") for i in range(count)]
    data = [data[0]] * count if what == "alike" else [b"no picture"] * count if what == "broken" else data
    folder = corpus.work / "corpus" / f"{what}-{source}"
    labels, paths = [CLASSES[i % 2] for i in range(count)], [f"{CLASSES[i % 2]}/{i}.png" for i in range(count)]
    for name in CLASSES[:2]:
        (folder / name).mkdir(parents=True)
    if source == "table.parquet":
        hostile_cases.write_parquet(folder / source, {"image": data, "label": labels})
        return f"corpus/{folder.name}/{source}", count
    for path, content in zip(paths, data, strict=True):
        (folder / path).write_bytes(content)
    if source == "table.csv":
        hostile_cases.write_csv(folder / source, {"path": paths, "label": labels})
        return f"corpus/{folder.name}/{source}", count
    return f"corpus/{folder.name}", count


def _refused(corpus: Corpus, number: int, what: str, data: str, says: str) -> None:
    before = fingerprint(corpus.work / "corpus")
    done = corpus.winnow("audit", data, "--out", "audits/refused", "--budget", "0", "--json")
    line = corpus.add(Row(number, f"audit: {what}", "exit 4; one line says so"), done)
    line.observed = last_line(done.err)
    line.must(done.code == 4, f"exit {done.code}")
    line.must(says in done.err, f"does not say {says!r}")
    line.must(not (corpus.work / "audits" / "refused").exists(), "something was written")
    line.same_sources(corpus.work / "corpus", before)
    corpus.tell()


def _accepted(corpus: Corpus, number: int, what: str, data: str, options: Sequence[str], count: int) -> None:
    before = fingerprint(corpus.work / "corpus")
    out = f"audits/{len(corpus.rows)}"
    done = corpus.winnow("audit", data, "--out", out, "--budget", "0", "--json", *options)
    line = corpus.add(Row(number, f"audit: {what}", "exit 0; counts add up"), done)
    line.same_sources(corpus.work / "corpus", before)
    if done.code:
        line.wrong.append(last_line(done.err))
        return
    summary = json.loads(done.out)
    labels = pq.read_table(corpus.work / out / "labels.parquet").num_rows
    aside = pq.read_table(corpus.work / out / "quarantine.parquet").num_rows
    line.counts = f"{labels} = {labels - aside} + {aside}"
    line.observed = f"{labels - aside} looked at, {aside} set aside, {summary['unlabelled']} without a label"
    line.must(summary["num_images"] == labels == count, f"{count} images are there")
    line.must(summary["quarantined"] == aside, "unreadable ones are counted differently")
    counted = sum(entry["images"] for entry in summary["class_shares"])
    line.must(counted in (0, labels - aside - summary["unlabelled"]) or number == 25, "classes are counted differently")
    corpus.tell()
