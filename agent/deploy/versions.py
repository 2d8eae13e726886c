"""Versions of a bundle whose bank was changed, beside the exported bundle, which is never touched.

    pump-1/                   the bundle as exported (and perhaps signed)
    pump-1.versions/
        0001/                 a whole bundle: the same encoder, another bank
        0002/
        current -> 0002       which one is used; absent: the exported one

Making a version and using it are two steps. The second is one rename of a link, so that a reader
finds the old version or the new, never neither; rolling back is the same step the other way.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from agent.bundle.manifest import BODY, ENCODER, ENCODER_DATA, FLOAT_ENCODER, FRAMES, Manifest
from agent.bundle.seal import new_bundle
from agent.bundle.verify import read_manifest
from agent.core.errors import BundleError
from agent.core.storage import sync

CURRENT = "current"
_NUMBER = re.compile(r"\d{4,9}")
_DRAFT = re.compile(r"\.\d{4,9}\.")
_ABANDONED = 86_400.0  # seconds
# Versions kept beside the current one and its parent when a new one is made.
KEPT = 5
# What an encoder is run from.
_GRAPHS = (ENCODER, ENCODER_DATA, FLOAT_ENCODER, FRAMES, BODY)


class Version(NamedTuple):
    """One version.

    Attributes:
        number: From 1; 0 is the bundle as exported.
        path: Its folder.
        manifest: What it says of itself, None when that cannot be read.
        current: Whether it is the one in use.
    """

    number: int
    path: Path
    manifest: Manifest | None
    current: bool


class Versions:
    """The versions of one bundle.

    Args:
        original: The exported bundle.
        folder: Where its versions are.
    """

    def __init__(self, original: Path, folder: Path) -> None:
        self.original = original
        self.folder = folder

    def check(self) -> None:
        """Look whether versions can be where they should; there need be none yet.

        Raises:
            BundleError: Something else is in the place of their folder, or of one above it.
        """
        there = next(one for one in (self.folder, *self.folder.parents) if one.exists())
        if not there.is_dir():
            which = "this" if there == self.folder else there
            raise BundleError(
                f"versions lie in a folder, and {which} is none",
                where=self.folder,
                remedy="Name their folder, or leave it out: it is found beside the bundle.",
            )

    def current(self) -> int:
        """Number of the version in use; 0 for the exported bundle."""
        link = self.folder / CURRENT
        try:
            target = link.readlink().name
        except OSError:
            return 0
        return int(target) if _NUMBER.fullmatch(target) else 0

    def path(self, number: int) -> Path:
        """Folder of a version (0: the exported bundle)."""
        return self.folder / f"{number:04d}" if number else self.original

    def existing(self, number: int) -> Path:
        """Folder of a version that there is.

        Raises:
            BundleError: There is none of that number.
        """
        folder = self.path(number)
        if not folder.is_dir():
            raise BundleError(
                f"there is no version {number}",
                where=self.folder,
                remedy="See `auscult bank list`.",
            )
        return folder

    def numbers(self) -> list[int]:
        """Versions there are, ascending, without 0."""
        if not self.folder.is_dir():
            return []
        return sorted(
            int(entry.name)
            for entry in self.folder.iterdir()
            if _NUMBER.fullmatch(entry.name) and entry.is_dir()
        )

    def all(self) -> list[Version]:
        """The exported bundle and every version, ascending."""
        current = self.current()
        found = []
        for number in [0, *self.numbers()]:
            try:
                manifest = read_manifest(self.path(number))
            except BundleError:
                manifest = None
            found.append(Version(number, self.path(number), manifest, number == current))
        return found

    @contextlib.contextmanager
    def new(self) -> Iterator[tuple[int, Path]]:
        """A number and an empty folder for a version, which is there when the block ends well.

        Raises:
            BundleError: The folder of versions cannot be written to, or another process has made
                a version meanwhile.
        """
        number = max(self.numbers(), default=0) + 1
        with new_bundle(self.path(number)) as draft:
            yield number, draft
            if self.path(number).exists():
                raise BundleError(
                    "another version was made meanwhile", where=self.folder, remedy="Repeat this."
                )

    def use(self, number: int) -> None:
        """Make a version the one in use, in one step; 0 goes back to the exported bundle.

        Raises:
            BundleError: There is no such version, or the link cannot be written.
        """
        link = self.folder / CURRENT
        try:
            if number == 0:
                link.unlink(missing_ok=True)
            else:
                self.existing(number)
                draft = self.folder / f".{CURRENT}.{os.getpid()}"
                draft.unlink(missing_ok=True)
                draft.symlink_to(f"{number:04d}")
                draft.replace(link)
            if self.folder.is_dir():
                sync(self.folder)
        except OSError as fault:
            raise BundleError(
                f"cannot be changed: {fault.strerror}",
                where=link,
                remedy="Check the folder's permissions.",
            ) from fault

    def rollback(self) -> int:
        """Go back to what the version in use was made of.

        Returns:
            Number of the version now in use.

        Raises:
            BundleError: The exported bundle is in use already.
        """
        number = self.current()
        if number == 0:
            raise BundleError(
                "there is nothing to go back to: the bundle as exported is in use",
                where=self.original,
                remedy=f"Versions are looked for in {self.folder}.",
            )
        self.use(self._parent(number))
        return self.current()

    def _parent(self, number: int) -> int:
        """The version that one was made of; the exported bundle when that is gone."""
        found = {version.number: version.manifest for version in self.all()}
        manifest = found.get(number)
        if manifest is None or manifest.growth is None:
            return 0
        return next(
            (
                other
                for other, candidate in found.items()
                if candidate is not None and candidate.digest == manifest.growth.parent
            ),
            0,
        )

    def tidy(self, keep: int = KEPT) -> list[int]:
        """Remove the oldest versions beyond `keep`, never the one in use nor its parent."""
        current = self.current()
        spared = {current, self._parent(current)} if current else set()
        doomed = [number for number in self.numbers()[:-keep] if number not in spared]
        for number in doomed:
            shutil.rmtree(self.path(number), ignore_errors=True)
        # What a power cut left of a version that was being made.
        for entry in self.folder.iterdir() if self.folder.is_dir() else ():
            if _DRAFT.match(entry.name) and time.time() - entry.lstat().st_mtime > _ABANDONED:
                shutil.rmtree(entry, ignore_errors=True)
        return doomed


def beside(bundle: Path) -> Path:
    """Where a bundle's versions are kept when no other folder is named."""
    place = Path(os.path.abspath(bundle))  # noqa: PTH100  resolve() would follow a link
    return place.with_name(place.name + ".versions")


