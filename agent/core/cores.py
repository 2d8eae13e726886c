"""How many processor cores there are to use."""

from __future__ import annotations

import os

_most: int | None = None


def usable_cores() -> int:
    """Cores this process may use: a container or a service may have fewer than the computer."""
    usable = getattr(os, "sched_getaffinity", None)
    count = len(usable(0)) if usable is not None else os.cpu_count() or 1
    return count if _most is None else min(count, _most)


def limit_cores(most: int | None) -> None:
    """Let this process use no more cores than this, where several share the computer.

    Args:
        most: At least one; None for all that there are.
    """
    global _most  # noqa: PLW0603 - as many as a process has, so one number for it
    _most = None if most is None else max(1, most)
