"""The commands that arrive over MQTT, field by field: what may be asked, within which bounds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import Field, FiniteFloat

from agent.schema import Strict

Handler: TypeAlias = Callable[[Mapping[str, Any]], Mapping[str, Any]]
"""Carries a command out: its fields -> the answer's `result`; raises AuscultError to refuse it."""

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
    operator: Annotated[str, Field(max_length=200, description="Who asks")] = ""
    comment: Annotated[
        str, Field(max_length=1000, description="Why; told with the event, kept with the recording")
    ] = ""


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
    """What an alarm really was."""

    alarm_id: Annotated[str, Field(min_length=1, max_length=100, description="The alarm meant")]
    verdict: Annotated[
        Literal["normal", "anomalous"],
        Field(description="normal: the machine was well, and its sound may join the memory bank"),
    ]


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


class DriftAccept(Request):
    """Accept the change that a drift warning is about: the machine is well as it sounds now."""

    operator: Annotated[str, Field(min_length=1, max_length=200, description="Who says so")]
    warning_id: Annotated[
        str | None,
        Field(
            min_length=1,
            max_length=100,
            description="The warning meant, which must be the present one; null for the present",
        ),
    ] = None


COMMANDS: Mapping[str, type[Request]] = {
    "ack": Ack,
    "shelve": Shelve,
    "mute": Mute,
    "feedback": Feedback,
    "collect": Collect,
    "reload": Reload,
    "drift_accept": DriftAccept,
}
