"""Who may have what done: the `commands` section of the configuration."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from agent.core.paths import FilePath
from agent.core.schema import Strict


class CommandsConfig(Strict):
    """What commands over MQTT may do. Whoever the broker lets write may operate."""

    token_file: Annotated[
        FilePath | None,
        Field(
            description="File whose first line is the operators' token, 16 characters or more: a "
            "command that teaches or manages has to bear it as `token`. A systemd credential is "
            "`$CREDENTIALS_DIRECTORY/NAME`. null for none: such commands are refused over MQTT "
            "unless `trust_broker` is true"
        ),
    ] = None
    trust_broker: Annotated[
        bool,
        Field(
            description="Whoever the broker lets write to `request/` may also teach and manage, "
            "without a token: for a broker whose rules let nobody else write there"
        ),
    ] = False
