"""winnow: learn from image collections whose labels are partly wrong, and find the wrong labels."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Run", "fit", "open_source"]

if TYPE_CHECKING:
    from winnow.api import Run, fit, open_source


def __getattr__(name: str) -> Any:
    # Loaded on first use: `winnow --help` must not wait for torch.
    if name in __all__:
        from winnow import api

        return getattr(api, name)
    raise AttributeError(f"module 'winnow' has no attribute {name!r}")
