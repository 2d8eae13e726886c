from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.name_time import all_name_times, name_time


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("20260302_234228.253481_00000001.flac", "2026-03-02T23:42:28.253481"),
        ("2026-03-02T23-42-28.wav", "2026-03-02T23:42:28"),
        ("2026-03-02 23:42.wav", "2026-03-02T23:42:00"),
        ("pump_20260302.wav", "2026-03-02T00:00:00"),
        ("20260302_00000007.flac", "2026-03-02T00:00:00"),
        ("2026-03-02/press/07.wav", "2026-03-02T00:00:00"),
        # The nearest tells: a file's own time before its folder's day.
        ("2026-03-01/2026-03-02_080000.wav", "2026-03-02T08:00:00"),
        # A running number, a rate, an impossible date: no times.
        ("section_00_source_train_normal_0001_speed_1.wav", None),
        ("normal_id_00_00000012.wav", None),
        ("clip_16000_202603021.wav", None),
        ("20261302_101010.wav", None),
        ("20260230.wav", None),
    ],
)
def test_names_that_tell_a_time(name, expected):
    found = name_time(name)
    assert (None if found is None else found.isoformat()) == expected


def test_a_time_that_cannot_be_is_no_reason_to_give_up_on_the_next():
    found = name_time("20269999_20260302.wav")
    assert found is not None
    assert found.isoformat() == "2026-03-02T00:00:00"


def test_all_tell_or_none_does():
    found = all_name_times(["20260301.wav", Path("x/20260302.wav")])
    assert found is not None
    assert [time.isoformat() for time in found] == [
        "2026-03-01T00:00:00",
        "2026-03-02T00:00:00",
    ]
    assert all_name_times(["20260301.wav", "7.wav"]) is None
    assert all_name_times([]) is None
