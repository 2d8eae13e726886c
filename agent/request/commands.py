"""The commands that arrive over MQTT, field by field: what may be asked, within which bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from agent.core.fields import TIME_OF_DAY
from agent.core.schema import Strict, spelt
from agent.core.text import visible

Handler: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Carries a command out: its fields -> the answer's `result`; raises AuscultError to refuse it."""

_DAY = 86_400
_MOST_AGAIN = 10_000
# It is shown at terminals, in logs, lists and messages: what acts there is escaped.
_Words: TypeAlias = Annotated[str, AfterValidator(visible)]


class Request(Strict):
    """What every command has."""

    transaction: Annotated[
        str,
        Field(
            pattern=spelt(
                r"^[A-Za-z0-9._:-]{1,64}$", "1 to 64 letters, digits, '.', '_', ':' or '-'"
            ),
            description="Chosen by who asks, anew for every command: the answer bears it, and a "
            "command that arrives again with the same one is not carried out again",
        ),
    ]
    machine: Annotated[str, Field(min_length=1, max_length=200, description="The machine")]
    operator: Annotated[_Words, Field(max_length=200, description="Who asks")] = ""
    comment: Annotated[
        _Words,
        Field(max_length=1000, description="Why; told with the event, kept with the recording"),
    ] = ""
    token: Annotated[
        str | None,
        Field(
            description="The operators' token (`commands.token_file`), which commands that teach "
            "or manage need over MQTT; it is never answered, kept or logged"
        ),
    ] = None


class Ack(Request):
    """Acknowledge the alarm: somebody has seen it."""

    alarm_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="The alarm meant, which must be the present one; null for the present one",
        ),
    ] = None


class Shelve(Request):
    """Take the machine's alarm out of view for a time; the machine goes on being judged."""

    seconds: Annotated[
        FiniteFloat | None,
        Field(
            ge=0,
            description="For how long, seconds, at most `decide.shelve_max_seconds`; 0 ends it; "
            "null until the present alarm has ended",
        ),
    ]


class Mute(Request):
    """The machine is being worked on: for a time, nothing that is heard counts."""

    seconds: Annotated[
        FiniteFloat,
        Field(
            ge=0,
            description="For how long, seconds, at most `decide.shelve_max_seconds`; 0 ends it now",
        ),
    ]


class Feedback(Request):
    """What an alarm, or one window just heard, really was. Give one of `alarm_id` and `window`."""

    alarm_id: Annotated[
        str | None, Field(min_length=1, max_length=100, description="The alarm meant")
    ] = None
    window: Annotated[
        int | None,
        Field(
            ge=0,
            description="Or the window meant, as `score` numbers it: one of about the last minute",
        ),
    ] = None
    verdict: Annotated[
        Literal["normal", "anomalous"],
        Field(description="normal: the machine was well, and its sound may join the memory bank"),
    ]

    @model_validator(mode="after")
    def _one_meant(self) -> Feedback:
        if (self.alarm_id is None) == (self.window is None):
            raise ValueError("give either alarm_id or window")
        return self


class Collect(Request):
    """Record on the device."""

    label: Annotated[
        Literal["healthy", "idle", "noise"],
        Field(description="What is heard: the machine in order, standing still, or others alone"),
    ]
    seconds: Annotated[
        FiniteFloat, Field(ge=2, le=_DAY, description="Length of the recording, seconds")
    ]
    schedule: Annotated[
        str | None,
        Field(
            pattern=TIME_OF_DAY,
            description="Record every day at this time, HH:MM by this device's clock and zone, "
            "also after a restart; null to record once, now",
        ),
    ] = None
    times: Annotated[
        int | None,
        Field(ge=1, le=3660, description="On how many days, with `schedule`; null for 7"),
    ] = None

    @model_validator(mode="after")
    def _times_of_a_schedule(self) -> Collect:
        if self.times is not None and self.schedule is None:
            raise ValueError("times needs a schedule beside it")
        return self


