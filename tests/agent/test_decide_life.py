"""The alarm's life: whatever the order of windows, silences and commands, its promises hold."""

from __future__ import annotations

import contextlib
import itertools
import random
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agent.config.decide import DecideConfig
from agent.core.records import EventKind, Level, MachineState, Score, Shelving, Validity, Window
from agent.core.scale import scale_of
from agent.decide.alarm import AlarmDecider
from agent.decide.memory import AlarmMemory
from agent.decide.service import AlarmService
from agent.decide.state_machine import CommandError
from agent.decide.thresholds import Thresholds

SAMPLES = np.zeros(8000, np.float32)
RISING = {EventKind.ALERT, EventKind.RAISED, EventKind.REALARM}
ALERT = {"threshold": None, "raise_windows": 3, "of_windows": 4}


class Story:
    """A decider, a clock and everything it told."""

    def __init__(
        self, *, memory=None, alert=0.5, start=0.0, wall=1000.0, overlap=0.0, **config
    ) -> None:
        count = itertools.count()
        defaults = {"raise_windows": 2, "of_windows": 3, "clear_windows": 2, "alert": ALERT}
        self.config = DecideConfig(**{**defaults, **config})
        self.decider = AlarmDecider(
            self.config, 1.0, alert_threshold=alert, memory=memory, overlap_seconds=overlap,
            new_id=lambda: f"{'r' if memory else 'a'}{next(count)}",
        )  # fmt: skip
        self.life = self.decider.life
        self.now, self.wall, self.index = start, wall, 0
        self.events, self.decisions = [], []

    def window(self, value, state=MachineState.RUNNING, samples=SAMPLES):
        validity = Validity.VALID if value is not None else Validity.SILENT
        window = Window(samples, 8000, self.index, self.now, self.wall, validity)
        self.index, self.now, self.wall = self.index + 1, self.now + 1, self.wall + 1
        decision = self.decider.decide(Score(window, value), state)
        self.decisions.append(decision)
        self.events.extend(decision.events)
        return decision

    def windows(self, *values):
        return [self.window(value) for value in values][-1]

    def do(self, name, **arguments):
        self.life.at(self.now, self.wall)
        getattr(self.life, name)(**arguments)
        found = self.life.take()
        self.events.extend(found)
        return [event.kind.value for event in found]

    def wait(self, seconds):
        self.now += seconds
        self.wall += seconds
        found = self.decider.tick(self.now, self.wall)
        self.events.extend(found)
        return [event.kind.value for event in found]

    def kinds(self):
        return [event.kind.value for event in self.events]


LOUD, MIDDLE, QUIET = 5.0, 0.7, 0.0
STEP = st.one_of(
    st.sampled_from([LOUD, LOUD, MIDDLE, QUIET, QUIET, None]),
    st.sampled_from(
        ["acknowledge", "shelve", "shelve_once", "unshelve", "mute", "unmute", "wait", "idle"]
    ),
)
CONFIG = st.fixed_dictionaries(
    {
        "raise_windows": st.integers(1, 3),
        "of_windows": st.integers(3, 5),
        "clear_windows": st.integers(1, 4),
        "latch": st.booleans(),
        "realarm_seconds": st.sampled_from([None, 3.0]),
        "forget_seconds": st.sampled_from([None, 6.0]),
    }
)


def play(story, steps):
    """Do the steps; yields each with the decision it brought, if any."""
    for step in steps:
        if step in {"acknowledge", "shelve", "shelve_once", "unshelve", "mute", "unmute"}:
            name = "shelve" if step == "shelve_once" else step
            arguments = {"seconds": 5.0} if step in {"shelve", "mute"} else {}
            with contextlib.suppress(CommandError):
                story.do(name, **arguments)
            yield step, None
        elif step == "wait":
            story.wait(4.0)
            yield step, None
        elif step == "idle":
            yield step, story.window(LOUD, MachineState.IDLE)
        else:
            yield step, story.window(step)


