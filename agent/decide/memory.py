"""What of an alarm must outlive the process."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, FiniteFloat

from agent.core.reasons import Reason, UnusualBand
from agent.core.records import AlarmEvent, Level, Shelving
from agent.core.scale import Zone
from agent.core.schema import Strict

SCHEMA_VERSION = 1


class AlarmSeries(Strict):
    """Alarms that follow one another: how many, since when, and what was told of them."""

    count: Annotated[int, Field(ge=0, description="Times the machine left normal")] = 0
    since_wall: Annotated[
        FiniteFloat, Field(description="When it first did, seconds since the epoch")
    ] = 0.0
    last_wall: Annotated[
        FiniteFloat, Field(description="When the latest alarm was last there, likewise")
    ] = 0.0
    zone: Annotated[Zone | None, Field(description="Worst severity zone told of them")] = None
    bands: Annotated[
        tuple[UnusualBand, ...], Field(description="Bands that were told to stand out")
    ] = ()


class AlarmMemory(Strict):
    """A machine's alarm between two runs of the agent.

    Monotonic time means nothing to the next run, so what runs out is kept as the time left when
    this was taken, and that moment by the clock: a clock that jumps can neither prolong a shelving
    beyond what was left nor make it endless.
    """

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION, description="Schema")] = (
        SCHEMA_VERSION
    )
    saved_wall: Annotated[
        FiniteFloat, Field(description="When this was taken, seconds since the epoch")
    ] = 0.0
    level: Annotated[Level, Field(description="Severity")] = Level.NORMAL
    announced: Annotated[
        Level, Field(description="Severity that was told last; differs while shelved")
    ] = Level.NORMAL
    since_wall: Annotated[
        FiniteFloat | None, Field(description="When the level began, seconds since the epoch")
    ] = None
    alarm_id: Annotated[str, Field(description="Id of the present alarm; empty when normal")] = ""
    acknowledged: Annotated[bool, Field(description="An operator has seen it")] = True
    alarm_active: Annotated[bool, Field(description="The condition for an alarm holds")] = False
    alert_active: Annotated[bool, Field(description="The condition for an alert holds")] = False
    lasting_active: Annotated[
        bool, Field(description="The condition for an alarm of weak sound that stays holds")
    ] = False
    strong_active: Annotated[
        bool, Field(description="The condition for an alarm of strong sound holds")
    ] = False
    steady_active: Annotated[
        bool, Field(description="The condition for an alert of still weaker sound that stays holds")
    ] = False
    shelving: Annotated[Shelving, Field(description="Whether it is out of view")] = (
        Shelving.UNSHELVED
    )
    shelved_seconds: Annotated[
        FiniteFloat, Field(ge=0, description="Time left of the shelving, seconds")
    ] = 0.0
    muted: Annotated[bool, Field(description="The machine is being worked on")] = False
    muted_seconds: Annotated[FiniteFloat, Field(ge=0, description="Time left of that, seconds")] = (
        0.0
    )
    planned: Annotated[
        str, Field(description="Planned maintenance that is under way; empty for none")
    ] = ""
    planned_end: Annotated[
        FiniteFloat, Field(description="When that ends, seconds since the epoch")
    ] = 0.0
    planned_ended: Annotated[
        FiniteFloat,
        Field(description="End of the planned maintenance that an operator ended early, likewise"),
    ] = 0.0
    reason: Annotated[
        Reason | None, Field(description="What the present alarm is about; null when not known")
    ] = None
    told_zone: Annotated[Zone | None, Field(description="Worst zone told of that alarm")] = None
    told_bands: Annotated[
        tuple[UnusualBand, ...], Field(description="Bands told of that alarm")
    ] = ()
    spoke_wall: Annotated[
        FiniteFloat | None,
        Field(description="When it was told or acknowledged last, seconds since the epoch"),
    ] = None
    series: Annotated[AlarmSeries, Field(description="The alarms that this one is one of")] = (
        AlarmSeries()
    )
    level_change: Annotated[
        FiniteFloat | None,
        Field(description="Lasting change of level that was told, dB; null without one"),
    ] = None
    evidence: Annotated[
        str, Field(description="Where the sound of the present alarm is kept; empty when it isn't")
    ] = ""
    told: Annotated[int, Field(ge=0, description="Events of the present alarm so far")] = 0
    raised: Annotated[int, Field(ge=0, description="Alarms raised, ever")] = 0
    untold: Annotated[
        tuple[AlarmEvent, ...],
        Field(description="Events decided on that the publishers may not have been given yet"),
    ] = ()

    @property
    def condition(self) -> Level:
        """What the evidence said last."""
        if self.alarm_active or self.lasting_active or self.strong_active:
            return Level.ALARM
        return Level.ALERT if self.alert_active or self.steady_active else Level.NORMAL
