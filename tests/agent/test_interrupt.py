"""Ctrl-C in the middle of an import that swallows it still ends the command."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest

from agent.core.interrupt import stopped_like_interrupt

GREEDY = """
import time
try:
    open("importing", "w").close()
    for _ in range(100):
        time.sleep(0.01)
except BaseException:
    pass
"""
PROGRAM = """
import sys, time
sys.path.insert(0, ".")
from agent.core.interrupt import wait_for_imports
wait_for_imports()
try:
    import greedy
    time.sleep(20)
except KeyboardInterrupt:
    sys.exit(130)
"""


def test_an_interrupt_in_a_greedy_import_is_kept_until_after_it(tmp_path):
    (tmp_path / "greedy.py").write_text(GREEDY)
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=tmp_path)
    while not (tmp_path / "importing").exists():
        time.sleep(0.01)
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert time.monotonic() - began > 0.5  # the import was let finish


def test_sigterm_ends_work_as_ctrl_c_does_while_it_is_asked():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stopped_like_interrupt():
        signal.raise_signal(signal.SIGTERM)
    assert signal.getsignal(signal.SIGTERM) is before
