"""The documentation as a whole: its links lead somewhere, and nothing that can be typed is left out."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner

import winnow
from winnow.cli import app
from winnow.cli.config import commands_of
from winnow.methods import METHODS

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(
    (ROOT / "docs").rglob("*.md")
)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as code hosts make them."""
    headings = re.findall(r"^#+ (.+)$", without_code(page.read_text(encoding="utf-8")), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_between_pages_leads_somewhere(page: Path) -> None:
    broken = []
    for target in _LINK.findall(without_code(page.read_text(encoding="utf-8"))):
        if target.startswith(("https://", "mailto:")):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        if not file.exists() or not file.is_relative_to(ROOT):
            broken.append(f"{target}: no such file")
        elif anchor and anchor not in anchors(file):
            broken.append(f"{target}: no such heading")
    assert broken == []


@pytest.mark.parametrize("command", sorted(commands_of(get_command(app))))
def test_every_option_is_documented(command: str) -> None:
    text = "\n".join(page.read_text(encoding="utf-8") for page in PAGES if page.name != "CHANGELOG.md")
    printed = CliRunner().invoke(app, [*command.split("-"), "--help"]).output
    options = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", printed)) - {"--help"}
    assert len(options) > 2
    missing = {option for option in options if not re.search(rf"(?<![\w-]){option}(?![\w-])", text)}
    assert missing == set()


@pytest.mark.parametrize("function", ["open_source", "fit"])
def test_the_page_on_python_names_every_parameter(function: str) -> None:
    text = (ROOT / "docs/python.md").read_text(encoding="utf-8")
    parameters = set(inspect.signature(getattr(winnow, function)).parameters) - {"data", "source", "hyperparameters"}
    assert len(parameters) > 10
    assert {name for name in parameters if f"`{name}`" not in text} == set()


def test_every_method_has_a_page_and_a_line_in_the_index() -> None:
    index = (ROOT / "docs/methods/index.md").read_text(encoding="utf-8")
    for name in METHODS:
        assert (ROOT / f"docs/methods/{name}.md").is_file()
        assert f"[{name}]({name}.md)" in index


def test_the_readme_lists_the_paper_of_every_method():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    numbers = {name: re.search(r"arXiv:([\d.]+)", method.paper) for name, method in METHODS.items()}
    assert [
        name for name, number in numbers.items() if number and f"(https://arxiv.org/abs/{number[1]})" not in text
    ] == []
