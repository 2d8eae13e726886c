"""What was freed is given back to the system, and threads share what is kept."""

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


ARENAS = """
import ctypes, sys, threading
from agent.core.memory import few_arenas

if sys.argv[2] == "few":
    assert few_arenas()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.fopen.restype, libc.fopen.argtypes = ctypes.c_void_p, [ctypes.c_char_p, ctypes.c_char_p]
libc.malloc_info.argtypes = [ctypes.c_int, ctypes.c_void_p]
libc.fclose.argtypes = [ctypes.c_void_p]
meet = threading.Barrier(7)

def work():
    libc.malloc(1000)
    meet.wait()
    meet.wait()

threads = [threading.Thread(target=work) for _ in range(6)]
for one in threads:
    one.start()
meet.wait()  # all of them have asked for memory, and none has ended
file = libc.fopen(sys.argv[1].encode(), b"w")
libc.malloc_info(0, file)
libc.fclose(file)
meet.wait()
"""


@pytest.mark.parametrize(("how", "most"), [("few", 2), ("usual", 7)])
def test_threads_share_few_arenas(tmp_path, monkeypatch, how, most):
    if not hasattr(ctypes.CDLL(None), "malloc_info"):
        pytest.skip("this C library has no arenas to tell of")
    monkeypatch.delenv("MALLOC_ARENA_MAX", raising=False)
    told = tmp_path / "arenas.xml"
    subprocess.run([sys.executable, "-c", ARENAS, told, how], check=True, timeout=60)
    found = told.read_text().count("<heap nr=")
    assert found == 2 if how == "few" else 2 < found <= most


def test_who_sets_the_arenas_in_the_environment_is_obeyed(monkeypatch):
    monkeypatch.setenv("MALLOC_ARENA_MAX", "1")
    assert not memory.few_arenas()
