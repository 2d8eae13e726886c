"""The page's password, from a file or a systemd credential."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.core.errors import ConfigError

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
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as fault:
        raise ConfigError(
            f"the page's password file cannot be read: {fault.strerror}", where=path, remedy=remedy
        ) from fault
    except UnicodeDecodeError as fault:
        raise ConfigError("the password file is not UTF-8", where=path, remedy=remedy) from fault
    password = text.splitlines()[0].strip() if text.strip() else ""
    if len(password) < _SHORTEST:
        raise ConfigError(
            f"the page's password has fewer than {_SHORTEST} characters", where=path, remedy=remedy
        )
    if path.stat().st_mode & 0o007:
        log.warning("%s: every user of this device can read the password (chmod 600)", path)
    return password
