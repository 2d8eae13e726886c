"""The microphone's condition: told in time, not at every flicker, and apart from the machine's."""

from __future__ import annotations

import numpy as np
import pytest

from agent.config.window import ConditionConfig
from agent.core.levels import LevelRange
from agent.core.records import AudioBlock, Validity, Window
from agent.window.condition import ConditionStatus, SensorMonitor
from agent.window.losses import LossLog
from agent.window.rolling import RollingWindow
from agent.window.validity import assess, level_dbfs

RATE = 100
GOOD, FAILURE, CHECK, SPEC, MAINTENANCE = (
    ConditionStatus.GOOD,
    ConditionStatus.FAILURE,
    ConditionStatus.CHECK_FUNCTION,
    ConditionStatus.OUT_OF_SPECIFICATION,
    ConditionStatus.MAINTENANCE_REQUIRED,
)
NAMES = {
    ".": Validity.VALID, "s": Validity.SILENT, "n": Validity.NOT_FINITE, "c": Validity.CLIPPED,
    "o": Validity.OUT_OF_RANGE, "w": Validity.WARM_UP, "g": Validity.GAP,
}  # fmt: skip


class Stream:
    """Windows of 10 s, one a second, by the letter."""

    def __init__(self, **config) -> None:
        self.monitor = SensorMonitor(ConditionConfig(**config))
        self.at = 0.0

    def see(self, letters, reason="", faults=None):
        return [self.one(letter, reason, faults).status for letter in letters]

    def one(self, letter, reason="", faults=None):
        window = Window(
            np.zeros(10 * RATE, np.float32), RATE, 0, 500 + self.at, 1e9 + self.at,
            NAMES[letter], reason,
        )  # fmt: skip
        self.at += 1
        return self.monitor.observe(window, faults)


def test_before_and_just_after_opening_its_function_is_being_checked():
    stream = Stream()
    assert stream.monitor.condition.status is CHECK
    assert stream.see("ww.") == [CHECK, CHECK, GOOD]
    condition = stream.one(".")
    assert condition.reason == ""
    assert condition.since_wall == 1e9 + 2 + 10


def test_a_dead_microphone_is_a_failure_at_once_until_sound_has_lasted():
    stream = Stream()
    stream.see("." * 20)
    condition = stream.one("s", "no signal: the microphone is dead, muted or not connected")
    assert condition.status is FAILURE
    assert "dead" in condition.reason
    assert set(stream.see("." * 29)) == {FAILURE}
    assert stream.see("..")[-1] is GOOD


def test_a_loose_contact_is_one_failure_not_many():
    stream = Stream()
    stream.see("." * 20)
    assert set(stream.see("s" + (".........s" * 10))) == {FAILURE}
    since = stream.monitor.condition.since_wall
    stream.see(".s.s")
    assert stream.monitor.condition.since_wall == since


def test_a_knock_on_the_microphone_is_nothing_lasting_clipping_is_out_of_specification():
    stream = Stream()
    stream.see("." * 20)
    # One click is in ten windows.
    assert set(stream.see("c" * 10 + "." * 60)) == {GOOD}
    seen = stream.see("c" * 31)
    assert seen[15] is GOOD
    assert seen[-1] is SPEC
    assert set(stream.see("." * 58)) == {SPEC}
    assert stream.see("...")[-1] is GOOD


def test_out_of_range_level_says_so_and_a_changing_number_is_no_news():
    stream = Stream()
    stream.see("." * 20)
    stream.see("o" * 40, "24 dB quieter than any training recording")
    first = stream.monitor.condition
    assert first.status is SPEC
    assert "24 dB quieter" in first.reason
    assert stream.one("o", "25 dB quieter than any training recording") is first


def test_the_graver_word_wins_and_the_lesser_shows_when_it_is_over():
    stream = Stream(failure_off_seconds=5)
    stream.see("." * 20 + "c" * 40)
    assert stream.see("s") == [FAILURE]
    seen = stream.see("c" * 10)
    assert seen[0] is FAILURE
    assert seen[-1] is SPEC
    assert stream.see("w") == [CHECK]


