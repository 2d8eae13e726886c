"""How many processor cores there are to use."""

from __future__ import annotations

import os


def usable_cores() -> int:
    """Cores this process may use: a container or a service may have fewer than the computer."""
    usable = getattr(os, "sched_getaffinity", None)
    return len(usable(0)) if usable is not None else os.cpu_count() or 1
