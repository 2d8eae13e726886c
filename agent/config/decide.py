"""When a machine's alarm is raised and cleared: the `decide` section of the configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from pydantic import Field, FiniteFloat, model_validator

from agent.core.schema import Strict

# The counts of windows that the keys of an older configuration leave out.
_RAISE_WINDOWS, _OF_WINDOWS, _CLEAR_WINDOWS = 3, 5, 10
_ALERT_RAISE_WINDOWS, _ALERT_OF_WINDOWS = 20, 30
# Stretches of sound where the configuration does not say: of an alarm, in seconds and as a multiple
# of what must be strange; of weak sound that stays.
_OF_SECONDS, _OF, _ESCALATE_OF = 60.0, 1.5, 1.25
_PAIRS = (("raise_seconds", "raise_windows"), ("of_seconds", "of_windows"))


@dataclass(frozen=True, slots=True)
class Amounts:
    """How much evidence raises and clears a level.

    Attributes:
        raise_after: So much above the threshold...
        within: ...among so much of the latest valid sound raises it.
        clear_after: So much quiet sound in a row clears it.
        in_windows: Windows are counted, however they overlap; else seconds of sound.
        passing_after: Of sound that comes and goes so much raises it...
        passing_within: ...among so much; None where it counts like any other.
    """

    raise_after: float
    within: float
    clear_after: float
    in_windows: bool = False
    passing_after: float = 0.0
    passing_within: float | None = None

    @property
    def words(self) -> str:
        """`45 of 60 s of sound`."""
        what = "windows" if self.in_windows else "s of sound"
        return f"{self.raise_after:g} of {self.within:g} {what}"


def _n_of_m(what: str, raised: float, of: float) -> None:
    if raised > of:
        raise ValueError(f"raise_{what} ({raised:g}) cannot be more than of_{what} ({of:g})")


def _one_kind(model: Strict, pairs: Sequence[tuple[str, str]]) -> None:
    """Seconds of sound or windows are given, not both."""
    given = model.model_fields_set
    for seconds, windows in pairs:
        counts = [name for _, name in pairs if name in given and getattr(model, name) is not None]
        if seconds in given and counts:
            raise ValueError(
                f"give {seconds} or {windows}, not seconds of sound and windows together"
            )


class FalseAlarms(Strict):
    """How many alarms a healthy machine may raise: what a threshold means to its owner."""

    at_most: Annotated[float, Field(gt=0, description="So many alarms of a healthy machine...")] = (
        1.0
    )
    per_days: Annotated[float, Field(gt=0, description="...in so many days of running")] = 30.0

    @property
    def per_second(self) -> float:
        """Alarms a second of sound."""
        return self.at_most / (self.per_days * 86_400.0)

    @property
    def words(self) -> str:
        """`1 false alarm in 30 days`."""
        hours = 24.0 * self.per_days
        time = f"{self.per_days:g} days" if self.per_days != 1 else "a day"
        if hours < 24:
            time = "an hour" if abs(hours - 1) < 1e-6 else f"{hours:.3g} hours"
        return (
            f"at most {self.at_most:g} false {'alarm' if self.at_most == 1 else 'alarms'} in {time}"
        )


class AlertConfig(Strict):
    """The early warning: a lower threshold, and evidence over longer."""

    threshold: Annotated[
        FiniteFloat | None,
        Field(
            description="A window whose raw score is above this speaks for an alert; null to "
            "derive it from the bundle's healthy scores"
        ),
    ] = None
    false_alarms: Annotated[
        FalseAlarms | None,
        Field(
            description="Alerts a healthy machine may give; null for `windows_above`, or where "
            "`decide.false_alarms` is given for four times as many as that"
        ),
    ] = None
    windows_above: Annotated[
        float,
        Field(
            gt=0,
            lt=1,
            description="Share of healthy windows allowed above the alert's threshold, where "
            "neither of the two above says otherwise",
        ),
    ] = 0.05
    raise_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="Seconds of sound above it that raise the alert...")
    ] = 60.0
    of_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="...among so many of the latest valid sound")
    ] = 90.0
    escalate_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="So many seconds above it, of a quarter more (of_seconds at most), make it "
            "an alarm: a weak fault that stays. Only where the alert's threshold is found for a "
            "promise, unless this is given; null never",
        ),
    ] = 64.0
    steady_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="So many seconds, of a quarter more, above a threshold lower still raise "
            "the alert too: a fault that stays and is too weak for either. It is found for the "
            "alarm's promise, and there is none without; null never",
        ),
    ] = 240.0
    raise_windows: Annotated[
        int | None,
        Field(ge=1, description="Count windows in place of seconds: so many (20 if left out)..."),
    ] = None
    of_windows: Annotated[
        int | None, Field(ge=1, description="...among so many of the latest valid ones (or 30)")
    ] = None

    @model_validator(mode="after")
    def _possible(self) -> AlertConfig:
        _one_kind(self, _PAIRS)
        amounts = self.amounts(0.0)
        _n_of_m("windows" if amounts.in_windows else "seconds", amounts.raise_after, amounts.within)
        if self.threshold is not None and self.false_alarms is not None:
            raise ValueError("give threshold or false_alarms, not both")
        asked = "escalate_seconds" in self.model_fields_set
        if asked and self.escalate_seconds is not None and self.escalate_seconds > self.of_seconds:
            raise ValueError(
                f"escalate_seconds ({self.escalate_seconds:g}) cannot be more than of_seconds "
                f"({self.of_seconds:g})"
            )
        return self

    def escalation(self, clear_after: float, *, promised: bool) -> Amounts | None:
        """How much sound above the alert's threshold makes it an alarm; None for none.

        Args:
            clear_after: What clears it, the alarm's.
            promised: The alert's threshold was found for a promise.
        """
        seconds, asked = self.escalate_seconds, "escalate_seconds" in self.model_fields_set
        counted = self.raise_windows is not None or self.of_windows is not None
        if seconds is None or counted or not (promised or asked) or seconds > self.of_seconds:
            return None
        within = min(self.of_seconds, _ESCALATE_OF * seconds)
        return Amounts(
            max(seconds, self.raise_seconds), max(within, self.raise_seconds), clear_after
        )

    def steady(self, clear_after: float) -> Amounts | None:
        """How much weak sound that stays raises the alert; None for none.

        Args:
            clear_after: What clears it at least; so much as the rest of its stretch otherwise.
        """
        seconds = self.steady_seconds
        if seconds is None or self.raise_windows is not None or self.of_windows is not None:
            return None
        rest = (_ESCALATE_OF - 1.0) * seconds
        return Amounts(seconds, seconds + rest, max(clear_after, rest))

    def amounts(self, clear_after: float) -> Amounts:
        """How much evidence raises the alert; what clears it is the alarm's."""
        if self.raise_windows is None and self.of_windows is None:
            return Amounts(self.raise_seconds, self.of_seconds, clear_after)
        raised, of = self.raise_windows, self.of_windows
        raised = _ALERT_RAISE_WINDOWS if raised is None else raised
        return Amounts(
            raised,
            max(raised, _ALERT_OF_WINDOWS) if of is None else of,
            clear_after,
            in_windows=True,
        )


