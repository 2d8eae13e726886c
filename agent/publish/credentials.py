"""What the agent logs in with: a password from a file, certificates and a private key."""

from __future__ import annotations

import logging

from agent.config.publish import MqttConfig
from agent.core.errors import ConfigError
from agent.core.secret_file import open_to_all, read_secret

log = logging.getLogger(__name__)


def read_password(config: MqttConfig) -> str | None:
    """The first line of the password file.

    Raises:
        ConfigError: It cannot be read, or is empty.
    """
    path = config.password_file
    if path is None:
        return None
    remedy = "Put the password on its first line, readable by the agent's user only (chmod 600)."
    password = read_secret(path, "the password file", remedy=remedy)
    if not password:
        raise ConfigError("the password file's first line is empty", where=path, remedy=remedy)
    if open_to_all(path):
        log.warning("%s: every user of this device can read the password (chmod 600)", path)
    return password
