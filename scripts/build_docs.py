"""Keeps the documentation true: pages made from docstrings are up to date, and every snippet runs.

    python scripts/build_docs.py                  check everything
    python scripts/build_docs.py docs/noise.md    check the generated pages and the snippets of one file
    python scripts/build_docs.py --write          write the generated pages anew, run nothing

What runs, and how a page says so, stands in `snippets.py`.
"""

from __future__ import annotations

import argparse
import ast
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the scripts beside this one, also for tests that load this one
import leaderboard
import snippets

ROOT = Path(__file__).resolve().parent.parent
METHOD_PAGES = Path("docs/methods")
LEADERBOARD = Path("docs/leaderboard.md")
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$")


def generated_pages() -> dict[Path, str]:
    """Content of every generated page by its path relative to the repository."""
    from winnow.methods import METHODS

    pages = {METHOD_PAGES / "index.md": _index_page(METHODS), LEADERBOARD: leaderboard.page(ROOT)}
    for name, method in METHODS.items():
        pages[METHOD_PAGES / f"{name}.md"] = _method_page(name, method)
    return pages


def outdated(root: Path, pages: Mapping[Path, str]) -> list[str]:
    """A sentence for every generated page that is missing, differs, or is left over."""
    wrong = []
    for path, text in pages.items():
        file = root / path
        if not file.is_file():
            wrong.append(f"{path}: missing; run scripts/build_docs.py --write")
        elif file.read_text(encoding="utf-8") != text:
            wrong.append(f"{path}: out of date; run scripts/build_docs.py --write")
    there = sorted((root / METHOD_PAGES).glob("*.md"))
    left_over = [path.relative_to(root) for path in there if path.relative_to(root) not in pages]
    return wrong + [f"{path}: no method has this page; run scripts/build_docs.py --write" for path in left_over]


def write_pages(root: Path, pages: Mapping[Path, str]) -> None:
    """Writes the generated pages and takes left-over ones away."""
    (root / METHOD_PAGES).mkdir(parents=True, exist_ok=True)
    for old in (root / METHOD_PAGES).glob("*.md"):
        if old.relative_to(root) not in pages:
            old.unlink()
    for path, text in pages.items():
        (root / path).write_text(text, encoding="utf-8")


def _index_page(methods: Mapping[str, Any]) -> str:
    lines = [
        "<!-- Made by scripts/build_docs.py from the docstrings in winnow/methods: edit those. -->",
        "",
        "# Methods",
        "",
        "Each is chosen with `--method NAME`; `winnow methods NAME` prints in the terminal what these pages say. Cost",
        "is the time of a training step in units of cross-entropy. The last column says how a method treats wrong",
        "labels: *robust* losses are less drawn by them, *cleansing* changes the labels, *tolerant* methods model them",
        "(Frénay & Verleysen 2014).",
        "",
        "| method | what it does | paper | noise assumed | cost | kind |",
        "|---|---|---|---|---|---|",
    ]
    for name, m in methods.items():
        paper = _linked(m.paper) or "-"
        lines.append(f"| [{name}]({name}.md) | {m.title} | {paper} | {m.assumes} | {m.cost:.3g} | {m.remedy} |")
    lines += ["", "Your own: [add a method](../../CONTRIBUTING.md#add-a-method).", ""]
    return "\n".join(lines)


def _method_page(name: str, method: type[Any]) -> str:
    from winnow.methods import hyperparameters

    module = inspect.getmodule(method)
    assert module is not None
    source = Path(inspect.getsourcefile(module) or "").resolve().relative_to(ROOT).as_posix()
    text, sections = _parsed_docstring(inspect.getdoc(method) or "")
    meanings = dict(_items(sections.pop("Args", [])))
    known = hyperparameters(method)
    needs = ", ".join(sorted(need.value for need in method.needs)) or "labels only"
    page = [
        f"<!-- Made by scripts/build_docs.py from {source}: edit the docstrings there. -->",
        "",
        f"# {name}",
        "",
        f"{method.title}.",
        "",
        f"- **Paper:** {_linked(method.paper) or '-'}",
        f"- **Noise assumed:** {method.assumes}",
        f"- **Kind:** {method.remedy}",
        f"- **Cost:** {method.cost:.3g} times the training step of cross-entropy",
        f"- **Needs:** {needs}",
        f"- **Code:** [`{source}`](../../{source})",
        "",
        "## What it does",
        "",
        text,
        "",
    ]
    page += _rest(sections)
    page += ["## Hyperparameters", ""]
    if known:
        first = next(iter(known))
        page += [f"Set with `--set NAME=VALUE`, such as `--set {first}={known[first].default}`.", ""]
        page += ["| name | type | default | meaning |", "|---|---|---|---|"]
        for key, parameter in known.items():
            kind = getattr(parameter.annotation, "__name__", str(parameter.annotation))
            meaning = meanings.get(key, "").replace("|", "\\|")
            page.append(f"| `{key}` | {kind} | `{parameter.default!r}` | {meaning} |")
        page.append("")
    else:
        page += ["None.", ""]
    page += ["## In Python", "", *_usage(name, known, needs if method.needs else ""), ""]
    return "\n".join([*page, *_formulas(module)])