class DecideConfig(Strict):
    """How windows raise and clear the machine's alarm."""

    threshold: Annotated[
        FiniteFloat | None,
        Field(
            description="A window whose raw score (`raw_score`, on the axis of this one bundle) is "
            "above this is anomalous; null for the bundle's own. People see it as 1.0"
        ),
    ] = None
    false_alarms: Annotated[
        FalseAlarms | None,
        Field(
            description="Find the threshold from the bundle's healthy scores so that a healthy "
            "machine raises no more alarms than this; null for the bundle's own"
        ),
    ] = None
    raise_seconds: Annotated[
        FiniteFloat,
        Field(
            gt=0,
            description="Seconds of anomalous sound that raise the alarm, each counted once "
            "however many windows it is in...",
        ),
    ] = 45.0
    of_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="...among so many of the latest valid sound; null for 60, or half as much "
            "again as `raise_seconds` where that is given",
        ),
    ] = None
    pause_seconds: Annotated[
        FiniteFloat,
        Field(
            ge=0,
            description="What is heard again after the machine stood still has not passed: a pause "
            "counts as the sound after it, so many seconds of it at most",
        ),
    ] = 10.0
    strong_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="Strong sound (zone D, and twice as far from healthy sound as the "
            "threshold) raises the alarm after so many seconds of half as many again, where it is "
            "there all the time and nothing from elsewhere is recognised in it; null for never",
        ),
    ] = 20.0
    passing_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="Where what is strange comes and goes within its windows more than healthy "
            "sound does (a vehicle, speech, blows), so many seconds of it raise the alarm; null "
            "counts it like steady sound. Faults that come and go are then found later, or not...",
        ),
    ] = None
    passing_of_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="...among so many of the latest valid sound")
    ] = 90.0
    clear_seconds: Annotated[
        FiniteFloat,
        Field(gt=0, description="Seconds of valid sound in a row, all low enough, that clear it"),
    ] = 30.0
    raise_windows: Annotated[
        int | None,
        Field(
            ge=1,
            description="Count windows in place of seconds of sound, however they overlap: so "
            "many anomalous ones (3 if left out) raise the alarm...",
        ),
    ] = None
    of_windows: Annotated[
        int | None,
        Field(ge=1, description="...among so many of the latest valid ones (5 if left out)"),
    ] = None
    clear_windows: Annotated[
        int | None,
        Field(ge=1, description="...and so many in a row, all low enough, clear it (or 10)"),
    ] = None
    hysteresis: Annotated[
        float,
        Field(
            ge=0,
            lt=1,
            description="To clear, a score must be below the threshold by this share of its size",
        ),
    ] = 0.0
    forget_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="Windows longer ago than this count neither for raising nor for clearing, "
            "so that a long gap parts what lies on either side; null for ten times the stretch "
            "that evidence is gathered over, at least 60",
        ),
    ] = None
    latch: Annotated[
        bool, Field(description="An alarm stands until it is acknowledged, even when quiet again")
    ] = False
    realarm_seconds: Annotated[
        FiniteFloat | None,
        Field(gt=0, description="Remind of an unacknowledged alarm at this interval; null never"),
    ] = None
    realarm_acknowledged_seconds: Annotated[
        FiniteFloat | None,
        Field(
            gt=0,
            description="An acknowledged alarm that still stands after this is told again, and has "
            "to be acknowledged anew (as when its reason changes: other bands, a zone higher), and "
            "a change of level that nobody has answered is told again; null never",
        ),
    ] = 86_400.0
    series_seconds: Annotated[
        FiniteFloat,
        Field(
            gt=0,
            description="Alarms no longer than this apart are of one series: they are counted, and "
            "what is new in one is told",
        ),
    ] = 86_400.0
    shelve_max_seconds: Annotated[
        FiniteFloat, Field(gt=0, description="Longest time an alarm may be shelved or muted for")
    ] = 604_800.0
    idle: Annotated[
        Literal["suppress", "ignore"],
        Field(
            description="While the machine sounds idle (bundles with a gate): suppress, its "
            "windows count neither for nor against an alarm, nor do those that lie across a start "
            "or stop (so an alarm comes a window's length later); ignore, they count as any other"
        ),
    ] = "suppress"
    idle_settle_seconds: Annotated[
        FiniteFloat | None,
        Field(
            ge=0,
            description="After idling, windows that begin within this are not counted: the machine "
            "starts up; null for the length of a window",
        ),
    ] = None
    alert: Annotated[AlertConfig | None, Field(description="Early warning; null for none")] = (
        AlertConfig()
    )

    @model_validator(mode="after")
    def _possible(self) -> DecideConfig:
        _one_kind(self, (*_PAIRS, ("clear_seconds", "clear_windows")))
        amounts = self.amounts
        _n_of_m("windows" if amounts.in_windows else "seconds", amounts.raise_after, amounts.within)
        if self.threshold is not None and self.false_alarms is not None:
            raise ValueError("give threshold or false_alarms, not both")
        return self

    @property
    def amounts(self) -> Amounts:
        """How much evidence raises and clears the alarm."""
        raised, of, clear = self.raise_windows, self.of_windows, self.clear_windows
        if raised is None and of is None and clear is None:
            passing, within = self.passing_seconds, self._of_seconds
            return Amounts(
                self.raise_seconds,
                within,
                self.clear_seconds,
                passing_after=0.0 if passing is None else max(passing, self.raise_seconds),
                passing_within=(None if passing is None else max(self.passing_of_seconds, within)),
            )
        raised = _RAISE_WINDOWS if raised is None else raised
        return Amounts(
            raised,
            max(raised, _OF_WINDOWS) if of is None else of,
            _CLEAR_WINDOWS if clear is None else clear,
            in_windows=True,
        )

    @property
    def _of_seconds(self) -> float:
        if self.of_seconds is not None:
            return self.of_seconds
        given = "raise_seconds" in self.model_fields_set
        return _OF * self.raise_seconds if given else _OF_SECONDS

    @property
    def alert_amounts(self) -> Amounts | None:
        """How much evidence raises and clears an alert; None without alerts."""
        if self.alert is None:
            return None
        found, alarm = self.alert.amounts(0.0), self.amounts
        if found.in_windows == alarm.in_windows:
            return replace(found, clear_after=alarm.clear_after)
        # Of one in seconds and the other in windows, each is cleared in its own measure.
        return replace(
            found, clear_after=_CLEAR_WINDOWS if found.in_windows else self.clear_seconds
        )
