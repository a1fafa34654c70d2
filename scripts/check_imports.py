"""Checks that imports inside the package point one way: from commands down to data and labels."""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent / "winnow"

# From the bottom up; a package may import its own level's other packages only where they are named together.
LEVELS = (
    ("errors", "files", "output_folder", "__init__"),
    ("labels",),
    ("data",),
    ("noise", "models", "functional"),
    ("survey",),
    ("methods", "detect", "segment"),
    ("train",),
    ("audit",),
    ("report", "export"),
    ("bench", "review"),
    ("api", "demo", "doctor", "estimator"),
    ("cli",),
    ("__main__",),
)
# They are lazy, and may name anything; `winnow.audit` is a package and can be called.
FRONT_DOORS = (ROOT / "__init__.py", ROOT / "audit" / "__init__.py")
LEVEL = {name: number for number, names in enumerate(LEVELS) for name in names}


def imported(tree: ast.Module) -> set[str]:
    """Top-level parts of the package that a module imports, wherever in it."""
    parts = set()
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            pieces = name.split(".")
            if pieces[0] == "winnow" and len(pieces) > 1:
                parts.add(pieces[1] if pieces[1] in LEVEL else "__init__")
    return parts


def main() -> int:
    """Prints every import against the direction; 1 if there is one."""
    wrong = []
    for path in sorted(ROOT.rglob("*.py")):
        part = path.relative_to(ROOT).parts[0].removesuffix(".py")
        if path in FRONT_DOORS:
            continue
        for other in sorted(imported(ast.parse(path.read_text()))):
            same_level = LEVEL[other] == LEVEL[part] and other != part
            if LEVEL[other] > LEVEL[part] or (same_level and LEVEL[part] > 0):
                wrong.append(f"{path.relative_to(ROOT.parent)}: {part} must not import {other}")
    print("\n".join(wrong) or f"imports point one way ({len(list(ROOT.rglob('*.py')))} files)")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
