"""One session for all encoders of the process that hold the same graph, run the same way.

Machines of a kind may have bundles of their own whose graphs are the same file; a device opens such
a graph once, and its weights lie in memory once. Sessions may be run by several threads at a time.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any
from weakref import WeakValueDictionary

_lock = threading.Lock()
_open: WeakValueDictionary[Hashable, Any] = WeakValueDictionary()
_turns: dict[int, threading.Semaphore] = {}


def session_of(key: Hashable | None, make: Callable[[], Any]) -> Any:
    """The session that somebody has open by this key, or one made now.

    Args:
        key: All that decides what the session does: the graph's digest, and how it is run. None
            where the graph's digest is not known: the session is nobody else's.
        make: Opens one.

    Returns:
        A session; it ends once nobody holds it.
    """
    if key is None:
        return make()
    with _lock:
        found = _open.get(key)
        if found is None:
            found = _open[key] = make()
        return found


def turns(at_once: int) -> threading.Semaphore:
    """Semaphore that lets so many inferences run at once, over all encoders of the process."""
    with _lock:
        return _turns.setdefault(at_once, threading.Semaphore(at_once))
