"""Encryption of the connection to an MQTT broker, as it is configured."""

from __future__ import annotations

import ssl
from typing import Annotated

from pydantic import Field, model_validator

from agent.core.errors import ConfigError
from agent.core.paths import FilePath
from agent.core.schema import Strict


class TlsConfig(Strict):
    """Encryption of the connection to the broker."""

    ca_file: Annotated[
        FilePath | None,
        Field(description="Certificates of the authorities trusted; null for the system's"),
    ] = None
    cert_file: Annotated[
        FilePath | None, Field(description="The client's own certificate, when the broker asks")
    ] = None
    key_file: Annotated[FilePath | None, Field(description="The private key to it")] = None

    @model_validator(mode="after")
    def _pair(self) -> TlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file go together: give both or neither")
        return self


def tls_context(tls: TlsConfig, section: str) -> ssl.SSLContext:
    """What a client encrypts with, and shows of itself.

    Args:
        tls: As configured.
        section: Where that stands, as `mqtt.tls`.

    Raises:
        ConfigError: A file is not there, or cannot be used.
    """
    for field in ("ca_file", "cert_file", "key_file"):
        path = getattr(tls, field)
        if path is not None and not path.is_file():
            raise ConfigError(
                "there is no such file", where=path, remedy=f"Check `{section}.{field}`."
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
    return context


def _no_passphrase() -> str:
    """Where OpenSSL would ask at the terminal, for which nobody is there."""
    raise ValueError("the key has a pass phrase")
