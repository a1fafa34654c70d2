"""Names for the shell's completion, read from the source text: a key press must not wait for torch."""

from __future__ import annotations

import ast
import glob
from collections.abc import Iterator
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent


def method_names(incomplete: str) -> list[str]:
    """Values of `--method`: the `name` of every class in `winnow/methods`."""
    names = []
    for path in sorted((_PACKAGE / "methods").glob("*.py")):
        classes = [node for node in _parsed(path).body if isinstance(node, ast.ClassDef)]
        names += [text for node in classes for text in _texts(node.body, "name")]
    return _beginning(names, incomplete)


def model_names(incomplete: str) -> list[str]:
    """Values of `--model`."""
    return _beginning(_keys(_PACKAGE / "models" / "__init__.py", "MODELS"), incomplete)


def data_names(incomplete: str) -> list[str]:
    """DATA: built-in collections, and files beside them; the shell completes files by itself if nothing is given."""
    names = _beginning(_keys(_PACKAGE / "data" / "builtin.py", "_BUILTINS"), incomplete) if incomplete else []
    return names + sorted(glob.glob(f"{glob.escape(incomplete)}*")) if names else []


def _beginning(names: list[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


def _parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def _texts(body: list[ast.stmt], target: str) -> Iterator[str]:
    for value in _values(body, target):
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            yield value.value


def _keys(path: Path, target: str) -> list[str]:
    [table] = _values(_parsed(path).body, target)
    assert isinstance(table, ast.Dict)
    return [key.value for key in table.keys if isinstance(key, ast.Constant) and isinstance(key.value, str)]


def _values(body: list[ast.stmt], target: str) -> Iterator[ast.expr]:
    for node in body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        value = getattr(node, "value", None)
        if value is not None and any(isinstance(each, ast.Name) and each.id == target for each in targets):
            yield value
