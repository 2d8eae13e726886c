"""Sparkplug B beside the agent's own messages: the `sparkplug` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.schema import Strict, spelt

_PART = spelt(r"^[^/+#\x00]{1,100}$", "text without '/', '+' and '#'")


class SparkplugConfig(Strict):
    """How the device is seen by hosts that speak Sparkplug B (Eclipse, 3.0)."""

    group: Annotated[
        str, Field(pattern=_PART, description="Group id: the second level of its topics")
    ] = "auscult"
    edge_node: Annotated[
        str | None, Field(pattern=_PART, description="Edge node id; null for the device's name")
    ] = None
    primary_host: Annotated[
        str | None,
        Field(
            pattern=_PART,
            description="Host id: nothing is published until this host says that it is online, and "
            "the node says goodbye when it is not; null waits for nobody",
        ),
    ] = None
    aliases: Annotated[
        bool,
        Field(
            description="After births metrics are told by number, as the specification recommends; "
            "false tells their names each time, for hosts that know no aliases"
        ),
    ] = True
    score_seconds: Annotated[
        float,
        Field(
            ge=0,
            description="Least step between scores of a machine, seconds; a change of zone is told "
            "at once",
        ),
    ] = 10.0