class CollectCancel(Request):
    """End the recording under way (what was heard is kept), or take back a schedule."""

    schedule: Annotated[
        str | None,
        Field(
            pattern=spelt(r"^[0-9a-f]{6}$", "6 of the characters 0 to 9 and a to f"),
            description="The schedule's name, as the answer to `collect` gave it; null for the "
            "recording under way",
        ),
    ] = None


class Reload(Request):
    """Open the machine's bundle anew, and judge with it from now on."""

    allow_older: Annotated[
        bool,
        Field(
            description="Also one that is older than what was taken up before, or was made for "
            "another machine; what counts from now on is this one"
        ),
    ] = False


class Why(Request):
    """Ask why there was no alarm (or one): what was heard in a stretch, and what held it back."""

    begin: Annotated[FiniteFloat, Field(ge=0, description="From, seconds since the epoch")]
    end: Annotated[
        FiniteFloat | None,
        Field(ge=0, description="Up to, seconds since the epoch; null for now"),
    ] = None

    @model_validator(mode="after")
    def _ordered(self) -> Why:
        if self.end is not None and self.end <= self.begin:
            raise ValueError("end must be after begin")
        return self


class Resend(Request):
    """Have events sent once more that the broker acknowledged and lost: the numbers are missing."""

    first: Annotated[int, Field(ge=1, description="From this `sequence`, of all machines")]
    last: Annotated[int, Field(ge=1, description="Up to this; at most 10,000 at a time")]

    @model_validator(mode="after")
    def _ordered(self) -> Resend:
        if not self.first <= self.last < self.first + _MOST_AGAIN:
            raise ValueError(f"last must be first or up to {_MOST_AGAIN - 1} more")
        return self


class DriftAccept(Request):
    """Accept the change that a drift warning is about: the machine is well as it sounds now."""

    operator: Annotated[_Words, Field(min_length=1, max_length=200, description="Who says so")]
    warning_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="The warning meant, which must be the present one; null for the present",
        ),
    ] = None


class LevelBaseline(Request):
    """The microphone was moved or its gain changed: its level is taken anew, without training."""

    operator: Annotated[_Words, Field(min_length=1, max_length=200, description="Who says so")]
    decibels: Annotated[
        FiniteFloat | None,
        Field(
            ge=-80,
            le=80,
            description="How much louder it hears now than when the bundle was trained, dB; 0 as "
            "loud; null to find that from what is heard now",
        ),
    ] = None
    microphone: Annotated[
        bool,
        Field(
            description="Another microphone hangs there than in training, or a filter before it: "
            "what that does to each band is found from what is heard now, and taken off as well"
        ),
    ] = False

    @model_validator(mode="after")
    def _found_not_given(self) -> LevelBaseline:
        if self.microphone and self.decibels is not None:
            raise ValueError("give decibels or microphone, not both")
        return self


class LevelBaselineUndo(Request):
    """Take back what was said last of the microphone's level."""

    operator: Annotated[
        _Words, Field(min_length=1, max_length=200, description="Who takes it back")
    ]


class Commission(Request):
    """What is to become of a machine that is commissioned, or of what would have been its alarms.

    One would-be alarm is answered by `feedback`, like any other.
    """

    action: Annotated[
        Literal["status", "answer", "live", "again"],
        Field(
            description="status: say how it stands; answer: give all that are not answered the "
            "`verdict`; live: its alarms are told from now on; again: begin anew"
        ),
    ]
    verdict: Annotated[
        Literal["normal", "anomalous"] | None,
        Field(description="Of `answer`: the machine was well, or it was not"),
    ] = None

    @model_validator(mode="after")
    def _verdict_of_an_answer(self) -> Commission:
        if (self.action == "answer") != (self.verdict is not None):
            raise ValueError("give verdict with the action `answer`, and with no other")
        return self


COMMANDS: Mapping[str, type[Request]] = {
    "ack": Ack,
    "shelve": Shelve,
    "mute": Mute,
    "feedback": Feedback,
    "collect": Collect,
    "collect_cancel": CollectCancel,
    "reload": Reload,
    "drift_accept": DriftAccept,
    "level_baseline": LevelBaseline,
    "level_baseline_undo": LevelBaselineUndo,
    "commission": Commission,
    "why": Why,
    "resend": Resend,
}
