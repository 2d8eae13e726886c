"""Which bank is meant: a bundle by itself, or the one that a machine of an agent uses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from agent.bank.pending import follow_bank
from agent.bundle.verify import read_manifest
from agent.config.agent import AgentConfig
from agent.core.errors import BundleError
from agent.deploy.device_key import Vouching
from agent.deploy.load import Bundle
from agent.deploy.opening import OpeningLog, open_tried
from agent.deploy.versions import Versions, active_bundle, beside, version_folders

if TYPE_CHECKING:
    from typing_extensions import Self

# A state directory without evidence has no folder of this name.
_NOWHERE = Path("/nonexistent")


@dataclass(frozen=True, slots=True)
class Place:
    """A bank to look at or change; use it as a context.

    Attributes:
        versions: Its versions.
        evidence: The machine's known alarms.
        opened: The one in use, opened, where it was asked for.
        folders: Where versions in use may be, the preferred first.
        vouching: Who vouches for versions; None where none need be signed.
    """

    versions: Versions
    evidence: Path
    opened: Bundle | None
    folders: tuple[Path, ...]
    vouching: Vouching | None = None

    @property
    def bundle(self) -> Bundle:
        """The version in use, opened."""
        assert self.opened is not None
        return self.opened

    def use_grown(self, number: int) -> None:
        """Use a version that was made of the one opened.

        Args:
            number: The version.

        Raises:
            BundleError: Another is in use by now, whose rows it would lose; or it cannot be used.
        """
        if active_bundle(self.versions.original, self.folders) != self.bundle.path:
            raise BundleError(
                f"version {number} was made, but is not in use: the bank was changed meanwhile",
                where=self.versions.folder,
                remedy="Repeat this to change what is in use now.",
            )
        self.versions.use(number)

    def sign(self, folder: Path, digest: str) -> None:
        """Sign a version with the device's key, where versions must be signed.

        Args:
            folder: The version.
            digest: Of its manifest, as it was looked at.

        Raises:
            AuscultError: It cannot be signed.
        """
        if self.vouching is not None:
            self.vouching.sign(folder, digest)

    def use(self, number: int) -> None:
        """Use any version from now on; 0 is the bundle as exported.

        Raises:
            BundleError: There is no such version, or no key vouches for it.
        """
        folder = self.versions.path(number)
        if self.vouching is not None and folder.is_dir():
            self.vouching.check(folder, self.versions.original)
        self.versions.use(number)

    def follow(self) -> None:
        """Hold what is remembered of answered alarms to the bank now in use.

        Raises:
            AuscultError: An answer cannot be written.
        """
        follow_bank(self.evidence, active_bundle(self.versions.original, self.folders))

    def __enter__(self) -> Self:
        """Itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        fault: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Free the encoder."""
        if self.opened is not None:
            self.opened.close()


def place_of_bundle(
    bundle: Path, folder: Path | None, evidence: Path | None, *, current: bool = True
) -> Place:
    """A bundle's bank.

    Args:
        bundle: As exported.
        folder: Of its versions; beside it when None.
        evidence: Of known alarms.
        current: Also open the version in use.

    Raises:
        BundleError: It cannot be opened.
    """
    versions = Versions(bundle, folder or beside(bundle))
    if not current:
        read_manifest(bundle)  # versions of nothing are none
    versions.check()
    opened = open_tried(active_bundle(bundle, [versions.folder])) if current else None
    return Place(versions, evidence or _NOWHERE, opened, (versions.folder,))


def place_of_machine(
    config: AgentConfig,
    name: str | None,
    folder: Path | None,
    evidence: Path | None,
    *,
    current: bool = True,
) -> Place:
    """The bank that a machine uses, in the agent's state directory.

    Args:
        config: The agent's.
        name: The machine; the only one when None.
        folder: Of its versions, in place of the state directory's.
        evidence: Of known alarms, in place of the state directory's.
        current: Also open the version in use.

    Raises:
        ConfigError: There is no such machine.
        BundleError: Its bundle cannot be opened, or is not signed as it must be.
    """
    machine = config.machine(name)
    original = config.bundle_of(machine)
    vouching = None
    if config.bundles.public_key is not None:
        vouching = Vouching(
            config.bundles.public_key, config.state_path, config.bundles.accept_learnt
        )
        # Nothing may be grown from, or shown of, a bundle that the agent would not open.
        vouching.check(original, original)
    folders = version_folders(config.state_path, machine.name, original)
    versions = Versions(original, folder or folders[0])
    # As the agent does: without a version of its own a machine uses that of all who use the bundle,
    # and what is made now grows from it.
    here = folders if folder is None else [folder]
    opened = None
    if current:
        wanted = active_bundle(original, here)
        opened = open_tried(
            wanted,
            threads=config.inference.threads,
            vouch=lambda head: None if vouching is None else vouching.vouch(head, wanted, original),
            seconds=config.bundles.trial_seconds,
            known=[OpeningLog(folders[0])],
        )
    known = evidence or config.state_path / "evidence" / machine.name
    return Place(versions, known, opened, tuple(here), vouching)
