"""One working memory for all graphs of the process, on the processor.

By default each session keeps its own. A bundle whose windows share frames is three graphs, and
machines may have several bundles, but few of them run at the same time.
"""

from __future__ import annotations

import functools
import logging
import threading

import onnxruntime
from onnxruntime import OrtAllocatorType, OrtArenaCfg, OrtMemoryInfo, OrtMemType

log = logging.getLogger(__name__)

_registering = threading.Lock()


def share_arena(options: onnxruntime.SessionOptions) -> None:
    """Have a session use the process's working memory in place of one of its own.

    Args:
        options: What the session is made with.
    """
    with _registering:
        shared = _register()
    if shared:
        options.add_session_config_entry("session.use_env_allocators", "1")


@functools.cache
def _register() -> bool:
    """Make the working memory, once: a second one is refused."""
    memory = OrtMemoryInfo("Cpu", OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, OrtMemType.DEFAULT)
    no_limit, by_default = 0, -1
    try:
        onnxruntime.create_and_register_allocator(
            memory, OrtArenaCfg(no_limit, by_default, by_default, by_default)
        )
    except Exception as fault:  # noqa: BLE001 - onnxruntime's errors share no base class
        log.warning("each graph will keep a working memory of its own: %s", fault)
        return False
    return True
