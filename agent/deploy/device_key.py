"""The device's own key, which signs what is grown on it, and who vouches for a folder.

The site's key (`bundles.public_key`) signs exports and never leaves the workstation. What was
learnt on the device, a bundle as a whole (`auscult learn`) or a version of one, is signed by a key
that was made there and stays in the agent's state:

    <state_dir>/device.key        Ed25519, PEM, 0600: signs what was learnt here
    <state_dir>/device.key.pub    its public half, which that is checked with

The signed manifest of a version names the export it grew from and the bundle it was made of, so a
version is of use beside that export alone.
"""

from __future__ import annotations

import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agent.bundle.manifest import SIGNATURE
from agent.bundle.plain import held_folder
from agent.bundle.sign import (
    CONTEXT,
    GROWN,
    LEARNT,
    SigningError,
    load_private,
    load_public,
    make_keys,
    public_half,
    sign_folder,
    signed_by,
    verify_head,
)
from agent.bundle.verify import Head, read_head, read_manifest
from agent.core.errors import AuscultError, BundleError
from agent.deploy.versions import Versions, grew_from

log = logging.getLogger(__name__)

DEVICE_KEY = "device.key"
ACCEPT_LEARNT = "Set `bundles.accept_learnt: true` to take what is learnt here, too."
_SIGN = "If you vouch for it: `auscult bank sign --config AGENT.yaml NUMBER`; else grow it anew."


def device_key(state: Path) -> Path:
    """Where a device's private key is."""
    return state / DEVICE_KEY


def _public(state: Path) -> Path:
    return state / f"{DEVICE_KEY}.pub"


def ensure_device_key(state: Path) -> bool:
    """Make the device's key where there is none yet.

    Args:
        state: The agent's state directory.

    Returns:
        Whether it was made now.

    Raises:
        SigningError: It cannot be written, or the package for it is not installed.
    """
    private, public = device_key(state), _public(state)
    if private.exists():
        if not public.exists():  # the power failed between the two
            public_half(private, public)
        return False
    try:
        state.mkdir(parents=True, exist_ok=True)
        public.unlink(missing_ok=True)  # of a key that is gone
        name = make_keys(private, public)
        if os.geteuid() == 0:
            # A command that root gave must leave the agent its key.
            owner = state.stat()
            for path in (private, public):
                os.chown(path, owner.st_uid, owner.st_gid)
    except OSError as fault:
        raise SigningError(f"cannot be written: {fault.strerror}", where=private) from fault
    log.info("%s: made; versions of bundles grown here are signed with it (%s)", private, name)
    return True


@dataclass(frozen=True, slots=True)
class Vouching:
    """Who vouches for bundles and their versions on a device that takes only signed ones.

    Attributes:
        public_key: PEM of the key that exports must be signed with.
        state: The agent's state directory, where the device's own key is.
        learnt: Bundles learnt on this device are taken too, by its own key.
    """

    public_key: Path
    state: Path
    learnt: bool = False

    def check(self, folder: Path, original: Path) -> None:
        """Hold a bundle, or a version of it, to the keys.

        Args:
            folder: The folder to open.
            original: The export it is, or grew from.

        Raises:
            BundleError: No key vouches for it, or it did not grow from the signed export.
            SigningError: A key cannot be used.
        """
        self.vouch(_head(folder), folder, original)

    def vouch(self, head: Head, folder: Path, original: Path) -> None:
        """Hold what was read of a bundle, or of a version of it, to the keys.

        Args:
            head: Manifest and signature to be vouched for.
            folder: Where they were read.
            original: The export it is, or grew from.

        Raises:
            BundleError: As `check`.
            SigningError: A key cannot be used.
        """
        exported = head if folder == original else _head(original)
        site = load_public(self.public_key)
        self._vouch_original(exported, site, original)
        if folder == original:
            return
        if not grew_from(head.manifest, exported.manifest):
            raise BundleError("did not grow from the signed bundle", where=folder)
        if signed_by(head, site):  # grown on the workstation
            verify_head(head, site, GROWN, folder)
            return
        public = _public(self.state)
        if not public.exists():
            raise BundleError(
                "is a version that no key vouches for: this device has no key of its own yet",
                where=folder,
                remedy="The agent makes one at its start, and signs the versions in its own state.",
            )
        if head.signature is None:
            raise BundleError(
                "is not signed by this device, and it takes only versions that it signed",
                where=folder,
                remedy=_SIGN,
            )
        try:
            verify_head(head, load_public(public), GROWN, folder)
        except BundleError as fault:
            raise BundleError(
                f"{fault.problem} (versions are signed on the device they were grown on)",
                where=fault.where,
                remedy=_SIGN,
            ) from fault

    def _vouch_original(self, head: Head, site: Any, original: Path) -> None:
        """A bundle is signed by the site, or was learnt here and is signed by this device."""
        public = _public(self.state)
        if public.exists() and signed_by(head, own := load_public(public)):
            if not self.learnt:
                raise BundleError(
                    "was learnt on this device, which takes only bundles that the site signed",
                    where=original,
                    remedy=ACCEPT_LEARNT,
                )
            verify_head(head, own, LEARNT, original)
            return
        verify_head(head, site, CONTEXT, original)

    def sign(self, folder: Path, digest: str) -> None:
        """Sign a version with the device's key, which is made where there is none.

        Args:
            folder: The version.
            digest: Of its manifest, as it was looked at.

        Raises:
            AuscultError: It cannot be signed.
        """
        ensure_device_key(self.state)
        sign_folder(folder, load_private(device_key(self.state)), GROWN, digest=digest)

    def adopt(self, machine: str, original: Path) -> list[int]:
        """Sign the versions that a machine grew in the agent's own state before it had a key.

        Args:
            machine: Its name.
            original: Its export.

        Returns:
            Numbers of the versions signed.
        """
        versions, signed = Versions(original, self.state / "bank" / machine), []
        try:
            exported_head = _head(original)
            self._vouch_original(exported_head, load_public(self.public_key), original)
            exported = exported_head.manifest
            for number in versions.numbers():
                folder = versions.path(number)
                if (folder / SIGNATURE).exists():
                    continue
                manifest = read_manifest(folder)
                if grew_from(manifest, exported):
                    self.sign(folder, manifest.digest)
                    signed.append(number)
        except AuscultError as fault:
            log.warning("%s: versions grown before are not signed: %s", machine, fault)
        if signed:
            log.warning(
                "%s: versions grown before this device had a key are signed with it now: %s",
                machine, ", ".join(map(str, signed)),
            )  # fmt: skip
        return signed


def _head(folder: Path) -> Head:
    with held_folder(folder) as held:
        return read_head(held)
