"""Scores become levels: normal, alert, alarm, each by enough sound above its own threshold."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace

from agent.config.decide import Amounts, DecideConfig
from agent.config.maintenance import Schedule
from agent.core.foreign import ForeignKind, held_words
from agent.core.records import Activity, AlarmEvent, Decision, Level, MachineState, Score, Window
from agent.core.scale import Scale
from agent.decide.elsewhere import ForeignHold
from agent.decide.evidence import Evidence, Heard, Rule
from agent.decide.level import LevelWatch
from agent.decide.log import new_alarm_id
from agent.decide.memory import AlarmMemory
from agent.decide.state_machine import AlarmStateMachine
from agent.decide.thresholds import Steady, Thresholds

# Windows older than this many of the stretches that raise an alarm are no evidence any more.
_FORGET_STRETCHES = 10
_FORGET_AT_LEAST = 60.0
# Strong sound lies so many times as far from the healthy median as the threshold, at least: of 228
# sounds from elsewhere over twelve machines 10 raise then (2 without), and 66 faults of 228 (53).
_STRONG = 2.0
_STRONG_OF = 1.5


class AlarmDecider:
    """The alarm of one machine. Not thread-safe: its owner lets one call in at a time.

    An invalid window, one of an idle machine unless that is ignored, and one of a machine that is
    being worked on say nothing: they neither raise nor clear. One that would be healthy but for its
    level counts as healthy; that it lasts is told once, apart from the alarm.

    A window that lies across a start or stop of the machine sounds like neither. Where that is
    followed by half seconds (`Window.activity`), windows that count hold nothing of it. Where
    idleness can be told of whole windows alone, a window counts only once no idle one overlaps it,
    which a window's length later is known: that much later an alarm comes. What the machine did
    before the first window isn't known, so that the first count as though it had just been idle.

    Args:
        config: Counts and habits.
        threshold: A window scoring above this is anomalous (see `agent.decide.thresholds`).
        alert_threshold: The same for an alert; None for no alerts.
        lasting: How much sound above the alert's threshold makes an alarm of it; None for none.
        steady: When weaker sound that stays for minutes is an alert; None for never.
        scale: What scores are told on; None where nobody is told.
        hop_seconds: Step between windows: what the first of them is worth, and how long evidence
            that counts windows is kept.
        overlap_seconds: Length of a window where idle ones can be told and are suppressed, else 0.
        memory: Where an earlier run stopped; None begins at normal.
        new_id: Makes the id of a new alarm.
        schedule: Planned maintenance; None for none.
        ignore: Sounds from elsewhere that hold a window back: it is no evidence.
    """

    def __init__(
        self,
        config: DecideConfig,
        threshold: float,
        *,
        alert_threshold: float | None = None,
        lasting: Amounts | None = None,
        steady: Steady | None = None,
        scale: Scale | None = None,
        hop_seconds: float = 1.0,
        overlap_seconds: float = 0.0,
        memory: AlarmMemory | None = None,
        new_id: Callable[[], str] = new_alarm_id,
        schedule: Schedule | None = None,
        ignore: Collection[ForeignKind] = (),
    ) -> None:
        self._config = config
        self._elsewhere = ForeignHold(ignore)
        self._recognised = ForeignHold(tuple(ForeignKind))
        self._hop = hop_seconds
        self._overlap = overlap_seconds
        self._scale = scale
        self._waiting: deque[Heard] = deque()
        self._idle_end: float | None = None
        self._counted: Heard | None = None  # the latest window that was counted
        self.life = AlarmStateMachine(config, memory, new_id, schedule)
        self._level = LevelWatch(None if memory is None else memory.level_change, hop_seconds)
        self._set(threshold, alert_threshold, lasting, steady, memory or AlarmMemory())

    @property
    def threshold(self) -> float:
        """A window scoring above this is anomalous."""
        return self._alarm.rule.threshold

    @property
    def alert_threshold(self) -> float | None:
        """A window scoring above this speaks for an alert; None without alerts."""
        return None if self._alert is None else self._alert.rule.threshold

    def memory(self) -> AlarmMemory:
        """All that the next run must know."""
        return self.life.memory().model_copy(
            update={
                "alarm_active": self._alarm.active,
                "alert_active": self._alert is not None and self._alert.active,
                "lasting_active": self._lasting is not None and self._lasting.active,
                "strong_active": self._strong is not None and self._strong.active,
                "steady_active": self._steady is not None and self._steady.active,
            }
        )

    def use_thresholds(self, found: Thresholds, overlap_seconds: float = 0.0) -> None:
        """Judge by others from now on; evidence by the old ones is dropped, the alarm stays."""
        self._overlap, self._scale = overlap_seconds, found.scale
        self._waiting.clear()
        self._set(found.alarm, found.alert, found.lasting, found.steady, self.memory())

    def decide(self, score: Score, state: MachineState = MachineState.RUNNING) -> Decision:
        """Take the next window's score into account.

        Args:
            score: Of the next window; its value is None when the window is invalid.
            state: What the machine does in that window.
        """
        window, value = score.window, score.value
        announced = self.life.announced
        self.life.at(window.end_monotonic, window.end_wall)
        standing = self.life.status.alarm_id
        exceeded, held = False, ""
        if self._idle_end is None:
            self._idle_end = window.monotonic if self._overlap else float("-inf")
        if self.life.muted:
            # What is heard while people work on the machine must not help to raise anything later.
            self._forget()
        elif value is not None and state is MachineState.IDLE and self._config.idle == "suppress":
            self._waiting.clear()
            if window.activity is not Activity.STILL or self._overlap:
                self._idle_end = window.end_monotonic
        elif state is MachineState.CHANGING and self._config.idle == "suppress":
            pass  # starting up or stopping, it sounds like nothing that was learnt
        elif value is not None and self._settling(window):
            state = MachineState.CHANGING
        elif value is not None and (ignored := self._elsewhere.holds(score, self._lowest)):
            held = held_words(ignored)
        elif value is not None:
            known = bool(self._recognised.holds(score, self._lowest))
            heard = Heard.of(
                window, value, score.p_value, score.level, varies=score.varies, recognised=known,
                level_dbfs=score.level_dbfs,
            )  # fmt: skip
            exceeded = heard.counted > self.threshold
            self._waiting.append(heard)
            self._count(heard.monotonic)
        status = self.life.status
        return Decision(
            score=score,
            threshold=self.threshold,
            exceeded=exceeded,
            level=status.level,
            changed=(announced is Level.ALARM) != (self.life.announced is Level.ALARM),
            since_wall=status.since_wall,
            # The window that clears an alarm still bears its id.
            alarm_id=status.alarm_id or standing,
            state=MachineState.UNKNOWN if value is None else state,
            alert_threshold=self.alert_threshold,
            status=status,
            events=self.life.take(),
            held=held,
            scale=self._scale,
        )

    def tick(self, monotonic: float, wall: float) -> tuple[AlarmEvent, ...]:
        """Let time pass without a window: shelvings end, reminders fall due.

        Args:
            monotonic: Now, seconds.
            wall: Now, seconds since the epoch.
        """
        self.life.at(monotonic, wall)
        return self.life.take()

    @property
    def _lowest(self) -> float:
        """From here on a window speaks for something."""
        alert = self.alert_threshold
        return self.threshold if alert is None else min(alert, self.threshold)

    def _settling(self, window: Window) -> bool:
        """Whether it holds some of the machine's standing still or starting up."""
        assert self._idle_end is not None
        settle = self._config.idle_settle_seconds
        settle = self._overlap if settle is None or window.activity is not None else settle
        return window.monotonic < self._idle_end + settle

    def _count(self, now: float) -> None:
        """Take in the windows that no idle one can overlap any more."""
        # Half a hop for the rounding of times.
        while self._waiting and self._waiting[0].monotonic <= now - self._overlap + self._hop / 2:
            heard = self._waiting.popleft()
            # One that the microphone's failure kept waiting may be too old by now.
            waited = now - self._overlap - heard.monotonic
            before, seconds = self._counted, self._new_sound(heard)
            if before is not None and heard.called and seconds > heard.called:
                # What called for it is in its latest sound; the rest was as before.
                between = heard.monotonic - heard.called
                self._observe(before, between, seconds - heard.called, waited)
                seconds = heard.called
            self._observe(heard, heard.monotonic, seconds, waited)
            self.life.settle(self._condition(), heard, self.threshold, self._scale)
            if heard.value <= self._lowest:
                # A level that is strange by the measure of minutes alone is none to be told.
                heard = replace(heard, level=None)
            quiet = heard.level is None and heard.value <= self.threshold
            if self._level.observe(heard, quiet=quiet):
                self.life.level_changed(self._level.standing)

    def _observe(self, heard: Heard, now: float, seconds: float, waited: float) -> None:
        """Count so much sound, up to a moment, for what a window says that waited so long."""
        for evidence, value in (
            (self._alarm, heard.counted),
            (self._strong, heard.counted if self._strongly else heard.strongly_counted),
            (self._alert, heard.weakly_counted),
            (self._lasting, heard.weakly_counted),
            (self._steady, heard.weakly_counted),
        ):
            if evidence is not None and waited <= evidence.rule.forget_seconds:
                evidence.observe(value, now, seconds, varies=heard.varies, reach=heard.seconds)

    def level_answered(self) -> None:
        """An operator has said what a change of level is: it stands no more."""
        self._level.answered()
        self._waiting.clear()

    def _new_sound(self, heard: Heard) -> float:
        """Seconds of a window that were in none counted before; one after a pause is new whole.

        What is heard before and after the machine stood still has lasted, not passed.
        """
        before, self._counted = self._counted, heard
        if before is None:
            return min(self._hop, heard.seconds)
        running = max(heard.monotonic - before.monotonic, 0.0)
        stood_still = max(heard.ended - before.ended - running, 0.0)
        return min(running, heard.seconds) + min(stood_still, self._config.pause_seconds)

    def _forget(self) -> None:
        self._waiting.clear()
        self._counted = None
        self._elsewhere.forget()
        self._recognised.forget()
        self._level.forget()
        for evidence in (self._alarm, self._strong, self._alert, self._lasting, self._steady):
            if evidence is not None:
                evidence.forget()

    @property
    def weak(self) -> str:
        """What an alarm stands on, in words, where that is weak sound that stays; else empty."""
        lasting = self._lasting
        if lasting is None or not lasting.active or self._alarm.active or self._strongly:
            return ""
        rule = lasting.rule
        return (
            f"weak, but above the alert's threshold{self._told(rule)} for {rule.raise_after:g} of "
            f"{rule.within:g} s"
        )

    @property
    def stays(self) -> str:
        """What an alert stands on, in words, where that is sound too weak for one that stays."""
        steady = self._steady
        if steady is None or not steady.active or (self._alert is not None and self._alert.active):
            return ""
        rule = steady.rule
        return (
            f"weak, but higher than healthy sound stays{self._told(rule)} for "
            f"{rule.raise_after / 60:.2g} of {rule.within / 60:.2g} minutes"
        )

    def _told(self, rule: Rule) -> str:
        """A rule's threshold on the scale, in brackets; empty where nobody is told of scores."""
        return "" if self._scale is None else f" ({self._scale.of(rule.threshold):.2g})"

    @property
    def _strongly(self) -> bool:
        """Whether strong sound has raised the alarm, and nothing has cleared it."""
        return self._strong is not None and self._strong.active

    def _condition(self) -> Level:
        if (
            self._alarm.active
            or self._strongly
            or (self._lasting is not None and self._lasting.active)
        ):
            return Level.ALARM
        weak = (self._alert, self._steady)
        return Level.ALERT if any(one and one.active for one in weak) else Level.NORMAL

    def _set(
        self,
        alarm: float,
        alert: float | None,
        lasting: Amounts | None,
        steady: Steady | None,
        memory: AlarmMemory,
    ) -> None:
        config = self._config
        self._alarm = Evidence(self._rule(alarm, config.amounts), active=memory.alarm_active)
        self._strong = self._strong_evidence(alarm, active=memory.strong_active)
        self._alert: Evidence | None = None
        self._lasting: Evidence | None = None
        if alert is not None and lasting is not None:
            rule = self._rule(min(alert, alarm), lasting)
            self._lasting = Evidence(rule, active=memory.lasting_active)
        if alert is not None and config.alert_amounts is not None:
            # Above the alarm's, an alert would never come first.
            rule = self._rule(min(alert, alarm), config.alert_amounts)
            self._alert = Evidence(rule, active=memory.alert_active)
        self._steady: Evidence | None = None
        if steady is not None:
            rule = self._rule(min(steady.threshold, alarm), steady.amounts)
            self._steady = Evidence(rule, active=memory.steady_active)

    def _strong_evidence(self, alarm: float, *, active: bool) -> Evidence | None:
        """Evidence for a strong fault, which is told sooner; None without a scale."""
        amounts, seconds, scale = self._config.amounts, self._config.strong_seconds, self._scale
        if seconds is None or scale is None or amounts.in_windows or seconds >= amounts.raise_after:
            return None
        rule = self._rule(alarm, Amounts(seconds, _STRONG_OF * seconds, amounts.clear_after))
        strong = max(scale.severe, scale.median + _STRONG * (alarm - scale.median))
        # It is over when the alarm would be: what falls below this alone is still a fault.
        return Evidence(replace(rule, threshold=strong), active=active)

    def _rule(self, threshold: float, amounts: Amounts) -> Rule:
        config = self._config
        stretch = amounts.within * (self._hop if amounts.in_windows else 1.0)
        forget = max(_FORGET_AT_LEAST, _FORGET_STRETCHES * stretch)
        return Rule(
            threshold=threshold,
            # By its size: a normalised score, and with it the threshold, may be negative.
            clear_below=threshold - config.hysteresis * abs(threshold),
            raise_after=amounts.raise_after,
            within=amounts.within,
            clear_after=amounts.clear_after,
            forget_seconds=forget if config.forget_seconds is None else config.forget_seconds,
            in_windows=amounts.in_windows,
            passing_after=amounts.passing_after,
            passing_within=amounts.passing_within,
        )
