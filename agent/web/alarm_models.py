"""What the page's API tells of alarms."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from agent.core.fields import Limit, OfZone, RawScore, RawThreshold
from agent.core.schema import Strict
from agent.evidence.record import EvidenceRecord, Feedback
from agent.publish.payloads import Alarm


class AlarmSummary(Strict):
    """An alarm, or a window that somebody spoke of."""

    machine: Annotated[str, Field(description="The machine")]
    alarm_id: Annotated[str, Field(description="The alarm")]
    raised: Annotated[str, Field(description="When, ISO 8601 UTC")]
    cleared: Annotated[
        str | None,
        Field(description="When it was cleared; null while it stands, or when that is not known"),
    ]
    score: Annotated[
        float | None,
        Field(description="Of the window that raised it: 0 healthy median, 1.0 the threshold then"),
    ]
    zone: OfZone
    raw_score: RawScore
    threshold: Limit
    raw_threshold: RawThreshold
    evidence: Annotated[bool, Field(description="Whether its sound is kept")]
    asked: Annotated[bool, Field(description="A window that a person spoke of, not an alarm")]
    text: Annotated[str, Field(description="Why, in words; empty when not known")]
    verdict: Annotated[
        str | None, Field(description="What a person said: normal or anomalous; null so far")
    ]
    accepted: Annotated[
        str | None, Field(description="Version of the bank that its windows joined; else null")
    ]
    standing: Annotated[Alarm | None, Field(description="How it stands; null when it is over")]


class AlarmQuery(Strict):
    """Which alarms."""

    machine: Annotated[str | None, Field(description="Of this machine; left out, of all")] = None
    state: Annotated[
        Literal["any", "standing", "unacknowledged", "unanswered", "answered", "over"],
        Field(description="How they stand, or whether a person has answered them"),
    ] = "any"
    since: Annotated[
        float | None,
        Field(ge=0, le=1e11, description="Raised since, seconds since the epoch; left out, ever"),
    ] = None


class AlarmList(Strict):
    """The alarms known on this device, the latest first."""

    alarms: Annotated[list[AlarmSummary], Field(description="At most 500")]
    standing: Annotated[
        int,
        Field(
            ge=0, description="Machines in an alert or alarm that is not shelved, of all of them"
        ),
    ]


class Neighbour(Strict):
    """A healthy window that an alarm was compared with."""

    index: Annotated[int, Field(ge=0, description="Its number here, for its sound and picture")]
    source: Annotated[str, Field(description="Recording it was cut from")]
    start: Annotated[float | None, Field(description="Where in that recording, seconds")]
    distance: Annotated[float | None, Field(description="Of the embeddings; null when not told")]
    here: Annotated[bool, Field(description="Whether it can be heard here: see `played`")]
    played: Annotated[
        Literal["itself", "likest", ""],
        Field(
            description="What is played: the window itself; the likest of the healthy windows that "
            "the bundle carries as sound; empty when nothing of it is on this device"
        ),
    ]
    likest: Annotated[
        str | None, Field(description="Recording that the likest was cut from; else null")
    ]


class AlarmDetail(Strict):
    """All that is known of an alarm."""

    summary: AlarmSummary
    record: Annotated[EvidenceRecord | None, Field(description="Null when none is kept")]
    feedback: Annotated[Feedback | None, Field(description="What a person said; null so far")]
    scores: Annotated[
        list[float | None],
        Field(description="Score of each window of the record, where 1.0 was the threshold"),
    ]
    neighbours: Annotated[list[Neighbour], Field(description="The nearest first")]
    events: Annotated[
        list[dict[str, Any]], Field(description="Its recent events, as on MQTT, in order")
    ]
