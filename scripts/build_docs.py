"""Keeps the documentation true: pages made from docstrings are up to date, and every snippet runs.

    python scripts/build_docs.py                  check everything
    python scripts/build_docs.py docs/noise.md    check the generated pages and the snippets of one file
    python scripts/build_docs.py --write          write the generated pages anew, run nothing

Blocks that begin with ```python, ```sh or ```console run; all others are only shown. The files of the page share one
temporary folder with small generated photos (`photos`, `photos-test`, `new-photos`), its Python blocks one namespace.
A comment in the line before a block changes what is done with it:

    <!-- not run: reason -->    the block is left out, and the reason is printed
    <!-- file: gce.py -->       the block, in any language, is written to that file instead of being run

In a console block the lines after a command are what it must print; `...` stands for anything, also for whole lines.
"""

from __future__ import annotations

import argparse
import ast
import contextlib
import inspect
import io
import multiprocessing
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # the script beside this one, also for tests that load this one
import leaderboard

ROOT = Path(__file__).resolve().parent.parent
METHOD_PAGES = Path("docs/methods")
LEADERBOARD = Path("docs/leaderboard.md")
LANGUAGES = ("python", "sh", "console")
_SECONDS_A_COMMAND = 120
_SLOW_IMPORTS = ["winnow.cli", "winnow.train.fit", "winnow.report.run", "winnow.noise.write"]
_FENCE = re.compile(r"^```(\S*)\s*$")
_COMMENT = re.compile(r"^<!-- (not run|file): (.+?) -->\s*$")
_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes):$")


# The pages made from docstrings


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
    page += ["## In Python", "", *_usage(name, known), ""]
    return "\n".join([*page, *_formulas(module)])


def _usage(name: str, known: Mapping[str, inspect.Parameter]) -> list[str]:
    # Double quotes, as the formatter of the repository writes them in code.
    defaults = {key: repr(parameter.default).replace("'", '"') for key, parameter in list(known.items())[:1]}
    first = "".join(f", {key}={default}" for key, default in defaults.items())
    return [
        "```python",
        "import winnow",
        "",
        'source = winnow.open_source("digits", limit=200)',
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


# The snippets


@dataclass(frozen=True)
class Block:
    """A fenced block of a Markdown file.

    Attributes:
        file: for messages.
        line: of its first line of content, from 1.
        language: behind the fence.
        lines: its content.
        skipped: why it is not run; None if it is.
        target: the file that it is written to; None if it is run.
    """

    file: str
    line: int
    language: str
    lines: tuple[str, ...]
    skipped: str | None = None
    target: str | None = None


class SnippetFailed(Exception):
    """A snippet did not do what the page says; the message begins with file:line."""


def documents(root: Path) -> list[Path]:
    """The Markdown files whose snippets run."""
    front = [root / name for name in ("README.md", "CONTRIBUTING.md")]
    return [path for path in front if path.is_file()] + sorted((root / "docs").rglob("*.md"))


def blocks(text: str, file: str) -> Iterator[Block]:
    """The blocks of a file that can be run, in order.

    Raises:
        SnippetFailed: a block has no end, or a language that only looks like one of ours.
    """
    lines = text.splitlines()
    number = 0
    remark: re.Match[str] | None = None
    while number < len(lines):
        fence = _FENCE.match(lines[number])
        if not fence:
            if lines[number].strip():
                remark = _COMMENT.match(lines[number])
            number += 1
            continue
        start = number + 1
        end = next((i for i in range(start, len(lines)) if lines[i].rstrip() == "```"), None)
        if end is None:
            raise SnippetFailed(f"{file}:{start}: the block has no end")
        if fence[1] in ("bash", "shell", "py", "python3", "shell-session"):
            raise SnippetFailed(f"{file}:{start}: write {' or '.join(LANGUAGES)}, not {fence[1]}")
        target = remark[2] if remark and remark[1] == "file" else None
        if fence[1] in LANGUAGES or target:
            skipped = remark[2] if remark and remark[1] == "not run" else None
            yield Block(file, start + 1, fence[1], tuple(lines[start:end]), skipped, target)
        remark = None
        number = end + 1


def run_document(path: Path, name: str, photos: Path) -> tuple[int, list[Block]]:
    """Runs the blocks of a file in a temporary folder of its own.

    Returns:
        How many ran, and those that were left out.

    Raises:
        SnippetFailed: one failed.
    """
    found = list(blocks(path.read_text(encoding="utf-8"), name))
    left_out = [block for block in found if block.skipped]
    wanted = [block for block in found if not block.skipped]
    if not wanted:
        return 0, left_out
    with tempfile.TemporaryDirectory(prefix="winnow-docs-") as place, _working_in(place):
        shutil.copytree(photos, place, dirs_exist_ok=True)
        namespace: dict[str, Any] = {"__name__": "__main__"}
        for block in wanted:
            if block.target:
                Path(block.target).write_text("\n".join(block.lines) + "\n", encoding="utf-8")
            elif block.language == "python":
                _run_python(block, namespace)
            else:
                for line, command, expected in _commands(block):
                    _run_command(block.file, line, command, expected)
    return len(wanted), left_out


@contextlib.contextmanager
def _working_in(folder: str) -> Iterator[None]:
    """Relative paths, imports and temporary folders lie in a folder that is taken away in the end."""
    before, tempfile.tempdir = tempfile.tempdir, folder
    modules = set(sys.modules)
    sys.path.insert(0, folder)
    try:
        with contextlib.chdir(folder):
            yield
    finally:
        tempfile.tempdir = before
        sys.path.remove(folder)
        for name in set(sys.modules) - modules:
            if (getattr(sys.modules[name], "__file__", None) or "").startswith(folder):
                del sys.modules[name]


def _run_python(block: Block, namespace: dict[str, Any]) -> None:
    # Empty lines before the code give every line the number that it has in the page.
    code = "\n" * (block.line - 1) + "\n".join(block.lines) + "\n"
    printed = io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            exec(compile(code, block.file, "exec"), namespace)
    except Exception as error:
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename == block.file]
        line = frames[-1].lineno if frames else getattr(error, "lineno", None) or block.line
        raise SnippetFailed(f"{block.file}:{line}: {type(error).__name__}: {error}") from error


