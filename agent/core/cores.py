"""How many processor cores there are to use, and work that is spread over them."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Given = TypeVar("Given")
Made = TypeVar("Made")

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


def on_cores(
    work: Callable[[Given], Made], items: Iterable[Given], *, most: int = 8
) -> Iterator[Made]:
    """What a function makes of each item, in their order, several at once.

    For work whose long steps leave Python to others (NumPy, onnxruntime, decoding, hashing). Only a
    few items are worked on ahead of whoever takes the results, so that few results wait in memory.
    With one core it is done here, without threads. What fails is raised in its turn, and what has
    not begun then never does.

    Args:
        work: May be called by several threads at once.
        items: What it is called with.
        most: Of these at once, if there are as many cores.
    """
    workers = min(usable_cores(), most)
    if workers < 2:
        yield from map(work, items)
        return
    pool = ThreadPoolExecutor(workers)
    waiting: deque[Future[Made]] = deque()
    try:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 2 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
