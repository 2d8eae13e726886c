"""What is kept of a machine's commissioning: `<state>/state/commission/<machine>.json`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, ValidationError

from agent.core.errors import AuscultError
from agent.core.schema import Strict, explain
from agent.core.storage import write_atomic

log = logging.getLogger(__name__)


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


def load_commission(path: Path) -> CommissionMemory:
    """What an earlier run left; nothing where there is nothing, or it cannot be used."""
    try:
        return CommissionMemory.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return CommissionMemory()
    except OSError as fault:
        log.warning("%s: cannot be read, commissioning begins anew: %s", path, fault)
    except ValidationError as fault:
        aside = path.with_name(path.name + ".damaged")
        log.warning(
            "%s: cannot be used (%s): commissioning begins anew, the file is kept as %s",
            path, explain(fault), aside.name,
        )  # fmt: skip
        try:
            path.replace(aside)
        except OSError as fault_:
            log.warning("%s: cannot be moved aside: %s", path, fault_)
    return CommissionMemory()


def save_commission(path: Path, memory: CommissionMemory) -> bool:
    """Write it; whether the disk has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, memory.model_dump_json().encode() + b"\n")
    except (OSError, AuscultError) as fault:
        log.warning("%s: commissioning is not saved, and will be tried again: %s", path, fault)
        return False
    return True
