"""How many processors there are for this process; nothing heavy is imported for it."""

from __future__ import annotations

import os


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # not everywhere; it knows what a container allows
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
