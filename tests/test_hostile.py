"""The hostile corpus: made the same each time, and its judge notices what is wrong."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.test_scripts import SCRIPTS, script


@pytest.fixture(scope="module")
def corpus():
    sys.path.insert(0, str(SCRIPTS))
    try:
        yield script("hostile_corpus")
    finally:
        sys.path.remove(str(SCRIPTS))


@pytest.fixture(scope="module")
def lines(corpus):
    return sys.modules["hostile_lines"]


def test_the_files_are_the_same_bytes_each_time(corpus):
    first, second = corpus.hostile_files.items(), corpus.hostile_files.items()

    assert [(a.name, a.content) for a in first if isinstance(a.content, bytes)] == [
        (b.name, b.content) for b in second if isinstance(b.content, bytes)
    ]
    assert {item.row for item in first} == {*range(1, 18), 19, 20, 21}
    assert {case.row for case in corpus.hostile_cases.CASES} == {17, 18, *range(21, 29), 50}


def test_the_audited_forms_hold_every_row_or_say_why_not(corpus, tmp_path):
    audit = corpus.hostile_audit
    forms = corpus.build(tmp_path, corpus.hostile_files.items(), 5)
    held = {
        "photos": audit._folders(tmp_path, forms["photos"]),
        "table.csv": audit._gaps(tmp_path, forms["table.csv"]),
        "table.parquet": audit._null_labels(tmp_path, forms["table.parquet"]),
    }

    for source, placed in held.items():
        rows = {each.item.row for each in placed} | {row for name, row in audit._ABSENT if name == source}
        missing = set(range(1, 24)) - rows
        assert missing <= ({18} if source == "photos" else set())  # where nobody can be forbidden to read
        assert not {each.item.row for each in placed} & {row for name, row in audit._ABSENT if name == source}
        assert len({each.id for each in placed}) == len(placed)


@pytest.mark.parametrize(
    ("code", "said", "wrong"),
    [
        ("used", "The file is named with another format's extension (extension-mismatch).", 0),
        ("used", "", 1),
        ("used", "The file is followed by other bytes (trailing-bytes).", 1),
        ("truncated", "", 1),
    ],
)
def test_a_fault_that_is_not_named_or_named_wrongly_fails_its_row(code, said, wrong, corpus, lines):
    item = corpus.hostile_files.Item(4, "png-inside.jpg", b"", "used", "extension-mismatch")
    row = lines.Row(4, "", "")

    corpus.hostile_audit._fate(row, "photos", corpus.Placed(item, "a", "cat"), {"a": code, "remark a": said})

    assert len(row.wrong) == wrong


def test_what_is_said_of_a_picture_without_fault_fails_its_row(corpus, lines):
    row = lines.Row(9, "", "")
    item = corpus.hostile_files.Item(9, "a.png", b"", "used")

    corpus.hostile_audit._fate(row, "photos", corpus.Placed(item, "a", "cat"), {"a": "used", "remark a": "odd"})

    assert row.wrong


def test_one_file_in_twenty_of_the_mixed_folder_is_broken(corpus, tmp_path):
    assert corpus.hostile_cases.write_mixed(tmp_path / "a", 100, seed=0) == 5
    corpus.hostile_cases.write_mixed(tmp_path / "b", 100, seed=0)

    files = sorted(path.relative_to(tmp_path / "a") for path in (tmp_path / "a").rglob("*.*"))
    assert len(files) == 100
    assert {path.suffix for path in files} == {".jpeg", ".png", ".webp", ".gif", ".bmp", ".tiff", ".avif"}
    assert len({path.parent for path in files}) == 5
    assert all((tmp_path / "a" / path).read_bytes() == (tmp_path / "b" / path).read_bytes() for path in files)


def test_a_source_file_that_changed_is_noticed(lines, tmp_path):
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").symlink_to("a")
    before = lines.fingerprint(tmp_path)
    assert lines.fingerprint(tmp_path) == before

    (tmp_path / "a").write_bytes(b"2")
    assert lines.fingerprint(tmp_path) != before
    (tmp_path / "a").write_bytes(b"1")
    (tmp_path / "b").unlink()
    (tmp_path / "b").symlink_to("c")
    assert lines.fingerprint(tmp_path) != before


@pytest.mark.parametrize(
    ("code", "err", "wrong"),
    [
        (0, "", False),
        (4, "error: t.csv: no rows", False),
        (1, "error: KeyError: 'x' (this is a bug in winnow; --debug shows where)", True),
        (4, "Traceback (most recent call last):\n", True),
        (-1, "", True),
        (-11, "", True),
    ],
)
def test_a_crash_a_hang_and_a_traceback_fail_a_row(code, err, wrong, lines, tmp_path):
    row = lines.Corpus(tmp_path).add(lines.Row(1, "", ""), lines.Ended(code, "", err, 1.0, 0))

    assert bool(row.wrong) is wrong


def test_a_command_that_never_ends_is_killed(lines, tmp_path):
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])

    assert lines._waited(process, time.monotonic() + 0.1) == (-1, 0)


def test_names_stay_text_in_the_table(lines):
    row = lines.Row(20, "<script>alert(1)</script> a|b\n{{7*7}}", "used", wrong=["lost"])

    page = lines.markdown([row], None)

    [line] = [line for line in page.splitlines() if line.startswith("| 20 ")]
    assert "<script>" not in page
    assert line.count("|") == 11
    assert "| NO |" in line
    assert "1 lines, 0 survived" in page


def test_the_record_holds_no_path_of_a_machine():
    results = SCRIPTS.parent / "benchmarks/results"
    page = "".join((results / name).read_text(encoding="utf-8") for name in ("hostile.md", "hostile-audit.md"))

    assert str(Path.home()) not in page
    assert "/tmp" not in page
