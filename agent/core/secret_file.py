"""A secret on the first line of a file: a password, a token. It stands in no configuration."""

from __future__ import annotations

from pathlib import Path

from agent.core.errors import ConfigError

# Longer than any password that MQTT can carry, bytes.
_LONGEST = 65_536


def read_secret(path: Path, what: str, *, remedy: str) -> str:
    """The first line of a secret's file, without its end; empty when there is nothing on it.

    Args:
        path: The file.
        what: The file in words, for the message: `the password file`.
        remedy: What to do when it cannot be used.

    Raises:
        ConfigError: It cannot be read, or is not UTF-8.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(_LONGEST).decode("utf-8")
    except OSError as fault:
        raise ConfigError(
            f"{what} cannot be read: {fault.strerror}", where=path, remedy=remedy
        ) from fault
    except UnicodeDecodeError as fault:
        raise ConfigError(f"{what} is not UTF-8", where=path, remedy=remedy) from fault
    return line.removesuffix("\n").removesuffix("\r")


def open_to_all(path: Path) -> bool:
    """Whether every user of this device can read a file."""
    return bool(path.stat().st_mode & 0o007)
