"""Whom the agent tells: the `mqtt` and `jsonl` sections of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from agent.core.paths import FilePath
from agent.core.schema import Strict, spelt
from agent.core.tls import TlsConfig


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


class BrokerConfig(Strict):
    """A broker and how to log in to it."""

    host: Annotated[str, Field(min_length=1, description="Host name or address of the broker")]
    port: Annotated[
        int | None,
        Field(gt=0, lt=65536, description="Its port; null for 1883, or 8883 with TLS"),
    ] = None
    prefix: Annotated[
        str,
        Field(
            pattern=spelt(
                r"^[A-Za-z0-9][A-Za-z0-9._-]*(/[A-Za-z0-9._-]+)*$",
                "letters, digits, '.', '_' and '-', a letter or digit first, with single '/' "
                "between levels",
            ),
            description="First level(s) of every topic, the same for devices and plant",
        ),
    ] = "auscult"
    username: Annotated[str | None, Field(min_length=1, description="User name")] = None
    password_file: Annotated[
        FilePath | None,
        Field(
            description="File with the password on its first line; never in this file. A systemd "
            "credential is `$CREDENTIALS_DIRECTORY/NAME`"
        ),
    ] = None
    tls: Annotated[TlsConfig | None, Field(description="Encryption; null for none")] = None
    keepalive_seconds: Annotated[
        int,
        Field(ge=5, le=3600, description="A lost connection is noticed after about this, seconds"),
    ] = 30

    @model_validator(mode="after")
    def _user(self) -> BrokerConfig:
        if self.password_file is not None and self.username is None:
            raise ValueError("password_file needs a username beside it")
        return self

    @property
    def broker_port(self) -> int:
        """The port to connect to."""
        return self.port or (1883 if self.tls is None else 8883)


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
