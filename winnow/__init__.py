"""winnow: learn from image collections whose labels are partly wrong, and find the wrong labels."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Findings", "NoisyLabelClassifier", "Run", "audit", "find_label_issues", "fit", "open_source"]

if TYPE_CHECKING:
    from winnow.api import Findings, Run, audit, fit, open_source
    from winnow.audit.confident import find_label_issues
    from winnow.estimator import NoisyLabelClassifier

_MODULES = {"NoisyLabelClassifier": "winnow.estimator", "find_label_issues": "winnow.audit.confident"}


def __getattr__(name: str) -> Any:
    # Loaded on first use: `winnow --help` must not wait for torch, nor must features that need none.
    if name in __all__:
        return getattr(import_module(_MODULES.get(name, "winnow.api")), name)
    raise AttributeError(f"module 'winnow' has no attribute {name!r}")