def version_folders(state: Path, machine: str, bundle: Path) -> list[Path]:
    """Where versions of a machine's bundle may be: its own, then those of all who use the bundle.

    Args:
        state: The agent's state directory.
        machine: The machine's name.
        bundle: Its bundle as exported.
    """
    return [state / "bank" / machine, beside(bundle)]


def active_bundle(original: Path, folders: Sequence[Path]) -> Path:
    """The bundle to use: the version in use that grew from the exported bundle, else that one.

    A newer export at the same place has another digest; versions that grew from the older one are
    then left alone, as they hold embeddings of another encoder.

    Args:
        original: The exported bundle.
        folders: Folders of versions, the preferred first.

    Raises:
        BundleError: The exported bundle's manifest cannot be read and no version can be used.
    """
    try:
        exported = read_manifest(original)
    except BundleError:
        exported = None
    for folder in folders:
        versions = Versions(original, folder)
        number = versions.current()
        if not number:
            continue
        try:
            manifest = read_manifest(versions.path(number))
        except BundleError:
            continue
        if exported is not None and grew_from(manifest, exported):
            return versions.path(number)
    return original


def grew_from(version: Manifest, exported: Manifest) -> bool:
    """Whether a version is of an exported bundle: its origin, and byte for byte its encoder.

    An encoder may be several graphs and a file of weights: each must be the exported one.
    """
    return (
        version.growth is not None
        and version.growth.origin == exported.digest
        and version.encoder == exported.encoder
        and all(version.files.get(name) == exported.files.get(name) for name in _GRAPHS)
    )
