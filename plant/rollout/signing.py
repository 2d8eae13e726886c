"""Makes offers: what is signed, by the site's key."""

from __future__ import annotations

import base64
import hashlib
from pathlib import Path
from typing import Any

from agent.bundle.offer import CONTEXT, BundleOffer, SignedOffer
from agent.core.errors import ConfigError

_REMEDY = "Name the private key of `auscult keygen` that the bundles are signed with."


class OfferSigner:
    """Signs offers; `start` reads the key.

    Args:
        path: PEM of the private key.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._key: Any = None
        self._name = ""

    def start(self) -> None:
        """Read the key.

        Raises:
            ConfigError: It is not an unencrypted Ed25519 private key in PEM.
        """
        from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415 - an extra
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415

        try:
            key = serialization.load_pem_private_key(self._path.read_bytes(), None)
        except OSError as fault:
            raise ConfigError(
                f"the signing key cannot be read: {fault.strerror}",
                where=self._path,
                remedy=_REMEDY,
            ) from fault
        except (ValueError, TypeError, UnsupportedAlgorithm) as fault:
            raise ConfigError("is no private key", where=self._path, remedy=_REMEDY) from fault
        if not isinstance(key, ed25519.Ed25519PrivateKey):
            raise ConfigError("is not an Ed25519 key", where=self._path, remedy=_REMEDY)
        self._key = key
        raw = key.public_key().public_bytes_raw()
        self._name = hashlib.sha256(raw).hexdigest()[:16]

    def sign(self, offer: BundleOffer) -> bytes:
        """The payload of an offer."""
        text = offer.model_dump_json()
        signature = self._key.sign(CONTEXT + text.encode())
        return (
            SignedOffer(offer=text, key=self._name, signature=base64.b64encode(signature).decode())
            .model_dump_json()
            .encode()
        )