@settings(max_examples=150, deadline=None)
@given(CONFIG, st.lists(STEP, max_size=60))
def test_promises_hold_for_any_order_of_things(config, steps):
    story = Story(**config)
    heard, standing, before = [], False, Level.NORMAL
    for step, decision in play(story, steps):
        status, now = story.life.status, story.now
        if isinstance(step, float):
            heard.append((now, step))
        # Nothing but a valid window of a running machine makes the level rise, and only an
        # acknowledgement of a latched alarm lets it fall without one.
        if not isinstance(step, float):
            assert status.level.rank <= before.rank
            if step != "acknowledge":
                assert status.level is before
        if before.rank < Level.ALARM.rank and status.level is Level.ALARM:
            recent = heard[-config["of_windows"] :]
            assert sum(v == LOUD for _, v in recent) >= config["raise_windows"]
        if status.level.rank > before.rank and config["forget_seconds"]:
            n = config["raise_windows"] if status.level is Level.ALARM else 3
            loud = [t for t, v in heard if v >= (LOUD if status.level is Level.ALARM else MIDDLE)]
            assert loud[-n] >= now - 1 - config["forget_seconds"]
        # While shelved nothing rises for the world.
        if decision is not None and status.shelving is not Shelving.UNSHELVED:
            assert not RISING.intersection(event.kind for event in decision.events)
        # A latched alarm stands until it is acknowledged.
        if config["latch"] and before is Level.ALARM and status.level is not Level.ALARM:
            assert standing or step == "acknowledge"
        standing = status.acknowledged
        assert (status.alarm_id == "") == (status.level is Level.NORMAL)
        assert status.acknowledged or status.level is not Level.NORMAL
        before = status.level
    ids = [event.id for event in story.events]
    assert len(ids) == len(set(ids))
    # To the world each alarm rises before it falls, and by turns.
    known = Level.NORMAL
    for event in story.events:
        if event.kind in {EventKind.ALERT, EventKind.RAISED}:
            assert event.previous is known
            assert event.status.level.rank > known.rank
            known = event.status.level
        elif event.kind in {EventKind.LOWERED, EventKind.CLEARED}:
            assert event.status.level.rank < known.rank
            known = event.status.level
        elif event.kind is EventKind.REALARM:
            assert known is Level.ALARM
    assert known is story.life.announced


@settings(max_examples=100, deadline=None)
@given(CONFIG, st.lists(STEP, max_size=40), st.integers(0, 40))
def test_a_restart_anywhere_changes_nothing_but_the_evidence(config, steps, at):
    story = Story(**config)
    for _ in play(story, steps[:at]):
        pass
    text = story.decider.memory().model_dump_json()
    again = Story(
        memory=AlarmMemory.model_validate_json(text),
        start=random.Random(at).uniform(0, 1e6),
        wall=story.wall,
        **config,
    )
    before = story.life.status
    assert again.life.untold == story.life.untold
    again.wait(0.0)
    after = again.life.status
    assert after.level is before.level
    assert after.alarm_id == before.alarm_id
    assert after.acknowledged == before.acknowledged
    assert after.latched == before.latched
    assert (after.shelving, after.muted_until_wall) == (before.shelving, before.muted_until_wall)
    # The same alarm is not raised a second time.
    assert not RISING.intersection(event.kind for event in again.events)
    if before.level is Level.ALARM:
        again.windows(LOUD, LOUD, LOUD)
        assert "raised" not in again.kinds() or before.shelving is not Shelving.UNSHELVED


def test_alert_then_alarm_then_down_again():
    story = Story()
    story.windows(MIDDLE, MIDDLE, MIDDLE)
    assert story.kinds() == ["alert"]
    story.windows(LOUD, LOUD)
    assert story.kinds() == ["alert", "raised"]
    story.windows(MIDDLE, MIDDLE)
    assert story.life.status.level is Level.ALERT
    story.windows(QUIET, QUIET)
    assert story.kinds() == ["alert", "raised", "lowered", "cleared"]
    assert len({event.alarm_id for event in story.events}) == 1
    changed = [d.score.window.index for d in story.decisions if d.changed]
    assert changed == [4, 6]  # raised and no alarm any more; an alert is neither


