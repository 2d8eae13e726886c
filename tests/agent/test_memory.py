"""What was freed is given back to the system."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

from agent.core import memory

CODE = """
from pathlib import Path
from agent.core.memory import give_back

def resident():
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])

# Freed all but the last, which lies behind them: the heap cannot shrink by itself.
many = [bytearray(50_000) for _ in range(2000)]
last = many.pop()
many.clear()
before = resident()
give_back()
print(before - resident())
"""


def test_freed_memory_behind_which_some_is_in_use_is_given_back():
    if not hasattr(ctypes.CDLL(None), "malloc_trim"):
        pytest.skip("this C library gives back by itself")
    done = subprocess.run(
        [sys.executable, "-c", CODE], capture_output=True, text=True, check=True, timeout=60
    )
    assert int(done.stdout) > 50_000_000


def test_a_c_library_without_it_is_left_alone(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    memory.malloc_trim.cache_clear()
    try:
        memory.give_back()
        assert memory.malloc_trim() is None
    finally:
        memory.malloc_trim.cache_clear()
