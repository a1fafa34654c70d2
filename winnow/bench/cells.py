"""A cell of a grid: one configuration, and the key under which its result is kept."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from hashlib import blake2b
from pathlib import Path
from typing import Any

import winnow
from winnow.errors import UsageError

_PACKAGE = Path(winnow.__file__).parent
_SHOWN_ONLY = ("api", "audit", "bench", "cli", "demo", "estimator", "export", "report", "review")
"""Parts of the package that tell results but do not make them; of `bench` the cells' own modules count."""


def canonical(value: Any) -> str:
    """A value as JSON, the same text for equal values: keys sorted, no spaces, `1` and `1.0` told apart.

    Raises:
        UsageError: JSON cannot hold it; that is so for NaN and infinity, too.
    """
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False, default=dict)
    except (TypeError, ValueError) as error:
        raise UsageError(f"a cell's configuration must be plain JSON: {error}") from error


def hashed(*parts: bytes) -> str:
    """32 hexadecimal digits of BLAKE2b over parts and their bounds."""
    digest = blake2b(digest_size=16)
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


@cache
def code_version(method: str | None = None, *modules: str) -> str:
    """Version of the code that a result depends on: winnow's version and a hash of what its source says.

    Comments, docstrings, formatting, tests, documentation, command line and reports play no part: they change no
    number. A change to data reading, noise, networks, methods or training gives another version, so that no old result
    is taken for a new one.

    Args:
        method: name of a method in the table: only its file and the files of methods that it builds on count, so that
            adding a method invalidates nothing. By default, and for a user's own file (which is added), all count.
        modules: of this package, those of the cells' function, such as `winnow.bench.grid_cell`.

    Returns:
        Such as `0.1.0+5f3c...`.
    """
    digests = [hashed(name.encode(), _meaning(path).encode()) for name, path in _sources(method)]
    digests += [hashed(_meaning(_file(module)).encode()) for module in modules]
    if method is not None and ".py:" in method and (own := Path(method.rsplit(":", 1)[0])).is_file():
        digests.append(hashed(_meaning(own).encode()))
    return f"{winnow.__version__}+{hashed(*map(str.encode, digests))[:16]}"


@dataclass(frozen=True)
class Cell:
    """One configuration to run.

    Attributes:
        config: everything that the result depends on, apart from code and data; JSON can hold it.
        data: fingerprint of the data, see `winnow.bench.shared.fingerprint`.
        code: version of the code that makes the result, by default `code_version()`.
        cost: how long it takes beside the other cells, in any unit; for telling the time left, not part of the key.

    Raises:
        UsageError: JSON cannot hold the configuration.
    """

    config: Mapping[str, Any]
    data: str = ""
    code: str = field(default_factory=code_version)
    cost: float = 1.0

    def __post_init__(self) -> None:
        canonical(self.config)

    @cached_property
    def key(self) -> str:
        """Hash of configuration, code and data, 32 hexadecimal digits: the same in every process."""
        return hashed(canonical({"config": self.config, "data": self.data, "code": self.code}).encode())


def _sources(method: str | None) -> Iterator[tuple[str, Path]]:
    wanted = _method_files(method)
    for path in sorted(_PACKAGE.rglob("*.py")):
        parts = path.relative_to(_PACKAGE).parts
        if parts[0].removesuffix(".py") in _SHOWN_ONLY or (parts[0] == "methods" and path not in wanted):
            continue
        yield "/".join(parts), path


def _method_files(method: str | None) -> set[Path]:
    """Files of `winnow.methods` that a method needs: its own, and what is imported from there, the table apart."""
    everything = set((_PACKAGE / "methods").rglob("*.py"))
    if method is None:
        return everything
    from winnow.methods import METHODS

    if method not in METHODS:
        return everything
    found: set[Path] = set()
    waiting = [_file(METHODS[method].__module__)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        for node in ast.walk(ast.parse(path.read_bytes())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("winnow.methods."):
                waiting.append(_file(str(node.module)))
    return found


def _file(module: str) -> Path:
    place = _PACKAGE.joinpath(*module.split(".")[1:])
    return place / "__init__.py" if place.is_dir() else place.with_suffix(".py")


@cache
def _meaning(path: Path) -> str:
    """A module's syntax tree without docstrings; comments and line breaks are not in it anyway."""
    tree = ast.parse(path.read_bytes())
    for node in ast.walk(tree):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)) and (
            ast.get_docstring(node, clean=False) is not None
        ):
            node.body = node.body[1:]
    return ast.dump(tree)