def test_a_latched_alarm_waits_for_acknowledgement():
    story = Story(latch=True, alert=None)
    story.windows(LOUD, LOUD, *[QUIET] * 20)
    assert story.life.status.level is Level.ALARM
    assert story.life.status.latched
    assert story.do("acknowledge", operator="ann") == ["acknowledged", "cleared"]
    assert story.events[-2].operator == "ann"
    story.windows(LOUD, LOUD)
    story.do("acknowledge")
    assert story.life.status.level is Level.ALARM
    story.windows(QUIET, QUIET)
    assert story.life.status.level is Level.NORMAL


def test_a_shelved_alarm_comes_back_when_its_time_is_up():
    story = Story(alert=None)
    assert story.do("shelve", seconds=100.0) == ["shelved"]
    story.windows(LOUD, LOUD, QUIET, QUIET, LOUD, LOUD)
    assert story.kinds() == ["shelved"]
    assert story.life.status.level is Level.ALARM
    assert story.wait(50.0) == []
    assert story.wait(50.0) == ["unshelved", "raised"]
    assert story.wait(500.0) == []


def test_one_shot_lasts_as_long_as_the_alarm():
    story = Story(alert=None, realarm_seconds=2.0)
    with pytest.raises(CommandError, match="no alarm"):
        story.do("shelve")
    story.windows(LOUD, LOUD)
    story.do("shelve")
    story.windows(*[LOUD] * 10)
    assert story.kinds() == ["raised", "shelved"]
    story.windows(QUIET, QUIET)
    assert story.kinds() == ["raised", "shelved", "cleared", "unshelved"]
    story.windows(LOUD, LOUD)
    assert story.kinds()[-1] == "raised"


def test_reminders_until_acknowledged_but_not_while_muted():
    story = Story(alert=None, realarm_seconds=60.0, realarm_acknowledged_seconds=None)
    story.windows(LOUD, LOUD)
    assert [story.wait(30.0) for _ in range(4)] == [[], ["realarm"], [], ["realarm"]]
    story.do("mute", seconds=100.0)
    assert story.wait(99.0) == []
    assert story.wait(1.0) == ["unmuted"]
    assert story.wait(60.0) == ["realarm"]
    story.do("acknowledge")
    assert story.wait(1e6) == []


def test_what_is_heard_while_people_work_on_the_machine_counts_for_nothing():
    story = Story(alert=None)
    story.window(LOUD)
    story.do("mute", seconds=10.0)
    story.windows(*[LOUD] * 9)
    story.wait(1.0)
    story.window(LOUD)
    assert story.kinds() == ["muted", "unmuted"]
    story.window(LOUD)
    assert story.kinds()[-1] == "raised"
    story.do("mute", seconds=100.0)
    story.windows(*[QUIET] * 9)
    assert story.life.status.level is Level.ALARM
    assert story.do("unmute") == ["unmuted"]
    story.windows(QUIET, QUIET)
    assert story.kinds()[-1] == "cleared"


def test_a_risen_alert_wants_to_be_acknowledged_anew():
    story = Story()
    story.windows(MIDDLE, MIDDLE, MIDDLE)
    story.do("acknowledge")
    assert story.life.status.acknowledged
    story.windows(LOUD, LOUD)
    assert not story.life.status.acknowledged


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 700_000.0])
def test_shelving_for_no_sensible_time_is_refused(seconds):
    story = Story()
    with pytest.raises(CommandError, match="shelve_max_seconds"):
        story.do("shelve", seconds=seconds)
    assert story.life.status.shelving is Shelving.UNSHELVED
    assert story.life.take() == ()


