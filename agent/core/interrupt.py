"""Ctrl-C while a library is being imported waits until it has been.

Some libraries guard optional imports with a bare `except`, which swallows a KeyboardInterrupt that
arrives in the middle: the command then runs on as if nobody had pressed anything, sometimes with a
half-imported library.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

_AGAIN_SECONDS = 0.05


def wait_for_imports() -> None:
    """Take SIGINT (unless it is ignored or somebody else's) by a handler that minds imports."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


@contextmanager
def stopped_like_interrupt() -> Iterator[None]:
    """While it lasts, SIGTERM ends work as Ctrl-C does: what was done is kept and told of."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if not _importing(frame):
        raise KeyboardInterrupt
    main = threading.main_thread().ident
    assert main is not None
    again = threading.Timer(_AGAIN_SECONDS, signal.pthread_kill, (main, number))
    again.daemon = True
    again.start()


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False