def test_lost_sound_now_and_then_is_nothing_often_needs_maintenance():
    stream = Stream(gaps_allowed=4, gap_seconds=600)
    stream.see("." * 20, faults={"overruns": 3, "reopened": 1})
    assert stream.monitor.condition.status is GOOD
    assert stream.see(".", faults={"overruns": 4, "reopened": 1}) == [MAINTENANCE]
    condition = stream.monitor.condition
    assert condition.reason == (
        "sound was lost 5 times within 10 minutes, 4 times as this device was too busy to fetch "
        "it: check its load"
    )
    assert set(stream.see("." * 500, faults={"overruns": 4, "reopened": 1})) == {MAINTENANCE}
    assert stream.see("." * 120, faults={"overruns": 4, "reopened": 1})[-1] is GOOD
    # A gap inside the sound is one, in however many windows it is.
    assert set(stream.see("ggggggggg." * 4)) == {GOOD}
    assert stream.see("ggggg") == [MAINTENANCE] * 5


def test_lost_sound_is_told_by_its_cause_as_it_happens_and_not_too_often(caplog, monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    losses = LossLog("pump")
    losses.look({})
    losses.look({"missing": 1, "bad_files": 3})
    assert "pump: sound was lost 1 time on the way to this device: check the cable" in caplog.text
    caplog.clear()
    for count in range(2, 50):
        now[0] += 1
        losses.look({"missing": count, "dropped_windows": 7})
    assert not caplog.messages
    now[0] += 60
    losses.look({"missing": 50, "dropped_windows": 8})
    assert len(caplog.messages) == 2
    assert "8 windows not judged, as scoring cannot keep up" in caplog.messages[0]
    assert "sound was lost 49 times on the way to this device" in caplog.messages[1]


def test_no_windows_at_all_is_a_failure():
    stream = Stream(no_sound_seconds=30)
    stream.see("." * 20)
    last = 500 + stream.at - 1 + 10
    assert stream.monitor.waiting(last + 29, 1e9 + 100).status is GOOD
    condition = stream.monitor.waiting(last + 31, 1e9 + 102)
    assert condition.status is FAILURE
    assert condition.since_wall == 1e9 + 102
    assert "gone, or not connected" in condition.reason
    stream.at += 3600
    # One good window is not yet living sound, however long the time before it.
    assert stream.see("w.") == [FAILURE, FAILURE]
    assert stream.see("." * 30)[-1] is GOOD
    never = SensorMonitor(ConditionConfig(no_sound_seconds=30))
    assert never.waiting(100, 1e9).status is CHECK
    assert never.waiting(131, 1e9).status is FAILURE


def noise(level, seconds=2, rate=8000):
    rng = np.random.default_rng(0)
    return (10 ** (level / 20) * rng.standard_normal(seconds * rate)).astype(np.float32)


@pytest.mark.parametrize(
    ("level", "wanted"),
    [(-62, "22 dB quieter"), (-58, ""), (-30, ""), (-21, ""), (-48, "")],
)
def test_levels_far_below_training_are_too_quiet(level, wanted):
    assert assess(noise(level), 8000)[0] is Validity.VALID
    kind, reason = LevelRange((-40.0, -30.0)).judge(level_dbfs(noise(level)))
    assert kind is (Validity.TOO_QUIET if wanted else Validity.VALID)
    assert reason.startswith(wanted)
    assert level_dbfs(noise(level)) == pytest.approx(level, abs=0.2)


def test_much_louder_is_out_of_range_and_limits_can_be_lifted():
    trained = (-90.0, -60.0)
    kind, reason = LevelRange(trained).judge(level_dbfs(noise(-25)))
    assert (kind, reason[:12]) == (Validity.OUT_OF_RANGE, "35 dB louder")
    free = LevelRange(trained, quieter=float("inf"), louder=float("inf"))
    assert free.judge(level_dbfs(noise(-25)))[0] is Validity.VALID


def test_windows_that_begin_while_the_microphone_settles_are_warm_up():
    rolling = RollingWindow(100, 50, RATE)
    sound = np.random.default_rng(0).normal(0, 0.1, 50).astype(np.float32)
    kinds = [
        window.validity
        for n in range(8)
        for window in rolling.push(
            AudioBlock(sound, RATE, n / 2, 1e9 + n / 2, gap_before=n == 4, settling=n in {0, 1, 4})
        )
    ]
    warm, valid = Validity.WARM_UP, Validity.VALID
    assert kinds == [warm, warm, valid, warm, valid, valid]