def test_another_alarm_than_the_present_is_not_acknowledged():
    story = Story(alert=None)
    story.windows(LOUD, LOUD)
    with pytest.raises(CommandError, match="not the present one"):
        story.do("acknowledge", alarm_id="stale")
    assert not story.life.status.acknowledged
    story.do("acknowledge", alarm_id="a0")
    assert story.life.status.acknowledged


def test_every_event_of_an_alarm_says_where_its_sound_is_kept():
    """From the window that raised it to its end, whoever asked, and across a restart."""
    told = []
    decider = Story(latch=True, realarm_seconds=5).decider
    keeper = AlarmService(decider, told.append)
    clock = itertools.count()

    def hear(value, kept=""):
        now = time.monotonic() + next(clock)
        window = Window(SAMPLES, 8000, 0, now, 1000.0 + now)
        return keeper.decide(Score(window, value), MachineState.RUNNING, lambda _: kept)

    for value in (0.6, 0.6, 0.6):
        hear(value)  # an alert: no sound is kept yet
    hear(2.0)
    hear(2.0, "evidence/pump/a0")
    keeper.acknowledge()
    keeper.shelve(100.0)
    keeper.shelve(0)
    again = []
    resumed = Story(latch=True, memory=decider.memory()).decider
    keeper = AlarmService(resumed, again.append)
    keeper.mute(100.0)
    keeper.mute(0)
    for _ in range(2):
        hear(0.6)
    for _ in range(6):
        hear(0.1)
    assert [event.kind.value for event in told] == [
        "alert", "raised", "acknowledged", "shelved", "unshelved",
    ]  # fmt: skip
    assert [event.kind.value for event in again] == ["muted", "unmuted", "lowered", "cleared"]
    assert [event.evidence for event in [*told, *again]] == [""] + ["evidence/pump/a0"] * 8
    assert decider.memory().evidence
    assert resumed.memory().evidence == ""
    keeper.shelve(100.0)
    assert again[-1].evidence == ""  # of no alarm


def test_an_event_told_after_a_crash_says_where_the_sound_is_kept():
    story = Story()
    story.windows(2.0, 2.0)
    story.life.keep("evidence/pump/a0")
    (event,) = story.decider.memory().untold
    assert (event.kind.value, event.evidence) == ("raised", "evidence/pump/a0")


def test_a_latched_alarm_can_be_acknowledged_after_a_restart():
    story = Story(latch=True, alert=None)
    story.windows(LOUD, LOUD, QUIET, QUIET)
    again = Story(memory=story.decider.memory(), latch=True, alert=None)
    assert again.life.status.latched
    assert again.do("acknowledge") == ["acknowledged", "cleared"]


def test_old_evidence_does_not_count_across_a_gap():
    story = Story(alert=None, forget_seconds=30.0)
    story.window(LOUD)
    story.wait(40.0)
    story.windows(LOUD)
    assert story.life.status.level is Level.NORMAL
    story.window(LOUD)
    assert story.life.status.level is Level.ALARM
    # Nor does one quiet window before a gap help to clear.
    story.window(QUIET)
    story.wait(40.0)
    story.window(QUIET)
    assert story.life.status.level is Level.ALARM
    story.window(QUIET)
    assert story.life.status.level is Level.NORMAL


def test_idle_windows_count_neither_way_unless_ignored():
    story = Story(alert=None)
    assert not story.window(LOUD, MachineState.IDLE).exceeded
    story.window(LOUD, MachineState.IDLE)
    assert story.life.status.level is Level.NORMAL
    story.windows(LOUD, LOUD)
    for _ in range(20):
        story.window(QUIET, MachineState.IDLE)
    assert story.life.status.level is Level.ALARM
    ignoring = Story(alert=None, idle="ignore")
    ignoring.window(LOUD, MachineState.IDLE)
    ignoring.window(LOUD, MachineState.IDLE)
    assert ignoring.life.status.level is Level.ALARM


