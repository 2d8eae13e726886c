"""Numbers and times as people read them."""

from __future__ import annotations

import time

import pytest

from agent.core.text import local_time, plural


def test_one_thing_is_no_plural():
    assert [plural(n, "recording") for n in (0, 1, 2)] == [
        "0 recordings", "1 recording", "2 recordings",
    ]  # fmt: skip
    assert plural(1, "class", "classes") == "1 class"
    assert plural(3, "class", "classes") == "3 classes"


@pytest.fixture
def _in_berlin(monkeypatch):
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    yield
    monkeypatch.undo()
    time.tzset()


@pytest.mark.usefixtures("_in_berlin")
def test_times_are_this_devices_to_the_minute():
    assert local_time("2026-11-21T08:50:22.123Z") == "2026-11-21 09:50"
    assert local_time("2026-07-01T08:50:22+00:00") == "2026-07-01 10:50"
    assert local_time("2026-11-21T08:50:22Z") == "2026-11-21 09:50"
    assert local_time("some day") == "some day"
