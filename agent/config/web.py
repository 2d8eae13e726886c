"""Who may see the device's page: the `web` section of the configuration."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal

from pydantic import Field, model_validator

from agent.core.paths import FilePath
from agent.core.schema import Strict, spelt


class WebConfig(Strict):
    """The device's own page (docs/guide/web.md). It may acknowledge alarms and change banks."""

    enabled: Annotated[
        bool, Field(description="Serve the page; needs `pip install 'auscult[web]'`")
    ] = False
    host: Annotated[
        str,
        Field(
            min_length=1,
            description="Address listened on; any but loopback needs `password_file` or "
            "`behind_proxy`",
        ),
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536, description="Its port; 0 for any free one")] = 8765
    password_file: Annotated[
        FilePath | None,
        Field(
            description="File whose first line is the admins' password, `${CREDENTIALS_DIRECTORY}/"
            "web-password` for a systemd credential; lines `operator: PASSWORD` and `viewer: "
            "PASSWORD` below let others in with fewer rights. null asks for none"
        ),
    ] = None
    guests: Annotated[
        Literal["none", "viewer"],
        Field(
            description="What a browser may do that has given no password, where there is one: "
            "`none`, or `viewer` (read all, change nothing)"
        ),
    ] = "none"
    behind_proxy: Annotated[
        bool,
        Field(
            description="A reverse proxy in front of it decides who may see it, and speaks TLS: no "
            "password is demanded beyond loopback; needs `names`"
        ),
    ] = False
    role_header: Annotated[
        str | None,
        Field(
            pattern=spelt(r"^[A-Za-z0-9-]{1,64}$", "the name of a header: letters, digits and -"),
            description="With `behind_proxy`: header by which the proxy says what somebody may do "
            "(`viewer`, `operator` or `admin`; a viewer without); the proxy must set or remove it "
            "in every request. null lets whoever it lets through do all",
        ),
    ] = None
    names: Annotated[
        tuple[str, ...],
        Field(
            description="Host names under which browsers reach it, beside the device's addresses "
            "and `localhost`; others are refused"
        ),
    ] = ()
    listen: Annotated[
        bool,
        Field(
            description="Operators and admins may listen to the microphones live; never where "
            "`evidence` keeps no sound, or takes speech out of it. Each listening is in the audit"
        ),
    ] = False
    upload_mb: Annotated[
        float,
        Field(gt=0, le=16_000, description="Largest bundle that is taken by the page, megabytes"),
    ] = 512.0
    session_hours: Annotated[
        float, Field(gt=0, le=8760, description="How long a browser stays logged in, hours")
    ] = 12.0

    @property
    def loopback(self) -> bool:
        """Whether only this device can reach it."""
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    @model_validator(mode="after")
    def _guarded(self) -> WebConfig:
        if self.enabled and not (self.loopback or self.password_file or self.behind_proxy):
            raise ValueError(
                f"host {self.host} can be reached from other devices: set password_file, or "
                "behind_proxy if a reverse proxy asks who is there"
            )
        if self.role_header is not None and not self.behind_proxy:
            raise ValueError(
                "role_header needs behind_proxy: without a proxy in front, any browser could say "
                "that it is an admin's"
            )
        if self.enabled and self.behind_proxy and not self.names:
            raise ValueError(
                "behind_proxy needs names: list the host names under which browsers reach the "
                "proxy, such as [gateway-1.example]; others are refused (DNS rebinding)"
            )
        return self
