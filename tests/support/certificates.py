"""An authority of a test's own, and what it certifies: servers, clients, and one that is expired."""

from __future__ import annotations

import datetime as dt
import ipaddress
from dataclasses import dataclass
from pathlib import Path

import pytest


@dataclass(frozen=True)
class Pair:
    """A certificate and its key, as PEM files."""

    cert: Path
    key: Path


class Authority:
    """Its certificate is `ca`; made at once, valid for a day, and named as its folder."""

    def __init__(self, folder: Path) -> None:
        pytest.importorskip("cryptography")
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._name, self._own = folder, f"authority {folder.name}", _new_key()
        self.ca = folder / "ca.pem"
        now = dt.datetime.now(dt.timezone.utc)
        _write(self.ca, self._signed(self._own, self._name, now, now + _DAY, ca=True))

    def issue(self, name: str, *, expired: bool = False) -> Pair:
        """A certificate for a host on 127.0.0.1, or a client; expired since an hour if asked."""
        key = _new_key()
        end = dt.datetime.now(dt.timezone.utc) + (-_HOUR if expired else _DAY)
        pair = Pair(self._folder / f"{name}.pem", self._folder / f"{name}.key")
        _write(pair.cert, self._signed(key, name, end - 2 * _DAY, end, ca=False))
        from cryptography.hazmat.primitives import serialization as to

        plain = to.NoEncryption()
        pair.key.write_bytes(key.private_bytes(to.Encoding.PEM, to.PrivateFormat.PKCS8, plain))
        return pair

    def _signed(self, key, name, begin, end, *, ca):
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import NameOID

        def called(text):
            return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])

        address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
        made = (
            x509.CertificateBuilder(called(self._name), called(name), key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(begin - _HOUR)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
        )
        return (made if ca else made.add_extension(address, critical=False)).sign(
            self._own, hashes.SHA256()
        )


_HOUR = dt.timedelta(hours=1)
_DAY = dt.timedelta(days=1)


def _new_key():
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def _write(path: Path, certificate) -> None:
    from cryptography.hazmat.primitives import serialization

    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
