"""Machines learnt side by side on this computer, each by processes of its own."""

from __future__ import annotations

import os
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import partial
from pathlib import Path

from plant.learn.task import Outcome, Task
from plant.learn.work import learn_machine

# What learning one machine takes at its peak, bytes: PyTorch and a half hour of sound.
_MEMORY_OF_ONE = 2 * 2**30


def default_workers() -> int:
    """Number of machines to learn at a time: by cores, and by what memory holds."""
    cores = len(os.sched_getaffinity(0))
    return max(1, min(cores, _memory() // _MEMORY_OF_ONE))


def _memory() -> int:
    with suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/meminfo").read_text().splitlines()
        line = next(one for one in lines if one.startswith("MemAvailable:"))
        return int(line.split()[1]) * 1024
    return _MEMORY_OF_ONE


class LocalPool:
    """Learns machines in processes of this computer; `stop` ends those under way.

    Args:
        workers: How many at a time.
    """

    def __init__(self, workers: int) -> None:
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="learn")
        self._lock = threading.Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._stopped = False

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes as they come, one for each task."""
        learn = partial(learn_machine, begun=self._begun)
        waiting: list[Future[Outcome]] = [self._pool.submit(learn, task) for task in tasks]
        for one in as_completed(waiting):
            yield one.result()

    def stop(self) -> None:
        """End what runs; what was not finished will be learnt by the next build."""
        with self._lock:
            self._stopped = True
            for process in self._running:
                with suppress(OSError):
                    process.kill()
        self._pool.shutdown(cancel_futures=True)

    def _begun(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            self._running = {one for one in self._running if one.poll() is None} | {process}
            if self._stopped:
                process.kill()