def _commands(block: Block) -> Iterator[tuple[int, str, list[str] | None]]:
    """(line, command, what it must print or None) of a shell block; a backslash at the end joins lines."""
    number = 0
    while number < len(block.lines):
        line = number
        text = block.lines[number]
        number += 1
        if block.language == "console":
            if not text.startswith("$ "):
                raise SnippetFailed(f"{block.file}:{block.line + line}: a console block begins with '$ '")
            text = text[2:]
        elif not text.strip() or text.lstrip().startswith("#"):
            continue
        while text.endswith("\\") and number < len(block.lines):
            text = text[:-1] + block.lines[number].strip()
            number += 1
        expected = None
        if block.language == "console":
            start = number
            while number < len(block.lines) and not block.lines[number].startswith("$ "):
                number += 1
            expected = list(block.lines[start:number])
        yield block.line + line, text, expected


def _run_command(file: str, line: int, command: str, expected: list[str] | None) -> None:
    shown = f"{file}:{line}: {command}"
    arguments = winnow_arguments(command)
    try:
        code, output = _forked(arguments) if arguments is not None else _in_a_shell(command)
    except TimeoutError:
        raise SnippetFailed(f"{shown}\n  took more than {_SECONDS_A_COMMAND} s") from None
    printed = output.rstrip("\n").split("\n")
    if code:
        tail = "".join(f"\n  | {text}" for text in printed[-8:])
        raise SnippetFailed(f"{shown}\n  ended with {code}{tail}")
    if expected and not matches(expected, printed):
        wanted = "".join(f"\n  - {text}" for text in expected)
        got = "".join(f"\n  + {text}" for text in printed)
        raise SnippetFailed(f"{shown}\n  does not print what the page shows{wanted}{got}")


def winnow_arguments(command: str) -> list[str] | None:
    """The arguments of a line that is nothing but a call of winnow; None if it needs a shell."""
    words = shlex.split(command, comments=True)
    plain = words[:1] == ["winnow"] and not any(re.search(r"[|&;<>$`(){}*?~]", word) for word in words)
    return words[1:] if plain else None


def _in_a_shell(command: str) -> tuple[int, str]:
    """Exit code and output of any command, with `winnow` and `python` those of this interpreter."""
    with tempfile.TemporaryDirectory(prefix="winnow-bin-") as programs:
        for name, start in (("winnow", "-m winnow"), ("python", "")):
            program = Path(programs) / name
            program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} {start} "$@"\n', encoding="utf-8")
            program.chmod(0o755)
        environment = {key: value for key, value in os.environ.items() if not key.startswith("WINNOW_")}
        environment |= {"PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}", "PYTHONUNBUFFERED": "1"}
        try:
            done = subprocess.run(
                ["bash", "-o", "pipefail", "-c", command],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=environment,
                text=True,
                timeout=_SECONDS_A_COMMAND,
            )
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
    return done.returncode, done.stdout


