"""The roles of commands (operate, teach, manage), and who may give those of each.

- operate: acknowledge, shelve, mute, record, ask why. Whoever the broker lets write may.
- teach: say what is healthy, so that the detector calls it so from then on.
- manage: have another bundle taken up.

Over MQTT nobody is known but by the broker's rules, so teaching and managing need the operators'
token there, unless the configuration trusts those rules. Who gives commands on the device's page
has been let in by its password, its proxy, or an account on the device.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.config.commands import CommandsConfig
from agent.core.errors import AuscultError, ConfigError
from agent.core.secret_file import read_secret

_SHORTEST = 16


class Role(str, Enum):
    """What a command does."""

    OPERATE = "operate"
    TEACH = "teach"
    MANAGE = "manage"


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a command came from.

    Attributes:
        way: `broker` or `page`.
        client: Address of the browser; empty from the broker, which does not say who wrote.
    """

    way: str
    client: str = ""


BROKER = Origin("broker")

ROLES: Mapping[str, Role] = {
    "ack": Role.OPERATE,
    "shelve": Role.OPERATE,
    "mute": Role.OPERATE,
    "collect": Role.OPERATE,
    "collect_cancel": Role.OPERATE,
    "why": Role.OPERATE,
    "resend": Role.OPERATE,
    "feedback": Role.TEACH,
    "drift_accept": Role.TEACH,
    "level_baseline": Role.TEACH,
    "level_baseline_undo": Role.TEACH,
    "commission": Role.TEACH,
    "reload": Role.MANAGE,
}


class NotAllowedError(AuscultError):
    """A command that its sender may not give."""


class Access:
    """Who may give which command.

    Args:
        config: The `commands` section.
    """

    def __init__(self, config: CommandsConfig) -> None:
        self._config = config

    def check(self, command: str, token: object, origin: Origin) -> None:
        """Let a command pass, or not.

        Args:
            command: Its name.
            token: As it came with the request; None without.
            origin: Where it came from.

        Raises:
            NotAllowedError: It needs a token, and this is not it.
            ConfigError: The token's file cannot be used.
        """
        role = ROLES[command]
        if origin.way != BROKER.way or role is Role.OPERATE or self._config.trust_broker:
            return
        place = self._config.token_file
        if place is None:
            raise NotAllowedError(
                f"`{command}` is for those who {role.value}, and over MQTT nobody may: no token is "
                "configured",
                remedy="Set `commands.token_file` and send the token with it, or "
                "`commands.trust_broker: true` where the broker's rules let only operators write.",
            )
        if not isinstance(token, str) or not hmac.compare_digest(
            token.encode("utf-8", "surrogatepass"), _token(place)
        ):
            raise NotAllowedError(
                f"`{command}` is for those who {role.value}: it needs the operators' `token`"
                + ("" if token is None else ", and this is not it")
            )


def check_token(config: CommandsConfig) -> None:
    """See that the token can be read, where one is configured.

    Raises:
        ConfigError: It cannot, or is too short.
    """
    if config.token_file is not None:
        _token(config.token_file)


def _token(path: Path) -> bytes:
    """Read anew each time: it may have been exchanged."""
    remedy = "Check `commands.token_file`, and that the agent's user may read it."
    token = read_secret(path, "the token", remedy=remedy).strip()
    if len(token) < _SHORTEST:
        raise ConfigError(
            f"the token has {len(token)} characters, fewer than {_SHORTEST}",
            where=path,
            remedy="Make one: openssl rand -hex 24.",
        )
    return token.encode()
