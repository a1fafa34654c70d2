"""Runs the snippets of Markdown files and compares what they print with what the page shows.

Blocks that begin with ```python, ```sh or ```console run; all others are only shown. The files of the page share one
temporary folder with small generated photos (`photos`, `photos-test`, `new-photos`), its Python blocks one namespace.
A comment in the line before a block changes what is done with it:

    <!-- not run: reason -->    the block is left out, and the reason is printed
    <!-- file: gce.py -->       the block, in any language, is written to that file instead of being run

In a console block the lines after a command are what it must print; `...` stands for anything, also for whole lines.
"""

from __future__ import annotations

import contextlib
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
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
LANGUAGES = ("python", "sh", "console")
_SECONDS_A_COMMAND = 120
_SLOW_IMPORTS = ["winnow.cli", "winnow.train.fit", "winnow.report.run", "winnow.noise.write"]
_FENCE = re.compile(r"^```(\S*)\s*$")
_COMMENT = re.compile(r"^<!-- (not run|file): (.+?) -->\s*$")


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
