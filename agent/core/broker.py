"""An MQTT broker and how to log in to it, as device and plant configure it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from agent.core.paths import FilePath
from agent.core.schema import Strict, spelt
from agent.core.tls import TlsConfig


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
