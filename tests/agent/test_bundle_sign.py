"""Signatures of bundles: made on the workstation, checked on the device."""

from __future__ import annotations

import json
import shutil
import stat
import sys

import pytest

pytest.importorskip("cryptography")

from agent.bundle.manifest import MANIFEST, SIGNATURE
from agent.bundle.plain import held_folder
from agent.bundle.seal import seal
from agent.bundle.sign import (
    CONTEXT,
    SigningError,
    fingerprint,
    load_private,
    load_public,
    make_keys,
    sign_folder,
    verify_head,
)
from agent.bundle.verify import Head, signature_text, verify_bundle
from agent.core.errors import BundleError


@pytest.fixture
def keys(tmp_path):
    make_keys(tmp_path / "site.key", tmp_path / "site.pub")
    return load_private(tmp_path / "site.key"), load_public(tmp_path / "site.pub")


@pytest.fixture
def signed(tmp_path, tiny_bundle, keys):
    folder = shutil.copytree(tiny_bundle, tmp_path / "pump")
    sign_folder(folder, keys[0])
    return folder


def verify(folder, key):
    """The signature alone: the manifest need not be one."""
    with held_folder(folder) as held:
        head = Head(None, (folder / MANIFEST).read_bytes(), signature_text(held))
    verify_head(head, key, CONTEXT, folder)


def test_a_signed_bundle_is_accepted_and_still_whole(signed, keys):
    verify(signed, keys[1])
    verify_bundle(signed)


def test_the_private_key_is_the_owners_alone_and_never_overwritten(tmp_path, keys):
    assert stat.S_IMODE((tmp_path / "site.key").stat().st_mode) == 0o600
    with pytest.raises(SigningError, match="never overwritten"):
        make_keys(tmp_path / "other.key", tmp_path / "site.pub")
    assert not (tmp_path / "other.key").exists()


def test_every_byte_of_the_manifest_is_signed(signed, keys):
    good = (signed / MANIFEST).read_bytes()
    for at in range(0, len(good), 97):
        bad = bytearray(good)
        bad[at] ^= 1
        (signed / MANIFEST).write_bytes(bytes(bad))
        with pytest.raises(BundleError, match="does not fit"):
            verify(signed, keys[1])


def test_another_key_no_signature_and_a_new_seal_are_refused(signed, keys, tmp_path):
    make_keys(tmp_path / "b.key", tmp_path / "b.pub")
    with pytest.raises(BundleError, match="this device trusts"):
        verify(signed, load_public(tmp_path / "b.pub"))
    # A forged name does not help.
    data = json.loads((signed / SIGNATURE).read_text())
    other = load_public(tmp_path / "b.pub")
    (signed / SIGNATURE).write_text(json.dumps({**data, "key": fingerprint(other)}))
    with pytest.raises(BundleError, match="does not fit"):
        verify(signed, other)
    # Sealing again makes another manifest: its old signature must not stay.
    seal(signed, verify_bundle(signed).model_copy(update={"notes": ("changed",)}))
    assert not (signed / SIGNATURE).exists()
    with pytest.raises(BundleError, match="not signed"):
        verify(signed, keys[1])


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{}", b"[]", b"\xff", b"x" * 100_000,
        b'{"algorithm": "none", "key": "0000000000000000", "signature": ""}',
        b'{"algorithm": "ed25519", "key": "0000000000000000", "signature": "%%%"}',
        '{"algorithm": "ed25519", "key": "0000000000000000", "signature": "é"}'.encode(),
    ],
)  # fmt: skip
def test_damaged_signatures_are_named(signed, keys, content):
    (signed / SIGNATURE).write_bytes(content)
    with pytest.raises(BundleError, match=r"manifest\.sig"):
        verify(signed, keys[1])


def test_a_short_signature_is_refused(signed, keys):
    data = json.loads((signed / SIGNATURE).read_text())
    (signed / SIGNATURE).write_text(json.dumps({**data, "signature": "AAAA"}))
    with pytest.raises(BundleError, match="does not fit"):
        verify(signed, keys[1])


@pytest.mark.parametrize("content", [b"", b"nonsense", b"-----BEGIN PUBLIC KEY-----\n"])
def test_files_that_are_no_keys_are_named(tmp_path, content):
    (tmp_path / "k").write_bytes(content)
    for load in (load_private, load_public):
        with pytest.raises(SigningError, match="key in PEM"):
            load(tmp_path / "k")
        with pytest.raises(SigningError, match="cannot be read"):
            load(tmp_path / "absent")


def test_without_the_package_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives", None)
    with pytest.raises(SigningError, match=r"auscult\[sign\]"):
        make_keys(tmp_path / "a", tmp_path / "b")


def test_what_was_exchanged_after_it_was_looked_at_is_not_signed(signed, keys):
    looked_at = verify_bundle(signed)
    sign_folder(signed, keys[0], digest=looked_at.digest)
    verify(signed, keys[1])
    seal(signed, looked_at.model_copy(update={"notes": ("exchanged",)}))
    with pytest.raises(BundleError, match="was exchanged just now"):
        sign_folder(signed, keys[0], digest=looked_at.digest)
    assert not (signed / SIGNATURE).exists()
