"""What is kept of a machine's commissioning: `<state>/state/commission/<machine>.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat

from agent.core.schema import Strict
from agent.core.state_file import StateFile


class WouldBe(Strict):
    """What would have been an alarm."""

    alarm_id: Annotated[str, Field(description="Its id; its evidence has the same")]
    wall: Annotated[FiniteFloat, Field(description="When, seconds since the epoch")]
    score: Annotated[
        FiniteFloat | None, Field(description="Of the window that raised it, 1 is the threshold")
    ]


class Heard(Strict):
    """The score of some running sound."""

    block: Annotated[int, Field(ge=0, description="Which ten minutes of running it is of")]
    score: Annotated[FiniteFloat, Field(description="Raw score")]
    alarm_id: Annotated[str, Field(description="Of the would-be alarm it is of; empty: none")] = ""


class CommissionMemory(Strict):
    """One machine's commissioning."""

    began_wall: Annotated[
        FiniteFloat | None, Field(description="When it began, seconds since the epoch")
    ] = None
    heard_seconds: Annotated[FiniteFloat, Field(ge=0, description="Running sound judged")] = 0.0
    digest: Annotated[str, Field(description="`digest` of the bundle that scored `heard`")] = ""
    heard: Annotated[tuple[Heard, ...], Field(description="Scores, a window's length apart")] = ()
    microphone: Annotated[
        str, Field(description="What was found of the microphone, in words; empty: not yet")
    ] = ""
    alarms: Annotated[tuple[WouldBe, ...], Field(description="What would have been alarms")] = ()
    live_wall: Annotated[
        FiniteFloat | None, Field(description="When it went live; null while it listens in shadow")
    ] = None
    threshold: Annotated[
        FiniteFloat | None,
        Field(description="Raw threshold found here; null: the bundle's own"),
    ] = None
    how: Annotated[str, Field(description="How it went live, in words")] = ""


def commission_file(state: Path, machine: str) -> Path:
    """Where it is kept."""
    return state / "state" / "commission" / f"{machine}.json"


def commission_state(path: Path) -> StateFile[CommissionMemory]:
    """The file, as something to load and save.

    Args:
        path: From `commission_file`.
    """
    return StateFile(
        path,
        CommissionMemory,
        what="commissioning's state",
        otherwise="commissioning begins anew",
    )
