"""The page's password, from a file or a systemd credential."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.core.errors import ConfigError
from agent.core.secret_file import open_to_all, read_secret

log = logging.getLogger(__name__)

_SHORTEST = 8


def read_password(path: Path | None) -> str | None:
    """The first line of the password file; None without one.

    Raises:
        ConfigError: It cannot be read, or is too short.
    """
    if path is None:
        return None
    remedy = "Put the password on its first line, readable by the agent's user only (chmod 600)."
    password = read_secret(path, "the page's password file", remedy=remedy).strip()
    if len(password) < _SHORTEST:
        raise ConfigError(
            f"the page's password has fewer than {_SHORTEST} characters", where=path, remedy=remedy
        )
    if open_to_all(path):
        log.warning("%s: every user of this device can read the password (chmod 600)", path)
    return password
