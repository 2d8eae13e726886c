"""Whom the agent tells: the `mqtt` and `jsonl` sections of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field

from agent.core.broker import BrokerConfig
from agent.core.paths import FilePath
from agent.core.schema import Strict, spelt


class HomeAssistantConfig(Strict):
    """Whether Home Assistant is to find the device by itself."""

    enabled: Annotated[
        bool, Field(description="Announce it; set back to false, it is removed there again")
    ] = False
    discovery_prefix: Annotated[
        str,
        Field(
            pattern=spelt(
                r"^[A-Za-z0-9._-]+(/[A-Za-z0-9._-]+)*$",
                "letters, digits, '.', '_' and '-', with single '/' between levels",
            ),
            description="First level of Home Assistant's discovery topics",
        ),
    ] = "homeassistant"
    page_url: Annotated[
        str | None,
        Field(
            pattern=spelt(r"^https?://\S+$", "an address that begins with http:// or https://"),
            description="Address at which people reach this device's page, which Home Assistant "
            "links to from its devices; null for no link",
        ),
    ] = None
    pause_minutes: Annotated[
        float,
        Field(
            gt=0,
            le=1440,
            description="How long its switches *shelve* and *mute* last, minutes; at most "
            "`decide.shelve_max_seconds` of each machine",
        ),
    ] = 60.0


class MqttConfig(BrokerConfig):
    """The broker that scores and alarms are published to."""

    client_id: Annotated[
        str | None,
        Field(min_length=1, description="Client identifier; null for `auscult-<device>`"),
    ] = None
    version: Annotated[
        Literal["auto", "5", "3.1.1"],
        Field(description="Version of MQTT; auto tries 5, then 3.1.1, at each connection"),
    ] = "auto"
    acknowledge_seconds: Annotated[
        float,
        Field(
            ge=1,
            description="When the broker has not acknowledged a message within this, the "
            "connection is made anew and all that is unacknowledged sent again, seconds",
        ),
    ] = 30.0
    reconnect_max_seconds: Annotated[
        float, Field(ge=1, description="Longest wait between attempts to connect, seconds")
    ] = 60.0
    session_expiry_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=31_536_000,
            description="The broker keeps commands for us while we are away for at most this "
            "(MQTT 5), seconds",
        ),
    ] = 86_400
    score_expiry_seconds: Annotated[
        int, Field(ge=1, description="A score not delivered within this is stale (MQTT 5), seconds")
    ] = 60
    health_seconds: Annotated[
        float, Field(ge=1, description="Step between `health` messages, seconds")
    ] = 60.0
    outbox_max_bytes: Annotated[
        int,
        Field(
            ge=100_000,
            description="Beyond this size on disk delivered alarm events are forgotten, oldest "
            "first; undelivered ones never are",
        ),
    ] = 50_000_000
    home_assistant: Annotated[
        HomeAssistantConfig, Field(description="Home Assistant's discovery of the device")
    ] = HomeAssistantConfig()


class JsonlConfig(Strict):
    """A file that receives every message, one JSON object a line."""

    path: Annotated[FilePath, Field(description="The file; lines are appended")]
    max_bytes: Annotated[
        int,
        Field(ge=10_000, description="Beyond this it becomes `<path>.1` and a new one starts"),
    ] = 100_000_000
    backups: Annotated[int, Field(ge=0, le=99, description="Old files kept")] = 2


def short_jsonl(value: Any) -> Any:
    return {"path": value} if isinstance(value, (str, Path)) else value
