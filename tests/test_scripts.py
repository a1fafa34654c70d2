"""The checks check: each finds a violation that is planted for it."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"winnow_script_{name}", SCRIPTS / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


build_docs = script("build_docs")
snippets = build_docs.snippets
check_imports = script("check_imports")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A package of two parts, of which one may import the other."""
    root = tmp_path / "winnow"
    (root / "data").mkdir(parents=True)
    (root / "methods").mkdir()
    (root / "data" / "open.py").write_text("import numpy\n")
    (root / "methods" / "plain.py").write_text("from winnow.data import open\n")
    monkeypatch.setattr(check_imports, "ROOT", root)
    return root


def test_imports_that_point_down_pass(package: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert check_imports.main() == 0
    assert "one way" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", ["from winnow.methods.plain import x", "import winnow.methods", "from winnow import methods"]
)
def test_an_import_that_points_up_is_named(package: Path, capsys: pytest.CaptureFixture[str], line: str) -> None:
    # Inside a function, too: a late import is still a dependency.
    (package / "data" / "open.py").write_text(f"def f():\n    {line}\n")
    assert check_imports.main() == 1
    assert "winnow/data/open.py: data must not import methods" in capsys.readouterr().out


def test_the_repository_itself_imports_one_way() -> None:
    assert check_imports.main() == 0


def test_generated_pages_are_up_to_date() -> None:
    assert build_docs.outdated(build_docs.ROOT, build_docs.generated_pages()) == []


def test_changed_missing_and_left_over_pages_are_named(tmp_path: Path) -> None:
    pages = {build_docs.METHOD_PAGES / "index.md": "# Methods\n", build_docs.METHOD_PAGES / "a.md": "# a\n"}
    build_docs.write_pages(tmp_path, pages)
    assert build_docs.outdated(tmp_path, pages) == []

    folder = tmp_path / build_docs.METHOD_PAGES
    (folder / "a.md").write_text("# b\n")
    (folder / "index.md").unlink()
    (folder / "old.md").write_text("# old\n")
    assert [line.split("; ")[0] for line in build_docs.outdated(tmp_path, pages)] == [
        "docs/methods/index.md: missing",
        "docs/methods/a.md: out of date",
        "docs/methods/old.md: no method has this page",
    ]
    build_docs.write_pages(tmp_path, pages)
    assert build_docs.outdated(tmp_path, pages) == []


PAGE = """# Title

```python
x = 1
```

<!-- not run: needs a GPU -->
```sh
false
```

<!-- file: mine.py -->

```python
y = 2
```

```text
not ours
```

```console
$ echo one; echo two
one
...
```

<!-- file: mine.toml -->
```toml
z = 3
```
"""


def test_blocks_carry_line_language_and_remark() -> None:
    found = list(snippets.blocks(PAGE, "page.md"))
    assert [(b.line, b.language, b.skipped, b.target) for b in found] == [
        (4, "python", None, None),
        (9, "sh", "needs a GPU", None),
        (15, "python", None, "mine.py"),
        (23, "console", None, None),
        (30, "toml", None, "mine.toml"),
    ]


@pytest.mark.parametrize("text", ["```python\nx = 1\n", "```bash\ntrue\n```\n"])
def test_a_block_without_end_or_of_a_near_language_is_refused(text: str) -> None:
    with pytest.raises(snippets.SnippetFailed, match=r"^page\.md:1: "):
        list(snippets.blocks(text, "page.md"))


def run(text: str, tmp_path: Path) -> int:
    page, photos = tmp_path / "page.md", tmp_path / "photos-made"
    photos.mkdir()
    page.write_text(text)
    ran, _ = snippets.run_document(page, "page.md", photos)
    return ran


def test_blocks_of_a_page_share_folder_and_namespace(tmp_path: Path) -> None:
    text = PAGE + "\n```python\nimport mine\n\nassert (x, mine.y) == (1, 2)\n```\n"
    assert run(text, tmp_path) == 5
    assert "mine" not in sys.modules


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("```python\nx = 1\nraise ValueError('no')\n```", r"^page\.md:4: ValueError: no"),
        ("```python\nx = 1\ny = = 2\n```", r"^page\.md:4: SyntaxError"),
        ("```sh\ntrue\nls /nowhere/at-all\n```", r"^page\.md:4: ls /nowhere/at-all\n  ended with"),
        ("```sh\n# remark\nfalse \\\n  | true\n```", r"^page\.md:4: false \| true\n  ended with 1"),
        ("```console\n$ echo one\ntwo\n```", r"^page\.md:3: echo one\n  does not print"),
        ("```console\necho one\n```", r"^page\.md:3: a console block begins"),
    ],
)
def test_a_failing_snippet_is_named_by_its_line(tmp_path: Path, block: str, message: str) -> None:
    with pytest.raises(snippets.SnippetFailed, match=message):
        run(f"# Title\n{block}\n", tmp_path)


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [
        (["a 1.0 %"], ["a 1.0 %"], True),
        (["a ... %"], ["a 1.0 %"], True),
        (["a ... %"], ["a 1.0"], False),
        (["a.b"], ["axb"], False),
        (["...", "b"], ["b"], True),
        (["...", "b"], ["x", "y", "b"], True),
        (["a", "...", "d"], ["a", "b", "c", "d"], True),
        (["a"], ["a", "b"], False),
        (["a ... d"], ["a b", "c d"], False),
    ],
)
def test_output_matches_up_to_dots(expected: list[str], printed: list[str], same: bool) -> None:
    assert snippets.matches(expected, printed) is same


def test_only_plain_calls_of_winnow_go_without_a_shell() -> None:
    assert snippets.winnow_arguments("winnow train photos --out a  # remark") == ["train", "photos", "--out", "a"]
    assert snippets.winnow_arguments("winnow train foto || true") is None
    assert snippets.winnow_arguments("head -3 classes.csv") is None


def test_generated_photos_are_a_collection(tmp_path: Path) -> None:
    from winnow.data.open import open_source

    snippets.make_photos(tmp_path)
    source = open_source(tmp_path / "photos")
    assert (len(source), source.class_names) == (120, ("circle", "square", "triangle"))
    assert source.pictures.read(0).shape == (24, 24, 3)
