"""How long work shows itself: a bar on a terminal, a line a stage elsewhere."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import IO, Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

# Off a terminal, a stage under way says so again after this, seconds.
_AGAIN_SECONDS = 60.0
_LINE_SECONDS = 0.5
# What takes no longer needs no word.
_LATE_SECONDS = 2.0


class Stages(Progress):
    """Progress that writes a line when a stage begins, now and then, and when it is done.

    Args:
        console: Where to; quiet where that is.
        settings: As for `Progress`.
    """

    def __init__(self, console: Console, **settings: Any) -> None:
        super().__init__(console=console, disable=True, **settings)
        self._began = time.monotonic()
        self._told: dict[TaskID, tuple[float, bool]] = {}

    def add_task(self, description: str, *args: Any, **fields: Any) -> TaskID:
        """Begin a stage."""
        task = super().add_task(description, *args, **fields)
        total = self.tasks[-1].total
        of = "" if total is None else f" ({total:g})"
        self._say(f"{description}{of}")
        self._told[task] = (time.monotonic(), False)
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Go on with a stage."""
        super().advance(task_id, advance)
        self._tell(task_id)

    def update(self, task_id: TaskID, **fields: Any) -> None:
        """Change a stage."""
        super().update(task_id, **fields)
        self._tell(task_id)

    def _tell(self, task_id: TaskID) -> None:
        task = next((one for one in self.tasks if one.id == task_id), None)
        if task is None or task_id not in self._told:
            return
        last, over = self._told[task_id]
        now = time.monotonic()
        done = task.total is not None and task.completed >= task.total
        if over or not (done or now - last >= _AGAIN_SECONDS):
            return
        self._told[task_id] = (now, done)
        if not done:
            of = "" if task.total is None else f" of {task.total:g}"
            self._say(f"{task.description}: {task.completed:g}{of}")
        elif now - self._began >= 1.0:
            self._say(f"{task.description}: done")

    def _say(self, text: str) -> None:
        passed = time.monotonic() - self._began
        self.console.print(f"[{passed:6.1f} s] {text}", highlight=False, markup=False)


def stage(progress: Progress | None, title: str, total: int | None) -> Callable[..., None]:
    """Begin a stage of work, shown where there is where to.

    Returns:
        To be called after each piece of it, with its size where that is not 1.
    """
    if progress is None:
        return lambda _size=1: None
    return partial(progress.advance, progress.add_task(title, total=total))


def progress_bar(console: Console) -> Progress:
    """Progress with counts and time left; a line a stage, with the time, off a terminal."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    if not console.is_terminal:
        return Stages(console)
    return Progress(*columns, console=console, transient=True)


@contextlib.contextmanager
def busy(what: str) -> Iterator[None]:
    """Say what is being done while it is: a spinner, or a line if it takes over two seconds.

    Args:
        what: In words, such as `opening the bundle`; on the standard error, which no program reads.
    """
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status(escape(what)):
            yield
        return
    late = threading.Timer(
        _LATE_SECONDS, lambda: console.print(f"{what} ...", highlight=False, markup=False)
    )
    late.daemon = True
    late.start()
    try:
        yield
    finally:
        late.cancel()


class JsonLines(Progress):
    """Progress as JSON lines, for a program that shows it: step, how much is done, of how much.

    Args:
        file: Where to write lines.
    """

    def __init__(self, file: IO[str]) -> None:
        super().__init__(console=Console(quiet=True), disable=True)
        self._file = file
        self._last = 0.0

    def add_task(self, description: str, *args: Any, **fields: Any) -> TaskID:
        """Begin a stage."""
        task = super().add_task(description, *args, **fields)
        self._say(task, at_once=True)
        return task

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        """Go on with a stage."""
        super().advance(task_id, advance)
        self._say(task_id)

    def _say(self, task_id: TaskID, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if not at_once and now - self._last < _LINE_SECONDS:
            return
        self._last = now
        task = next((one for one in self.tasks if one.id == task_id), None)
        if task is not None:
            line = {"step": task.description, "done": task.completed, "of": task.total}
            self._file.write(json.dumps(line) + "\n")
            self._file.flush()
