"""The part of PLANT.yaml about watching: `database`, `watch`, `web`."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field

from agent.core.paths import FilePath
from agent.core.schema import Strict, spelt

Role: TypeAlias = Literal["viewer", "operator", "admin"]


def _network(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError as fault:
        raise ValueError(
            f"should be an address or network, as 10.0.0.7 or 10.0.0.0/8: {fault}"
        ) from fault
    return text


class DatabaseConfig(Strict):
    """Where it is kept what devices told."""

    url: Annotated[
        str,
        Field(
            min_length=1,
            description="`sqlite:///FILE` (relative to PLANT.yaml) for one server, or "
            "`postgresql://USER@HOST/NAME`",
        ),
    ] = "sqlite:///plant.db"
    password_file: Annotated[
        FilePath | None,
        Field(description="File with PostgreSQL's password on its first line; never in this file"),
    ] = None
    wait_seconds: Annotated[
        float, Field(ge=0, description="At the start the database is waited for so long, seconds")
    ] = 60.0
    events_days: Annotated[
        float, Field(gt=0, description="Events and commands are kept so long, days")
    ] = 1830.0
    minutes_days: Annotated[
        float, Field(gt=0, description="Scores by five minutes are kept so long, days")
    ] = 62.0
    hours_days: Annotated[
        float, Field(gt=0, description="Scores by the hour are kept so long, days")
    ] = 3660.0


class WatchConfig(Strict):
    """How devices are listened to."""

    group: Annotated[
        str,
        Field(
            pattern=spelt(r"^[A-Za-z0-9._-]{1,60}$", "letters, digits, '.', '_' and '-'"),
            description="Instances of the same group share the load; each message is for one",
        ),
    ] = "auscult-plant"
    events: Annotated[
        Literal["every", "shared"],
        Field(
            description="every: each instance hears every event, and writes it where no other has: "
            "an alarm is not late because an instance is dead, and mosquitto 2.0, which forgets "
            "shared subscriptions when it ends, loses none at its restart; shared: events are for "
            "one instance each, as scores and states always are"
        ),
    ] = "every"
    commit_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=10,
            description="A message waits for others to be written with at most so long, seconds",
        ),
    ] = 0.1
    commit_messages: Annotated[
        int, Field(ge=1, le=10_000, description="So many messages are written at once, at most")
    ] = 1000
    scores_seconds: Annotated[
        float,
        Field(
            gt=0,
            le=300,
            description="Scores are counted in memory for so long before they are written; an "
            "instance that is killed loses these, seconds",
        ),
    ] = 15.0
    session_hours: Annotated[
        float,
        Field(
            gt=0,
            le=8760,
            description="The broker keeps messages for an instance that is away so long, hours",
        ),
    ] = 168.0
    adopt_seconds: Annotated[
        float,
        Field(
            ge=10,
            description="An instance that was not heard of for so long is gone: another takes over "
            "what the broker keeps for it, seconds",
        ),
    ] = 60.0
    reconcile_seconds: Annotated[
        float,
        Field(
            ge=5,
            description="Step between readings of the states that the broker retains, seconds",
        ),
    ] = 600.0
    command_seconds: Annotated[
        float,
        Field(
            ge=1,
            le=86_400,
            description="A command that reaches its device later than this is not carried out, "
            "seconds",
        ),
    ] = 300.0
    token_file: Annotated[
        FilePath | None,
        Field(
            description="File with the devices' operators' token (`commands.token_file` there): "
            "then alarms can be answered on the page, too"
        ),
    ] = None
    sites: Annotated[
        dict[str, tuple[str, ...]],
        Field(
            description="Sites by name, each with its devices (`*` and `?` stand for letters): "
            "`hall-1: [gateway-1*]`"
        ),
    ] = {}


class ProxyConfig(Strict):
    """A reverse proxy that lets users in, and tells who they are."""

    addresses: Annotated[
        tuple[Annotated[str, AfterValidator(_network)], ...],
        Field(
            min_length=1,
            description="Addresses or networks that are the proxy; from elsewhere its headers are "
            "not believed",
        ),
    ]
    user_header: Annotated[
        str,
        Field(
            pattern=spelt(r"^[A-Za-z0-9-]{1,60}$", "the name of an HTTP header"),
            description="Header with the user's name",
        ),
    ] = "X-Forwarded-User"
    default_role: Annotated[
        Role | None,
        Field(
            description="Role of users that `auscult plant user` has not added; null keeps them out"
        ),
    ] = "viewer"


class PageConfig(Strict):
    """The plant's page."""

    enabled: Annotated[bool, Field(description="Whether `serve` has a page")] = True
    host: Annotated[
        str, Field(min_length=1, description="Address it listens on; 0.0.0.0 for every one")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536, description="Its port; 0 for any")] = 8480
    names: Annotated[
        tuple[str, ...],
        Field(description="Host names it answers to, beside addresses and localhost"),
    ] = ()
    session_hours: Annotated[
        float, Field(gt=0, le=8760, description="A login lasts so long, hours")
    ] = 12.0
    proxy: Annotated[
        ProxyConfig | None, Field(description="A reverse proxy that lets users in; null for none")
    ] = None
