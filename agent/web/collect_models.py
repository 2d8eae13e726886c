"""What the page's API tells of collected sound and of banks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.bundle.report import ReportInfo
from agent.collect.schedule import Schedule
from agent.collect.session import Session
from agent.core.schema import Strict


class CollectedSession(Strict):
    """A stretch of labelled sound on this device."""

    session: Session
    bytes: Annotated[int, Field(ge=0, description="What it takes")]
    recording: Annotated[bool, Field(description="Whether it is being recorded now")]
    in_bank: Annotated[bool, Field(description="Whether a bank or idle gate holds rows of it")]


class Collected(Strict):
    """All collected sound of a machine, the latest first."""

    sessions: Annotated[list[CollectedSession], Field(description="The latest first")]
    schedules: Annotated[list[Schedule], Field(description="Recordings to come")]
    free_bytes: Annotated[int, Field(ge=0, description="Free on the disk")]


class Removed(Strict):
    """A session that is gone."""

    session: Annotated[str, Field(description="Its name")]


class BankVersion(Strict):
    """A version of a machine's bank."""

    version: Annotated[int, Field(ge=0, description="0 is the bundle as exported")]
    created: Annotated[str | None, Field(description="When; null when it cannot be read")]
    threshold: Annotated[float | None, Field(description="Its threshold; null likewise")]
    change: Annotated[str, Field(description="What was done")]
    chosen: Annotated[bool, Field(description="Whether it is the one to use")]


class BankJob(Strict):
    """A change of a bank under way, or the latest one."""

    machine: Annotated[str, Field(description="The machine")]
    doing: Annotated[str, Field(description="What is being done, or was")]
    state: Annotated[Literal["working", "done", "refused"], Field(description="How it stands")]
    text: Annotated[str, Field(description="What it did, or why it was refused; else empty")]


class PendingAlarm(Strict):
    """An alarm that a person called normal, and that waits to join."""

    alarm_id: Annotated[str, Field(description="The alarm")]
    raised: Annotated[str, Field(description="When, ISO 8601 UTC")]
    by: Annotated[str, Field(description="Who said so")]
    comment: Annotated[str, Field(description="What else they said")]


class Bank(Strict):
    """A machine's bank."""

    machine: Annotated[str, Field(description="The machine")]
    bundle: Annotated[str, Field(description="Its folder, as exported")]
    versions: Annotated[list[BankVersion], Field(description="Ascending")]
    pending: Annotated[list[PendingAlarm], Field(description="The oldest first")]
    job: Annotated[BankJob | None, Field(description="Null before the first")]
    report: Annotated[
        ReportInfo | None,
        Field(description="The published report that its preset follows; null for none"),
    ] = None


class BankAdd(Strict):
    """Sessions and answered alarms that are to join. Give at least one."""

    sessions: Annotated[
        tuple[str, ...], Field(max_length=100, description="Names of collected sessions")
    ] = ()
    alarms: Annotated[
        tuple[str, ...], Field(max_length=100, description="Ids of alarms answered `normal`")
    ] = ()
    force: Annotated[
        tuple[str, ...],
        Field(max_length=100, description="Ids of known alarms that it may silence"),
    ] = ()


class BankUse(Strict):
    """A version to use."""

    version: Annotated[int, Field(ge=0, le=999_999_999, description="0 is as exported")]