def test_a_machine_that_stops_and_starts_raises_nothing():
    """Windows of 4 s, one a second: three lie across the stop, three across the start."""
    long = np.zeros(4 * 8000, np.float32)
    story = Story(alert=None, overlap=4.0)
    across = [LOUD] * 3
    for _ in range(5):
        for value in [QUIET] * 8 + across:
            story.window(value, samples=long)
        for _ in range(6):
            story.window(LOUD, MachineState.IDLE, samples=long)
        for value in [*across, LOUD, LOUD]:  # starting up
            story.window(value, samples=long)
    assert story.kinds() == []
    # A fault while it runs is raised a window's length later.
    for _ in range(8):
        story.window(QUIET, samples=long)
    raised = [bool(story.window(LOUD, samples=long).events) for _ in range(10)]
    assert raised.index(True) == 1 + 4
    assert story.events[0].score == LOUD
    # Without the wait, each stop would have raised one.
    hasty = Story(alert=None)
    for value in [QUIET] * 8 + across:
        hasty.window(value, samples=long)
    assert hasty.kinds() == ["raised"]


@pytest.mark.parametrize(("jump", "left"), [(40.0, 60.0), (-1e9, 100.0), (1e9, 0.0)])
def test_shelving_survives_a_restart_whatever_the_clock_does(jump, left):
    story = Story(alert=None)
    story.do("shelve", seconds=100.0)
    memory = AlarmMemory.model_validate_json(story.decider.memory().model_dump_json())
    again = Story(memory=memory, alert=None, start=7.0, wall=story.wall + jump)
    again.wait(0.0)
    again.windows(LOUD, LOUD)  # two seconds
    if left:
        assert again.wait(left - 3.0) == []
        assert again.wait(1.0) == ["unshelved", "raised"]
    else:
        assert again.kinds() == ["unshelved", "raised"]


def test_other_thresholds_keep_the_alarm_and_drop_the_evidence():
    story = Story(alert=None)
    story.windows(LOUD)
    story.decider.use_thresholds(Thresholds(4.0, None, scale_of(4.0, None)))
    story.windows(LOUD)
    assert story.life.status.level is Level.NORMAL
    story.windows(LOUD)
    story.decider.use_thresholds(Thresholds(10.0, None, scale_of(10.0, None)))
    assert story.life.status.level is Level.ALARM
    story.windows(LOUD, LOUD)
    assert story.kinds() == ["raised", "cleared"]


def test_a_change_of_level_that_nobody_answers_is_told_again_each_day():
    story = Story()
    story.window(0.0)
    story.do("level_changed", decibels=6.0)
    story.do("at", monotonic=story.now + 86_300, wall=story.wall + 86_300)
    assert [one.kind for one in story.events] == [EventKind.LEVEL]
    story.life.at(story.now + 86_500, story.wall + 86_500)
    (again,) = story.life.take()
    assert (again.kind, again.level_change_db) == (EventKind.LEVEL, 6.0)
    assert "still 6 dB louder in every band after 1 day" in again.explanation.text
    # After a restart its day begins anew; an answer ends it.
    later = Story(memory=story.life.memory(), wall=story.wall + 86_600)
    later.life.at(0.0, later.wall)
    later.life.at(86_300.0, later.wall + 86_300)
    assert not later.life.take()
    later.life.level_answered(EventKind.LEVEL_BASELINE, 6.0, operator="Ada")
    later.life.take()
    later.life.at(300_000.0, later.wall + 300_000)
    assert not later.life.take()


def test_a_change_of_level_of_a_machine_out_of_view_is_not_told_again():
    story = Story()
    story.window(0.0)
    story.do("level_changed", decibels=6.0)
    story.do("shelve", seconds=400_000.0)
    story.life.take()
    story.life.at(story.now + 90_000, story.wall + 90_000)
    assert not story.life.take()
