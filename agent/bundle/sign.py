"""Who made this bundle? An Ed25519 signature (RFC 8032) over its manifest.

The manifest holds the SHA-256 of every other file, so signing it signs them all. Keys are PEM files
as OpenSSL writes and reads them; the private one stays on the workstation, devices hold the public.

    manifest.sig    {"algorithm": "ed25519", "key": first 16 hex digits of the public key's SHA-256,
                     "signature": base64 of the signature of  CONTEXT + bytes of manifest.json}

Versions grown on a device, and bundles learnt there, are signed by its own key, each under another
context (`device_key.py`).
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agent.bundle.manifest import SIGNATURE, digest_of
from agent.bundle.plain import held_folder
from agent.bundle.verify import Head, manifest_text
from agent.core.errors import AuscultError, BundleError
from agent.core.schema import Strict, explain, spelt
from agent.core.storage import write_json

# What is signed for auscult's manifests can be taken for nothing else.
CONTEXT = b"auscult bundle manifest v1\0"
GROWN = b"auscult grown bundle manifest v1\0"
LEARNT = b"auscult learnt bundle manifest v1\0"
_LIMIT = 4096  # bytes of a key or signature file
_INSTALL = "Install it: pip install 'auscult[sign]'."


class SigningError(AuscultError):
    """A key that cannot be used, or the package for it is not installed."""


class Signature(Strict):
    """`manifest.sig`."""

    algorithm: Literal["ed25519"]
    key: Annotated[
        str,
        Field(
            pattern=spelt(r"^[0-9a-f]{16}$", "16 of the characters 0 to 9 and a to f"),
            description="Which public key",
        ),
    ]
    signature: Annotated[str, Field(max_length=128, description="64 bytes in base64")]


def make_keys(private: Path, public: Path) -> str:
    """Make a pair of keys; neither file may exist.

    Args:
        private: Where to write the private key, readable by its owner alone.
        public: Where to write the public key.

    Returns:
        The public key's fingerprint.

    Raises:
        SigningError: A file exists or cannot be written, or the package is not installed.
    """
    serialization, ed25519 = _cryptography()
    for path in (private, public):
        if path.exists():
            raise SigningError(
                "exists already; a key is never overwritten",
                where=path,
                remedy="Give another name: bundles signed with that key need its public half.",
            )
    key = ed25519.Ed25519PrivateKey.generate()
    secret = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    _create(private, secret, 0o600)
    public_half(private, public)
    return fingerprint(key.public_key())


def _create(path: Path, data: bytes, mode: int) -> None:
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
    except OSError as fault:
        raise SigningError(
            f"cannot be written: {fault.strerror}",
            where=path,
            remedy="Give a name in a folder that is there and may be written to.",
        ) from fault


def fingerprint(public: Any) -> str:
    """Short name of a public key: the first 16 hex digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(public.public_bytes_raw()).hexdigest()[:16]


def load_private(path: Path) -> Any:
    """Read a private key for `sign_folder`.

    Raises:
        SigningError: It is not an unencrypted Ed25519 private key in PEM.
    """
    serialization, ed25519 = _cryptography()
    parse = partial(serialization.load_pem_private_key, password=None)
    return _load(path, parse, "private", ed25519.Ed25519PrivateKey)


def load_public(path: Path) -> Any:
    """Read a public key for `verify_head`.

    Raises:
        SigningError: It is not an Ed25519 public key in PEM.
    """
    serialization, ed25519 = _cryptography()
    return _load(path, serialization.load_pem_public_key, "public", ed25519.Ed25519PublicKey)


def public_half(private: Path, public: Path) -> None:
    """Write the public half of a key, where there is no such file.

    Raises:
        SigningError: The key cannot be read, or the file not be written.
    """
    serialization, _ = _cryptography()
    shown = (
        load_private(private)
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    _create(public, shown, 0o644)


def sign_folder(
    folder: Path, key: Any, context: bytes = CONTEXT, *, digest: str | None = None
) -> None:
    """Sign a sealed bundle; its manifest must not change afterwards.

    Args:
        folder: The bundle.
        key: From `load_private`.
        context: What it is signed as.
        digest: `digest` of the manifest that was looked at, which is to be signed and no other.

    Raises:
        BundleError: The manifest cannot be read, or was exchanged; or the signature cannot be
            written.
    """
    with held_folder(folder) as held:
        text = manifest_text(held)
    if digest is not None and digest_of(json.loads(text)) != digest:
        raise BundleError("was exchanged just now, and is not signed", where=folder)
    signature = key.sign(context + text)
    write_json(
        folder / SIGNATURE,
        Signature(
            algorithm="ed25519",
            key=fingerprint(key.public_key()),
            signature=base64.b64encode(signature).decode(),
        ).model_dump(),
    )


def signed_by(head: Head, key: Any) -> bool:
    """Whether a bundle's signature names a key; it need not be a good one."""
    try:
        return Signature.model_validate_json(head.signature or b"").key == fingerprint(key)
    except ValidationError:
        return False


def verify_head(head: Head, key: Any, context: bytes, folder: Path) -> None:
    """Check that a bundle's manifest was signed with a key's private half.

    Checks the signature alone: `verify_bundle` holds the files to the manifest.

    Args:
        head: The manifest and its signature.
        key: From `load_public`.
        context: What it must have been signed as.
        folder: Where it was read, for messages.

    Raises:
        BundleError: There is no signature, or it is not that key's, or not of this manifest.
    """
    from cryptography.exceptions import InvalidSignature  # noqa: PLC0415 - an optional package

    place = folder / SIGNATURE
    remedy = "Export it with `--sign KEY` and the key whose public half this device holds."
    if head.signature is None:
        raise BundleError(
            "is not signed, and this device takes only signed bundles", where=folder, remedy=remedy
        )
    try:
        signature = Signature.model_validate_json(head.signature)
        raw = base64.b64decode(signature.signature, validate=True)
    except ValidationError as fault:
        raise BundleError(
            f"is not a signature: {explain(fault)}", where=place, remedy=remedy
        ) from fault
    except ValueError as fault:  # binascii's own, and what is not ASCII
        raise BundleError(f"is not a signature: {fault}", where=place, remedy=remedy) from fault
    if signature.key != fingerprint(key):
        raise BundleError(
            f"was signed with key {signature.key}, this device trusts {fingerprint(key)}",
            where=place,
            remedy=remedy,
        )
    try:
        key.verify(raw, context + head.text)
    except InvalidSignature as fault:
        raise BundleError(
            "does not fit the manifest: one of the two was altered", where=place, remedy=remedy
        ) from fault


def _load(path: Path, parse: Any, which: str, kind: type) -> Any:
    try:
        with path.open("rb") as file:
            data = file.read(_LIMIT)
        key = parse(data)
    except OSError as fault:
        raise SigningError(
            f"cannot be read: {fault.strerror}",
            where=path,
            remedy="Give a key that `auscult keygen` made.",
        ) from fault
    except Exception as fault:  # the package's own, which share no base class
        raise SigningError(
            f"is not a {which} key in PEM, or is protected by a password",
            where=path,
            remedy="Make a pair with `auscult keygen`.",
        ) from fault
    if not isinstance(key, kind):
        raise SigningError("is not an Ed25519 key", where=path, remedy="Use `auscult keygen`.")
    return key


def _cryptography() -> tuple[Any, Any]:
    try:
        from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
        from cryptography.hazmat.primitives.asymmetric import ed25519  # noqa: PLC0415
    except ImportError as fault:
        raise SigningError(
            "signatures need the package 'cryptography', which is not installed", remedy=_INSTALL
        ) from fault
    return serialization, ed25519
