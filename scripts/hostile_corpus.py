"""Builds a hostile collection, runs the commands over it, and says what became of every file.

    python scripts/hostile_corpus.py              every fault of files, names, labels and tables
    python scripts/hostile_corpus.py --quick      the folder and one case a row
    python scripts/hostile_corpus.py --mixed      instead: 1,000 files in seven formats, one in twenty broken
    python scripts/hostile_corpus.py --audit      instead: 1,000 files with every fault, audited as folder, csv, parquet
    python scripts/hostile_corpus.py --write      records what was run under benchmarks/results as well

Everything is made by code from a seed and read through the command line alone. Exit code 1 if any row fails: a wrong
exit code, a traceback, a file that is neither used nor listed, a source file that changed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import hostile_audit
import hostile_cases
import hostile_files
import numpy as np
import pyarrow.parquet as pq
from hostile_cases import CLASSES, Case
from hostile_files import USED
from hostile_forms import Placed, build, expected_codes
from hostile_lines import TITLE, WITHOUT_RIGHTS, Corpus, Row, escaped, fingerprint, last_line, markdown

RESULTS = Path(__file__).resolve().parent.parent / "benchmarks" / "results"
_MIXED_SECONDS = 3600
_EPOCHS = "2"
_RSS_RISE = 100 * 2**20
"""How much more memory than a harmless collection of that size the hostile files may cost."""


# Rows 1 to 21: the hostile files, as a folder, as a table of paths, and as a table of bytes


def run_files(corpus: Corpus, sources: Sequence[str]) -> None:
    """Trains, predicts and makes noise over every form; a line for each command, then one for each fault."""
    folder = corpus.work / "corpus"
    folder.mkdir()
    items = hostile_files.items()
    placed = build(folder, items)
    before = fingerprint(folder)
    harmless = _harmless_rss(corpus)
    outcomes: dict[str, dict[str, str]] = {}
    for source in sources:
        outcomes[source] = _run_source(corpus, source, placed[source], before, harmless)
        corpus.tell()
    for number in sorted({item.row for item in items} | {18}):
        _fault_line(corpus, number, {name: placed[name] for name in sources}, outcomes)
    if (corpus.work / "started").exists():
        corpus.rows[-1].wrong.append("a program was started for an EPS file")


def _harmless_rss(corpus: Corpus) -> int:
    """Peak memory of a training on as many pictures that are just pictures."""
    chance = np.random.default_rng(2)
    for number in range(2 * 90):
        path = corpus.work / "harmless" / str(number % 2) / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(hostile_files.encoded(hostile_files.picture(chance, number, 40 + number % 3), "PNG"))
    ended = corpus.winnow("train", "harmless", "--epochs", _EPOCHS, "--out", "runs/harmless", "--json")
    corpus.add(Row(0, "180 harmless pictures", "exit 0", f"peak {ended.rss // 2**20} MB"), ended)
    return ended.rss


def _run_source(
    corpus: Corpus, source: str, placed: Sequence[Placed], before: dict[bytes, str], harmless: int
) -> dict[str, str]:
    """What became of every image of one form, by id."""
    data, run = f"corpus/{source}", f"runs/{source}"
    done = corpus.winnow("train", data, "--epochs", _EPOCHS, "--out", run, "--json", "--verbose")
    line = corpus.add(Row(0, f"train {source}", "exit 0; every file used or set aside"), done)
    if done.code:
        line.wrong.append(last_line(done.err))
        return {}
    summary = json.loads(done.out)
    labels = pq.read_table(corpus.work / run / "labels.parquet").to_pylist()
    aside = {row["id"]: row["code"] for row in pq.read_table(corpus.work / run / "quarantine.parquet").to_pylist()}
    used = [row["id"] for row in labels if row["suggested_label"] is not None]
    line.counts = f"{summary['num_images']} = {len(used)} + {len(aside)}"
    line.observed = f"{len(used)} used, {len(aside)} set aside"
    line.must(summary["num_images"] == len(placed), f"{len(placed)} files are there")
    line.must(summary["num_images"] == len(used) + len(aside), "counts do not add up")
    line.must(summary["quarantined"] == len(aside), "summary and quarantine.parquet differ")
    line.must(sorted(row["id"] for row in labels) == sorted(each.id for each in placed), "ids are not exact")
    line.must(sorted(summary["class_names"]) == sorted(CLASSES), "class names are not exact")
    line.must(done.rss < harmless + _RSS_RISE, f"{(done.rss - harmless) // 2**20} MB more than harmless pictures")
    report = (corpus.work / run / "report.html").read_text(encoding="utf-8")
    line.must("<script" not in report and "<img src=x" not in report, "a name became markup in the report")
    line.same_sources(corpus.work / "corpus", before)
    _predict(corpus, source, placed, set(aside), before)
    _noise(corpus, source, placed, before)
    outcome = dict.fromkeys(used, USED) | aside
    # A remark names some files only; the line of stderr tells that it was made.
    return outcome | {f"remark {each.item.remark}": "" for each in placed if f"({each.item.remark})" in done.err}


def _predict(corpus: Corpus, source: str, placed: Sequence[Placed], aside: set[str], before: dict[bytes, str]) -> None:
    for ending in ("parquet", "csv"):
        out = f"predictions-{source}.{ending}"
        done = corpus.winnow("predict", f"runs/{source}", f"corpus/{source}", "--out", out, "--json")
        line = corpus.add(Row(0, f"predict {source} to .{ending}", "exit 0; a class or a reason for each"), done)
        if done.code:
            line.wrong.append(last_line(done.err))
            continue
        rows = hostile_cases.read_rows(corpus.work / out)
        without = {row["id"] for row in rows if not row["predicted_class"]}
        line.observed = f"{len(rows) - len(without)} classes, {len(without)} reasons"
        line.counts = f"{len(rows)} = {len(rows) - len(without)} + {len(without)}"
        line.must(sorted(row["id"] for row in rows) == sorted(each.id for each in placed), "ids are not exact")
        line.must(without == aside, "other images than in training have no class")
        named = {row["predicted_class"] for row in rows} - {None, ""}
        line.must(named <= set(CLASSES), f"other class names: {sorted(named - set(CLASSES))}")
        if ending == "csv":
            cells = {cell for row in rows for cell in row.values()} - {"+1"}  # which is a number
            runs = any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for cell in cells)
            line.must(("formula" in done.err) == runs, "no notice of cells that a spreadsheet would run")
        else:
            _compare_groups(line, rows, placed)
        line.same_sources(corpus.work / "corpus", before)


def _compare_groups(line: Row, rows: Sequence[dict[str, Any]], placed: Sequence[Placed]) -> None:
    """Pictures that differ only in how they are stored must look the same to the network."""
    probabilities = {row["id"]: row["probabilities"] for row in rows}
    for group in sorted({each.item.same_as for each in placed} - {""}):
        members = [each.id for each in placed if each.item.same_as == group]
        apart = [name for name in members if probabilities[name] != probabilities[members[0]]]
        line.must(not apart, f"not the same pixels as {members[0]}: {', '.join(apart)}")


def _noise(corpus: Corpus, source: str, placed: Sequence[Placed], before: dict[bytes, str]) -> None:
    bytes_only = source == "table.parquet"
    for ending in ("parquet",) if bytes_only else ("parquet", "csv"):
        odd = source == "photos" and ending == "csv"  # a name in it is not UTF-8, which has no place in a .csv
        out = f"noise-{source}.{ending}"
        done = corpus.winnow("noise", f"corpus/{source}", "--rate", "0.3", "--out", out, "--json")
        expected = "exit 4, the name that is not UTF-8 is named" if odd else "exit 0; every row and name exact"
        line = corpus.add(Row(0, f"noise {source} to .{ending}", expected), done)
        line.observed = last_line(done.err) if done.code else "written"
        line.must(done.code == (4 if odd else 0), "another exit code")
        if odd:
            line.must("not UTF-8" in done.err, "the name is not named")
        elif not done.code:
            rows = hostile_cases.read_rows(corpus.work / out)
            names = [row["path"] if "path" in row else row["id"] for row in rows]
            by_id = "path" not in rows[0]  # a .parquet with images that bring their bytes
            there = sorted(each.id if by_id else f"corpus/{each.id}" for each in placed)
            line.must(sorted(names) == there, "names are not exact")
            if ending == "csv":
                line.must({row["label"] for row in rows} == set(CLASSES), "class names are not exact")
                line.must("formula" in done.err, "no notice of cells that a spreadsheet would run")
            line.counts = f"{len(placed)} = {len(rows)}"
        line.same_sources(corpus.work / "corpus", before)


def _fault_line(
    corpus: Corpus, number: int, placed: dict[str, list[Placed]], outcomes: dict[str, dict[str, str]]
) -> None:
    names: dict[str, None] = {}
    expected: dict[str, None] = {}
    seen: list[str] = []
    line = Row(number, "", "")
    for source, everything in placed.items():
        ours = [each for each in everything if each.item.row == number]
        found = {each: outcomes[source].get(each.id, "LOST") for each in ours}
        counts = Counter(found.values())
        if ours:
            seen.append(f"{source}: " + ", ".join(f"{count} {code}" for code, count in sorted(counts.items())))
        for each, code in found.items():
            names[each.item.name] = None
            expected[each.item.expected] = None
            line.must(code in expected_codes(each.item, source), f"{source}: {each.item.name!r} is {code}")
            if each.item.remark and not (each.item.remark == "extension-mismatch" and source == "table.parquet"):
                line.must(f"remark {each.item.remark}" in outcomes[source], f"{source}: no {each.item.remark}")
    if not names:
        return
    shown = ", ".join(escaped(name) for name in list(names)[:6])
    line.done = f"{len(names)} files: {shown}{', ...' if len(names) > 6 else ''}"
    line.expected, line.observed = "; ".join(expected).replace("|", " or "), "; ".join(seen)
    corpus.rows.append(line)


# Rows 17, 18 and 21 to 50: a collection for each fault


def run_case(corpus: Corpus, number: int, case: Case) -> None:
    """Builds one case and runs its command."""
    folder = corpus.work / f"case-{number}"
    folder.mkdir()
    arguments = [text.replace("{}", folder.name) for text in case.build(folder)]
    before = fingerprint(folder)
    out = f"{folder.name}-out"
    if arguments[0] == "train":
        arguments += ["--epochs", "1", "--out", out, "--json"]
    done = corpus.winnow(*arguments, before=WITHOUT_RIGHTS if case.permissions and os.geteuid() == 0 else ())
    line = corpus.add(Row(case.row, f"{arguments[0]}: {case.what}", f"exit {case.code}; {case.expected}"), done)
    line.observed = last_line(done.err) if done.code else ""
    line.must(done.code == case.code, f"exit {done.code}: {last_line(done.err)}")
    line.must(case.says in done.err, f"does not say {case.says!r}")
    if done.code == 0 and case.code == 0 and arguments[0] == "train":
        summary = json.loads(done.out)
        used = summary["num_images"] - summary["quarantined"]
        labels = pq.read_table(corpus.work / out / "labels.parquet").to_pylist()
        readable = sum(row["suggested_label"] is not None for row in labels)
        line.counts = f"{len(labels)} = {readable} + {summary['quarantined']}"
        line.observed = f"{used} used, {summary['quarantined']} set aside, {summary['unlabelled']} without a label"
        line.must(readable == used and len(labels) == summary["num_images"], "counts do not add up")
        for key, value in case.summary.items():
            line.must(summary[key] == value, f"{key} is {summary[key]}, not {value}")
    line.same_sources(folder, before)


def run_mixed(corpus: Corpus, count: int, epochs: int | None) -> dict[str, Any]:
    """A folder of mixed formats and sizes, one file in twenty broken, trained without any option."""
    broken = hostile_cases.write_mixed(corpus.work / "mixed", count, seed=0)
    hostile_cases.write_mixed(corpus.work / "held-out", 500, seed=1, broken=False)
    before = fingerprint(corpus.work / "mixed")
    options = ["--epochs", str(epochs)] if epochs else []
    trained = corpus.winnow("train", "mixed", *options, limit=_MIXED_SECONDS)
    line = corpus.add(
        Row(0, f"train mixed: {count:,} files, {broken} broken", "exit 0; all broken ones set aside"), trained
    )
    if trained.code:
        line.wrong.append(last_line(trained.err))
        return {}
    [run] = (corpus.work / "runs").glob("mixed-*")
    summary = json.loads((run / "summary.json").read_text())
    tested = corpus.winnow("predict", f"runs/{run.name}", "held-out", "--json")
    accuracy = json.loads(tested.out)["label_agreement"] if tested.code == 0 else 0.0
    line.counts = (
        f"{summary['num_images']} = {summary['num_images'] - summary['quarantined']} + {summary['quarantined']}"
    )
    line.observed = f"{100 * accuracy:.1f} % of 500 held-out pictures right"
    line.must(summary["quarantined"] == broken, f"{summary['quarantined']} set aside")
    line.must(accuracy > 0.9, "the classes were not learnt")
    line.same_sources(corpus.work / "mixed", before)
    return {
        "files": count,
        "broken": broken,
        "epochs": summary["epochs"],
        "plan": f"{summary['model']} {summary['image_size']} px, {summary['device']} {summary['precision']}",
        "seconds": round(trained.seconds, 1),
        "peak_mb": trained.rss // 2**20,
        "held_out_accuracy": accuracy,
    }


def main() -> int:
    """Runs what was asked for; 1 if a row fails."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--mixed", action="store_true", help="the mixed folder instead")
    parser.add_argument("--audit", action="store_true", help="the audits instead; with --quick of a small folder")
    parser.add_argument("--files", type=int, default=1000, help="of the mixed folder")
    parser.add_argument("--epochs", type=int, help="of the mixed folder; by default winnow's own choice")
    parser.add_argument("--only", help="cases whose description holds this; no corpus of files")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    mixed = None
    with tempfile.TemporaryDirectory(prefix="winnow-hostile-") as folder:
        corpus = Corpus(Path(folder).resolve())
        if options.audit:
            hostile_audit.run_audits(corpus, quick=options.quick)
        elif options.mixed:
            mixed = run_mixed(corpus, options.files, options.epochs)
        elif options.only is None:
            run_files(corpus, ["photos"] if options.quick else ["photos", "table.csv", "table.parquet"])
        seen: set[int] = set()
        for number, case in enumerate(() if options.mixed or options.audit else hostile_cases.CASES):
            wanted = options.only is None or options.only in f"{case.row} {case.what}"
            if case.permissions and os.geteuid() == 0 and not shutil.which(WITHOUT_RIGHTS[0]):
                print(f"{case.row:>3} not tried: {case.what} (an administrator may read everything, no setpriv here)")
            elif wanted and not (options.quick and case.row in seen):
                run_case(corpus, number, case)
                seen.add(case.row)
                corpus.tell()
        corpus.tell()
    rows = sorted(corpus.rows, key=lambda row: row.row)
    failed = [row for row in rows if row.wrong]
    print(f"{len(rows)} lines, {len(failed)} failed")
    if options.write:
        name = "hostile-audit" if options.audit else "hostile"
        record = RESULTS / f"{name}.json"
        content = json.loads(record.read_text(encoding="utf-8")) if record.exists() else {"rows": [], "mixed": None}
        content |= {"mixed": mixed} if options.mixed else {"rows": [asdict(row) for row in rows]}
        record.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        page = markdown(
            [Row(**row) for row in content["rows"]],
            content["mixed"],
            title="Hostile files, audited" if options.audit else TITLE,
        )
        (RESULTS / f"{name}.md").write_text(page, encoding="utf-8")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