def _forked(arguments: list[str]) -> tuple[int, str]:
    """The same for winnow alone, in a fork of a process that has done nothing but the slow imports."""
    context = multiprocessing.get_context("forkserver")
    with tempfile.NamedTemporaryFile() as output:
        process = context.Process(target=_call_winnow, args=(arguments, os.getcwd(), output.name))
        process.start()
        process.join(_SECONDS_A_COMMAND)
        if process.is_alive():
            process.kill()
            process.join()
            raise TimeoutError
        return process.exitcode or 0, Path(output.name).read_text(encoding="utf-8")


def _call_winnow(arguments: list[str], folder: str, output: str) -> None:
    from winnow.cli import main as winnow

    for key in [key for key in os.environ if key.startswith("WINNOW_")]:
        del os.environ[key]
    os.chdir(folder)
    with open(output, "a", encoding="utf-8", buffering=1) as file, open(os.devnull) as nothing:
        sys.stdin, sys.stdout, sys.stderr, sys.argv = nothing, file, file, ["winnow", *arguments]
        winnow()


def matches(expected: Sequence[str], printed: Sequence[str]) -> bool:
    """Whether some output is the one that was written down; `...` stands for any text, alone for any lines."""
    pattern = ""
    for line in expected:
        if line.strip() == "...":
            pattern += r"(?:.*\n)*"
        else:
            pattern += ".*".join(re.escape(part) for part in line.rstrip().split("...")) + r"\n"
    return re.fullmatch(pattern, "".join(f"{line.rstrip()}\n" for line in printed)) is not None


def make_photos(root: Path) -> None:
    """Circles, squares and triangles on dark grounds: 40 images a class, 10 for tests, 6 without labels."""
    import numpy as np

    rng = np.random.default_rng(0)
    shapes = ("circle", "square", "triangle")
    for folder, number in (("photos", 40), ("photos-test", 10)):
        for shape in shapes:
            (root / folder / shape).mkdir(parents=True)
            for index in range(number):
                _photo(shape, rng).save(root / folder / shape / f"{index:03d}.png")
    (root / "new-photos").mkdir()
    for index in range(6):
        _photo(shapes[index % 3], rng).save(root / "new-photos" / f"{index:03d}.png")


def _photo(shape: str, rng: Any, size: int = 24) -> Any:
    from PIL import Image, ImageDraw

    ground, colour = (tuple(int(v) for v in rng.integers(low, high, 3)) for low, high in ((0, 110), (140, 256)))
    image = Image.new("RGB", (size, size), ground)
    draw = ImageDraw.Draw(image)
    reach = rng.uniform(0.22, 0.34) * size
    x, y = rng.uniform(reach + 1, size - reach - 1, 2)
    if shape == "circle":
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
    elif shape == "square":
        draw.rectangle((x - reach, y - reach, x + reach, y + reach), fill=colour)
    else:
        draw.polygon([(x, y - reach), (x - reach, y + reach), (x + reach, y + reach)], fill=colour)
    return image


def run_documents(paths: Sequence[Path]) -> int:
    """Runs the snippets of some files and tells how it went: 1 if one failed."""
    started = time.monotonic()
    # Started here, before temporary folders move: its socket must outlive every document.
    multiprocessing.get_context("forkserver").set_forkserver_preload(_SLOW_IMPORTS)
    forkserver.ensure_running()
    ran, failed = 0, 0
    left_out: list[Block] = []
    with tempfile.TemporaryDirectory(prefix="winnow-photos-") as place:
        make_photos(Path(place))
        for path in paths:
            name = path.relative_to(ROOT).as_posix() if path.is_relative_to(ROOT) else str(path)
            try:
                number, others = run_document(path, name, Path(place))
            except SnippetFailed as failure:
                print(failure)
                failed += 1
                continue
            ran += number
            left_out += others
    took = time.monotonic() - started
    print(f"{ran} snippets of {len(paths)} files ran in {took:.0f} s, {len(left_out)} were left out")
    for block in left_out:
        print(f"  {block.file}:{block.line}: not run: {block.skipped}")
    return 1 if failed else 0


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
    files = [path.resolve() for path in given.files] or documents(ROOT)
    return max(run_documents(files), 1 if wrong else 0)


if __name__ == "__main__":
    sys.exit(main())
