"""Who may ask how the agent is: the `metrics` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.schema import Strict


class MetricsConfig(Strict):
    """Metrics for Prometheus, over HTTP. Anybody who reaches the port may read them."""

    host: Annotated[
        str, Field(min_length=1, description="Address listened on; loopback unless changed")
    ] = "127.0.0.1"
    port: Annotated[int, Field(ge=0, lt=65536, description="Its port; 0 for any free one")] = 9464
