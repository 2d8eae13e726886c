"""Who is told of alarms by e-mail, message or webhook: the `notify` section."""

from __future__ import annotations

import re
from datetime import time
from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent.config.time_zone import TimeZone
from agent.core.fields import TIME_OF_DAY
from agent.core.paths import FilePath
from agent.core.schema import Strict, spelt

Occasion = Literal["alert", "alarm", "over", "level", "drift", "microphone", "bundle"]


class QuietHours(Strict):
    """A time of day in which only what is severe is told; the rest waits for its end."""

    begin: Annotated[str, Field(pattern=TIME_OF_DAY, description='From, `"22:00"`')]
    end: Annotated[
        str,
        Field(
            pattern=TIME_OF_DAY, description="Up to, the next day's where it is not after `begin`"
        ),
    ]
    zone: Annotated[
        TimeZone | None,
        Field(description="Time zone, such as Europe/Berlin; null for the device's own"),
    ] = None
    except_zones: Annotated[
        tuple[Literal["A", "B", "C", "D"], ...],
        Field(description="Alarms in these severity zones are told at once all the same"),
    ] = ("D",)

    @model_validator(mode="after")
    def _some(self) -> QuietHours:
        if self.begin == self.end:
            raise ValueError(
                "begin and end are the same: leave quiet_hours out to tell at any time"
            )
        return self

    def hold(self, now: time) -> bool:
        """Whether a time of day lies in them."""
        begin, end = (time.fromisoformat(one) for one in (self.begin, self.end))
        if begin < end:
            return begin <= now < end
        return now >= begin or now < end


class EscalationConfig(Strict):
    """Who else is told when nobody acknowledges an alarm."""

    after_minutes: Annotated[
        float, Field(gt=0, le=10_080, description="How long after it was raised, minutes")
    ]
    urls_file: Annotated[
        FilePath, Field(description="File of their addresses, as `notify.urls_file`")
    ]


class NotifyConfig(Strict):
    """Notifications beside MQTT (docs/guide/notifications.md); needs `auscult[notify]`."""

    urls_file: Annotated[
        FilePath,
        Field(
            description="File with an address a line, as Apprise writes them (`mailtos://...`, "
            "`ntfys://...`, `jsons://...` for a webhook); `#` begins a comment. They hold "
            "passwords: `${CREDENTIALS_DIRECTORY}/notify-urls` for a systemd credential"
        ),
    ]
    occasions: Annotated[
        tuple[Occasion, ...],
        Field(
            min_length=1,
            description="What is told: `alert` and `alarm` (raised, or raised again), `over` (it "
            "is healthy again), `level` (louder or quieter for good, nothing else has changed: no "
            "alarm, and maybe a fault; as before again), `drift` (a warning), `microphone` (unfit "
            "to judge with), `bundle` (refused, missing or rolled back)",
        ),
    ] = ("alarm", "over", "level", "drift", "microphone", "bundle")
    most_per_hour: Annotated[
        int,
        Field(ge=1, le=3600, description="Messages at most; what is more is told in one, later"),
    ] = 12
    quiet_hours: Annotated[
        QuietHours | None, Field(description="When only what is severe is told; null for never")
    ] = None
    escalation: Annotated[
        EscalationConfig | None,
        Field(description="Who else is told of what nobody acknowledges; null for nobody"),
    ] = None
    page_url: Annotated[
        str | None,
        Field(
            pattern=spelt(r"^https?://\S+$", "an address that begins with http:// or https://"),
            description="Address of this device's page, put below each message; null for none",
        ),
    ] = None


def addresses(text: str) -> list[str]:
    """The addresses of a file, without comments and empty lines."""
    lines = (re.sub(r"(^|\s)#.*", "", line).strip() for line in text.splitlines())
    return [line for line in lines if line]