def _usage(name: str, known: Mapping[str, inspect.Parameter], needs: str) -> list[str]:
    """A call with the first option; no collection that comes along has what some methods need."""
    # Double quotes, as the formatter of the repository writes them in code.
    defaults = {key: repr(parameter.default).replace("'", '"') for key, parameter in list(known.items())[:1]}
    first = "".join(f", {key}={default}" for key, default in defaults.items())
    opening = '"photos", verified="checked.csv"' if "verified" in needs else '"digits", limit=200'
    return [
        *([f"<!-- not run: it needs {needs} -->"] if needs else []),
        "```python",
        "import winnow",
        "",
        f"source = winnow.open_source({opening})",
        f'run = winnow.fit(source, "{name}", epochs=2{first})',
        'print(run.summary["test_accuracy_last"])',
        "```",
    ]


def _formulas(module: Any) -> list[str]:
    """The module's own text and its public functions, as they stand in the file."""
    tree = ast.parse(inspect.getsource(module))
    text, _ = _parsed_docstring(inspect.getdoc(module) or "")
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and not node.name.startswith("_")]
    lines = ["## Formulas", "", text, ""]
    if not functions:
        return lines
    lines += [f"Pure functions of `{module.__name__}`, for people who keep their own loop.", ""]
    for node in functions:
        text, sections = _parsed_docstring(ast.get_docstring(node) or "")
        arguments = _items(sections.pop("Args", []))
        lines += [f"### {node.name}", "", "```text", *_signature(node), "```", "", text, ""]
        if arguments:
            lines += [f"- `{key}`: {meaning}" for key, meaning in arguments] + [""]
        lines += _rest(sections)
    return lines


def _signature(node: ast.FunctionDef) -> list[str]:
    result = f" -> {ast.unparse(node.returns)}" if node.returns else ""
    line = f"{node.name}({ast.unparse(node.args)}){result}"
    if len(line) <= 100:
        return [line]
    given, keywords = node.args.posonlyargs + node.args.args, node.args.kwonlyargs
    defaults: list[ast.expr | None] = [None] * (len(given) - len(node.args.defaults)) + list(node.args.defaults)
    rows = [_argument(a, d) for a, d in zip(given, defaults, strict=True)]
    rows += ["*"] * bool(keywords)
    rows += [_argument(a, d) for a, d in zip(keywords, node.args.kw_defaults, strict=True)]
    return [f"{node.name}(", *(f"    {row}," for row in rows), f"){result}"]


def _argument(argument: ast.arg, default: ast.expr | None) -> str:
    return ast.unparse(argument) + (f" = {ast.unparse(default)}" if default is not None else "")


def _parsed_docstring(text: str) -> tuple[str, dict[str, list[str]]]:
    """The text before the first section, and the lines of each section."""
    sections: dict[str, list[str]] = {}
    free: list[str] = []
    lines = free
    for line in text.splitlines():
        if match := _SECTION.match(line):
            lines = sections.setdefault(match[1], [])
        else:
            lines.append(line)
    return "\n".join(free).strip(), sections


def _items(lines: Sequence[str]) -> list[tuple[str, str]]:
    """Entries such as `name: meaning`, whose continuation is indented further."""
    found: list[tuple[str, str]] = []
    for line in lines:
        entry = re.match(r"^    (\S[^:]*): (.*)$", line)
        if entry:
            found.append((entry[1], entry[2]))
        elif line.strip() and found:
            found[-1] = (found[-1][0], f"{found[-1][1]} {line.strip()}")
    return [(name, meaning) for name, meaning in found if name != "problem"]


def _rest(sections: Mapping[str, Sequence[str]]) -> list[str]:
    lines = []
    for title, content in sections.items():
        entries = _items(content) if title in ("Raises", "Attributes") else []
        text = "; ".join(f"`{name}`: {meaning}" for name, meaning in entries)
        lines += [f"{title}: " + (text or " ".join(line.strip() for line in content if line.strip())), ""]
    return lines


def _linked(paper: str) -> str:
    return re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", paper)


def main(arguments: Sequence[str] | None = None) -> int:
    """1 if a page is out of date or a snippet fails."""
    parser = argparse.ArgumentParser(description="Checks the documentation: generated pages and snippets.")
    parser.add_argument("files", nargs="*", type=Path, help="Markdown files whose snippets run; default: all")
    parser.add_argument("--write", action="store_true", help="write the generated pages, run nothing")
    parser.add_argument("--pages-only", action="store_true", help="check the generated pages, run nothing")
    given = parser.parse_args(arguments)
    pages = generated_pages()
    if given.write:
        write_pages(ROOT, pages)
        print(f"{len(pages)} pages written to {METHOD_PAGES} and {LEADERBOARD}")
        return 0
    wrong = outdated(ROOT, pages)
    print("\n".join(wrong) or f"{len(pages)} generated pages are up to date")
    if given.pages_only:
        return 1 if wrong else 0
    files = [path.resolve() for path in given.files] or snippets.documents(ROOT)
    return max(snippets.run_documents(files), 1 if wrong else 0)


if __name__ == "__main__":
    sys.exit(main())
