import ast
import subprocess
import sys
from pathlib import Path

import pytest

import winnow
from winnow.bench import cells
from winnow.bench.cells import Cell, canonical, code_version
from winnow.errors import UsageError


def test_the_order_of_entries_does_not_change_the_key():
    first = Cell({"method": "winnow", "seed": 1, "train": {"epochs": 3, "model": "mlp"}}, code="c")
    second = Cell({"train": {"model": "mlp", "epochs": 3}, "seed": 1, "method": "winnow"}, code="c")
    assert first.key == second.key


@pytest.mark.parametrize(
    "other",
    [
        Cell({"seed": 2}, data="d", code="c"),
        Cell({"seed": 1}, data="e", code="c"),
        Cell({"seed": 1}, data="d", code="b"),
        Cell({"seed": "1"}, data="d", code="c"),
    ],
)
def test_configuration_data_and_code_all_change_the_key(other):
    assert other.key != Cell({"seed": 1}, data="d", code="c").key


def test_the_cost_does_not_change_the_key():
    assert Cell({"seed": 1}, code="c", cost=5).key == Cell({"seed": 1}, code="c").key


def test_the_key_is_the_same_in_another_process():
    cell = Cell({"method": "winnow", "rate": 0.1, "names": ["ü", "b"], "none": None}, data="d", code="c")
    program = (
        "from winnow.bench.cells import Cell; "
        "print(Cell({'none': None, 'names': ['ü', 'b'], 'rate': 0.1, 'method': 'winnow'}, data='d', code='c').key)"
    )
    root = Path(winnow.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=root, capture_output=True, text=True, check=True,
        env={"PYTHONHASHSEED": "7", "PYTHONPATH": str(root), "PYTHONUTF8": "1"},
    )  # fmt: skip
    assert done.stdout.strip() == cell.key


def test_canonical_json_is_sorted_and_tight():
    assert canonical({"b": [1, 1.0], "a": None}) == '{"a":null,"b":[1,1.0]}'


@pytest.mark.parametrize("value", [float("nan"), {1, 2}, b"x"])
def test_what_json_cannot_hold_is_refused(value):
    with pytest.raises(UsageError, match="plain JSON"):
        Cell({"value": value}, code="c")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in place of ours."""
    for name, text in {
        "train/loop.py": '"""Loop."""\nRATE = 0.1\n',
        "report/page.py": "WORDS = 1\n",
        "bench/cell.py": "A = 1\n",
        "bench/page.py": "B = 1\n",
        "cli/run.py": "C = 1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(cells, "_PACKAGE", tmp_path)

    def version(*changes):
        for name, text in changes:
            (tmp_path / name).write_text(text)
        code_version.cache_clear()
        cells._meaning.cache_clear()
        return code_version(None, "winnow.bench.cell")

    yield version
    code_version.cache_clear()
    cells._meaning.cache_clear()


def test_a_changed_number_in_the_code_changes_its_version(package):
    assert package() != package(("train/loop.py", '"""Loop."""\nRATE = 0.2\n'))


def test_the_cells_own_module_counts(package):
    assert package() != package(("bench/cell.py", "A = 2\n"))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("train/loop.py", '"""Another word."""\n\nRATE  =  0.1  # a remark\n'),
        ("report/page.py", "WORDS = 2\n"),
        ("bench/page.py", "B = 2\n"),
        ("cli/run.py", "C = 2\n"),
    ],
)
def test_words_pages_and_the_command_line_do_not_change_the_version(package, name, text):
    assert package() == package((name, text))


def test_a_method_depends_on_its_own_file_and_what_that_imports():
    files = {path.name for path in cells._method_files("bootstrap-soft")}
    assert files == {"base.py", "bootstrap.py", "ranges.py"}
    assert "winnow.py" in {path.name for path in cells._method_files(None)}
    assert code_version("bootstrap-soft") != code_version("winnow")


def test_a_users_own_file_counts(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text("A = 1\n")
    before = code_version(f"{file}:Mine")
    file.write_text("A = 2\n")
    code_version.cache_clear()
    cells._meaning.cache_clear()
    assert code_version(f"{file}:Mine") != before


def test_docstrings_are_left_out_of_the_meaning_only(tmp_path):
    file = tmp_path / "a.py"
    file.write_text('def f():\n    """Words."""\n    return "text"\n')
    assert "Words" not in cells._meaning(file)
    assert "text" in cells._meaning(file)
    assert ast.parse(file.read_text())
