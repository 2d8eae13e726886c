"""What the agent logs in with: a password from a file, certificates and a private key."""

from __future__ import annotations

import logging
import ssl

import paho.mqtt.client as paho

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


def secure(client: paho.Client, config: MqttConfig) -> None:
    """Have a client encrypt, and show its certificate.

    Raises:
        ConfigError: A file is not there, or cannot be used.
    """
    tls = config.tls
    assert tls is not None
    for field in ("ca_file", "cert_file", "key_file"):
        path = getattr(tls, field)
        if path is not None and not path.is_file():
            raise ConfigError(
                "there is no such file", where=path, remedy=f"Check `mqtt.tls.{field}`."
            )
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            context.load_cert_chain(tls.cert_file, tls.key_file, password=_no_passphrase)
    except (OSError, ValueError) as fault:
        raise ConfigError(
            f"the TLS files cannot be used: {fault}",
            where=tls.cert_file or tls.ca_file,
            remedy="They must be PEM, the key without a pass phrase and matching the certificate.",
        ) from fault
    client.tls_set_context(context)


def _no_passphrase() -> str:
    """Where OpenSSL would ask at the terminal, for which nobody is there."""
    raise ValueError("the key has a pass phrase")
