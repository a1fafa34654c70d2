"""Finding what is wrong with a collection; called itself, the audit of one: `winnow.audit(DATA)`."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from winnow.audit.folder import Findings


class _CallableModule(ModuleType):
    """The command and the package have one name; importing any part of the package would hide a function."""

    def __call__(self, *arguments: Any, **options: Any) -> Findings:
        """See `winnow.api.audit`."""
        from winnow.api import audit

        return audit(*arguments, **options)


sys.modules[__name__].__class__ = _CallableModule
