"""What takes its time says so: a spinner, or a line where nobody looks at a terminal."""

import time

import pytest

from agent.core import progress


def test_what_takes_long_says_so_once_on_the_standard_error(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LATE_SECONDS", 0.05)
    with progress.busy("opening [the] bundle"):
        time.sleep(0.3)
    found = capsys.readouterr()
    assert found.err == "opening [the] bundle ...\n"
    assert found.out == ""


def test_what_is_done_at_once_says_nothing_nor_does_what_failed(capsys, monkeypatch):
    monkeypatch.setattr(progress, "_LATE_SECONDS", 0.2)
    with progress.busy("quick"):
        pass
    with pytest.raises(ValueError, match="no"), progress.busy("broken"):
        raise ValueError("no")
    time.sleep(0.4)
    assert capsys.readouterr().err == ""
