"""Opening only what may be trusted, and falling back on what worked before."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from agent.bundle.private import SealedCopy, private_copy, remove_leftovers
from agent.bundle.seal import new_bundle
from agent.bundle.verify import Head, read_manifest
from agent.config.encode import InferenceConfig
from agent.core.errors import AuscultError, BundleError, MissingBundleError
from agent.deploy.device_key import Vouching
from agent.deploy.load import Bundle, load
from agent.deploy.opening import OpeningLog, try_once, user_log
from agent.deploy.taken import Taken
from agent.deploy.trial import TrialError, try_out
from agent.deploy.versions import Versions, active_bundle, version_folders

log = logging.getLogger(__name__)

GOOD = "good"


@dataclass(frozen=True, slots=True)
class Opening:
    """How bundles are opened.

    Attributes:
        inference: How encoders are run.
        public_key: PEM of the only key whose bundles are trusted; None trusts any.
        suits: Raises BundleError when a bundle cannot give what the configuration asks of it.
        adapt: Makes the bundle that judges of the one that was opened, as the configuration asks.
        trial_seconds: A bundle that was never opened here is tried in a process of its own first,
            for so long at most; 0 for none.
        remember: Leave word of what is opened, for the next start; for the agent alone.
        allow_older: Take up older bundles, and other machines', of a signed setup too.
        accept_learnt: Take up bundles learnt on this device in a signed setup too.
    """

    inference: InferenceConfig = field(default_factory=InferenceConfig)
    public_key: Path | None = None
    suits: Callable[[Bundle], None] = lambda _: None
    adapt: Callable[[Bundle], Bundle] = lambda bundle: bundle
    trial_seconds: float = 0.0
    remember: bool = False
    allow_older: bool = False
    accept_learnt: bool = False


class TrustedBundle:
    """One machine's bundle: as exported, its versions, and a copy of the last export that worked.

    Args:
        original: The exported bundle, as configured.
        state: The agent's state directory.
        machine: The machine's name.
        opening: How to open it.
    """

    def __init__(self, original: Path, state: Path, machine: str, opening: Opening) -> None:
        self.original = original
        self._state = state
        self._home = state / "bank" / machine
        self._good = self._home / GOOD
        self._folders = version_folders(state, machine, original)
        self._opening = opening
        self._log = OpeningLog(self._home)
        self._taken = Taken(self._home)
        # Only the agent writes to its state.
        self._copies = self._home if opening.remember else None
        if opening.remember:
            self._log.look_back()
            remove_leftovers(self._home)
        #: Why `open_any` could not open the wanted bundle; empty when it could.
        self.refusal = ""
        #: Whether that is because nothing of it is there.
        self.missing = False
        #: That one's digest, when it could be read.
        self.refused_digest = ""
        #: Why what was opened last may not have been meant to be; empty without a reason.
        self.doubt = ""

    def wanted(self) -> Path:
        """The folder that would be opened now: a version in use, or the export."""
        return active_bundle(self.original, self._folders)

    def wanted_digest(self) -> str:
        """The digest of the wanted bundle's manifest; empty when that cannot be read."""
        try:
            return read_manifest(self.wanted()).digest
        except AuscultError:
            return ""

    def identity(self) -> tuple[Any, ...]:
        """What changes whenever the wanted bundle does, without reading it: names, sizes, times."""
        folder = self.wanted()
        try:
            # Looked at for every machine every few seconds: paths would cost most of it.
            with os.scandir(folder) as found:
                entries = sorted(
                    (entry.name, stat.st_size, stat.st_mtime_ns, stat.st_ino)
                    for entry in found
                    for stat in (_stat(entry),)
                )
        except OSError:
            return (str(folder),)
        return (str(folder), *entries)

    def open_wanted(self, *, allow_older: bool = False) -> Bundle:
        """Open the wanted bundle, verified and tried on its own bank.

        Args:
            allow_older: Also one that is older than what was taken up before, or another machine's.

        Raises:
            BundleError: It is damaged, not signed as it must be, older than what was taken up
                before or another machine's where bundles are signed, or failed before.
            AuscultError: The public key cannot be used.
        """
        return self._open(self.wanted(), self.original, allow_older=allow_older)

    def open_any(self) -> Bundle:
        """Open the wanted bundle, or else the best there is: an agent must not stay deaf.

        What was wrong with the wanted one is in `refusal`, and told as an event.

        Raises:
            BundleError: Nothing can be opened; what is wrong with the wanted one.
            AuscultError: The public key cannot be used.
        """
        first: AuscultError | None = None
        for folder, original in self._choices():
            try:
                bundle = self._open(folder, original)
            except AuscultError as fault:
                if first is None:
                    first = fault
                    self.refusal, self.refused_digest = str(fault), self.wanted_digest()
                    self.missing = isinstance(fault, MissingBundleError)
                    log.error("%s", fault)  # noqa: TRY400 - said in words, not as a trace
                continue
            if first is not None:
                log.error("judging by an older bundle meanwhile: %s", folder)
            return bundle
        assert first is not None
        raise first

    def _choices(self) -> list[tuple[Path, Path]]:
        found: dict[Path, Path] = {}
        for original in (self.original, self._good):
            if original == self._good and not original.is_dir():
                continue
            found.setdefault(active_bundle(original, self._folders), original)
            found.setdefault(original, original)
        return list(found.items())

    def _open(self, folder: Path, original: Path, *, allow_older: bool = False) -> Bundle:
        self.doubt = ""
        with private_copy(
            folder, self._copies, vouch=partial(self._vouch, folder, original)
        ) as copy:
            digest, opening = copy.manifest.digest, self._opening
            if self._log.refused(digest):
                raise BundleError(
                    "failed while it was in use, or opened, before, and is not tried again",
                    where=folder,
                    remedy="Export it anew; see the agent's log for what failed.",
                )
            if original != self._good:  # that one has proved itself in use
                self._meant(copy, allow=allow_older or opening.allow_older)
                self._try(copy)
            with self._log.opening(digest) if opening.remember else contextlib.nullcontext():
                return self._load(copy)

    def _vouch(self, folder: Path, original: Path, head: Head) -> None:
        """Hold what was read of a bundle to the keys."""
        if self._opening.public_key is not None:
            Vouching(self._opening.public_key, self._state, self._opening.accept_learnt).vouch(
                head, folder, original
            )

    def _meant(self, copy: SealedCopy, *, allow: bool) -> None:
        """Is it this machine's, and no older than what was taken up before?"""
        self.doubt = self._taken.doubt(copy.manifest)
        if not self.doubt:
            return
        if self._opening.public_key is not None and not allow:
            raise BundleError(
                self.doubt,
                where=copy.source,
                remedy="If that is meant: the command `reload` with `allow_older: true` takes it "
                "up; `auscult export --machine NAME` says what machine a bundle is for.",
            )
        log.warning("%s: %s", copy.source, self.doubt)

    def _try(self, copy: SealedCopy) -> None:
        """Let a process of its own open it first."""
        opening = self._opening
        logs = (self._log,) if opening.remember else (self._log, user_log())
        try:
            try_once(copy, opening.inference, logs, seconds=opening.trial_seconds)
        except TrialError:
            if opening.remember:
                self._log.refuse(copy.manifest.digest)
            raise

    def _load(self, copy: SealedCopy) -> Bundle:
        opening = self._opening
        # Engines that a provider builds are as long-lived as the state, and of this device alone.
        bundle = load(copy, inference=opening.inference, cache=self._state / "engines")
        try_out(bundle)
        bundle = opening.adapt(bundle)
        opening.suits(bundle)
        return bundle

    def keep_good(self, proved: Bundle) -> None:
        """Keep a copy of an export that has proved itself; a full disk only means no copy.

        Args:
            proved: It, or a version that grew from it. What lies there by now may be another one,
                of which no copy is kept.
        """
        told = self._opening.public_key is None or self._opening.allow_older
        self._taken.remember(proved.manifest, back=told)
        growth = proved.manifest.growth
        digest = growth.origin if growth else proved.manifest.digest
        try:
            if self._good.is_dir() and read_manifest(self._good).digest == digest:
                return
        except BundleError:
            log.info("%s: is damaged, and kept anew", self._good)

        def unchanged(head: Head) -> None:
            if head.manifest.digest != digest:
                raise BundleError("was replaced meanwhile", where=self.original)

        try:
            with (
                private_copy(self.original, self._home, vouch=unchanged) as copy,
                new_bundle(self._good) as draft,
            ):
                for entry in copy.folder.iterdir():
                    entry.rename(draft / entry.name)
        except (OSError, BundleError) as fault:
            log.warning("no copy of %s kept: %s", self.original, fault)

    def go_back(self, bundle: Bundle) -> None:
        """An operator has an older or another machine's bundle taken up: it counts from now on."""
        self._taken.remember(bundle.manifest, back=True)

    def refuse(self, bundle: Bundle) -> None:
        """Remember that a bundle failed in use, also over a restart; a version is left for its
        parent.
        """
        self._log.refuse(bundle.manifest.digest)
        try:
            for folder in self._folders:
                versions = Versions(self.original, folder)
                if versions.current() and versions.path(versions.current()) == bundle.path:
                    versions.rollback()
        except (OSError, BundleError) as fault:
            log.warning("%s", fault)


def _stat(entry: os.DirEntry[str]) -> os.stat_result:
    """What a name stands for; a link to nowhere (an editor's lock) for itself."""
    try:
        return entry.stat()
    except FileNotFoundError:
        return entry.stat(follow_symlinks=False)
