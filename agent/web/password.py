"""The page's passwords, from a file or a systemd credential."""

from __future__ import annotations

import logging
from pathlib import Path

from agent.core.errors import ConfigError
from agent.core.secret_file import open_to_all, read_secret
from agent.web.roles import PageRole, role_named

log = logging.getLogger(__name__)

_SHORTEST = 8
_LONGEST = 65_536


def read_passwords(path: Path | None) -> dict[PageRole, str]:
    """The passwords of a file: the admins' on its first line, others below; none without a file.

    Lines below are `operator: PASSWORD` or `viewer: PASSWORD`; empty ones and those that begin with
    `#` are left out.

    Raises:
        ConfigError: It cannot be read, or one is too short, of no known role, or there twice.
    """
    if path is None:
        return {}
    found = {PageRole.ADMIN: _first(path)}
    for number, line in enumerate(_lines(path), start=2):
        if not line or line.startswith("#"):
            continue
        word, _, password = line.partition(":")
        role, password = role_named(word), password.strip()
        if role is None or role in found:
            raise ConfigError(
                f"line {number} is of no role, or of one that has a password already",
                where=path,
                remedy="Below the first line, which is the admins', write `operator: PASSWORD` "
                "and `viewer: PASSWORD`, each once.",
            )
        if len(password) < _SHORTEST or password in found.values():
            raise ConfigError(
                f"line {number}: the password of the {role.word}s has fewer than {_SHORTEST} "
                "characters, or is another role's too",
                where=path,
                remedy="Give each role a password of its own.",
            )
        found[role] = password
    return found


def _lines(path: Path) -> list[str]:
    """What stands below the first line."""
    try:
        with path.open("rb") as file:
            return file.read(_LONGEST).decode("utf-8").splitlines()[1:]
    except (OSError, UnicodeDecodeError) as fault:
        raise ConfigError(
            f"the page's password file cannot be read: {fault}",
            where=path,
            remedy="Write it as plain text.",
        ) from fault


def _first(path: Path) -> str:
    remedy = "Put the password on its first line, readable by the agent's user only (chmod 600)."
    password = read_secret(path, "the page's password file", remedy=remedy).strip()
    if len(password) < _SHORTEST:
        raise ConfigError(
            f"the page's password has fewer than {_SHORTEST} characters", where=path, remedy=remedy
        )
    if open_to_all(path):
        log.warning("%s: every user of this device can read the password (chmod 600)", path)
    return password
