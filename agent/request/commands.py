"""The commands that arrive over MQTT, field by field: what may be asked, within which bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, FiniteFloat, model_validator

from agent.schema import Strict

Handler: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Carries a command out: its fields -> the answer's `result`; raises AuscultError to refuse it."""

# What is remembered with an alarm or a recording, and shown to people.
_Words = Annotated[str, Field(max_length=1000)]
_DAY = 86_400


class Request(Strict):
    """What every command has."""

    transaction: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9._:-]{1,64}$",
            description="Chosen by who asks, anew for every command: the answer bears it, and a "
            "command that arrives again with the same one is not carried out again",
        ),
    ]
    machine: Annotated[str, Field(min_length=1, max_length=200, description="The machine")]
    operator: Annotated[_Words, Field(description="Who asks")] = ""
    comment: Annotated[_Words, Field(description="Why, in the operator's words")] = ""


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
    """Take the machine's alarm off the list for a time; it goes on being judged."""

    seconds: Annotated[
        FiniteFloat,
        Field(ge=0, le=30 * _DAY, description="For how long, seconds; 0 ends it now"),
    ]


class Mute(Request):
    """Raise no alarm for a time, while the machine is being worked on."""

    seconds: Annotated[
        FiniteFloat, Field(ge=0, le=7 * _DAY, description="For how long, seconds; 0 ends it now")
    ]


class Feedback(Request):
    """What an alarm or a window really was."""

    verdict: Annotated[
        Literal["normal", "anomalous"],
        Field(description="normal: the sound was healthy, and is proposed for the memory bank"),
    ]
    alarm_id: Annotated[
        str | None,
        Field(min_length=1, max_length=100, description="The alarm meant; null with `window`"),
    ] = None
    window: Annotated[
        int | None, Field(ge=0, description="Index of the window meant; null with `alarm_id`")
    ] = None

    @model_validator(mode="after")
    def _one(self) -> Feedback:
        if (self.alarm_id is None) == (self.window is None):
            raise ValueError("name either alarm_id or window")
        return self


class Collect(Request):
    """Record on the device."""

    label: Annotated[
        Literal["healthy", "idle", "noise"],
        Field(description="What is heard: the machine in order, standing still, or others alone"),
    ]
    seconds: Annotated[
        FiniteFloat, Field(gt=0, le=_DAY, description="Length of the recording, seconds")
    ]


class Reload(Request):
    """Open the machine's bundle anew, and judge with it from now on."""


COMMANDS: Mapping[str, type[Request]] = {
    "ack": Ack,
    "shelve": Shelve,
    "mute": Mute,
    "feedback": Feedback,
    "collect": Collect,
    "reload": Reload,
}
