"""Bundles by content: each file once, by its SHA-256, however many bundles have it.

objects/ab/abcdef...   a file's bytes, named by their SHA-256
bundles/<digest>.json  a bundle: its files by name, and what is shown of it
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from agent.core.errors import BundleError
from agent.core.schema import Strict, explain, spelt
from agent.core.storage import write_json

SHA256 = spelt(r"^[0-9a-f]{64}$", "64 of the characters 0 to 9 and a to f")
_NAME = re.compile(r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$")
_CHUNK = 2**20


class StoredFile(Strict):
    """One file of a bundle."""

    sha256: Annotated[str, Field(pattern=SHA256, description="SHA-256 of its bytes")]
    size: Annotated[int, Field(ge=0, description="Length, bytes")]


class StoredBundle(Strict):
    """A bundle in the repository: `bundles/<digest>.json`."""

    digest: Annotated[str, Field(pattern=SHA256, description="Digest of its manifest")]
    machine: Annotated[str, Field(description="The machine that it is for")]
    created: Annotated[str, Field(description="When it was exported, ISO 8601 UTC")]
    counter: Annotated[int, Field(ge=0, description="Counts a machine's bundles up; 0 not counted")]
    signed: Annotated[bool, Field(description="Whether it has a signature")]
    files: Annotated[
        dict[str, StoredFile], Field(description="Its files by name, manifest and signature too")
    ]

    @property
    def size(self) -> int:
        """Length of all files, bytes."""
        return sum(one.size for one in self.files.values())


class Repository:
    """A folder of bundles by content.

    Args:
        folder: Where it is, or will be.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._counted: set[str] = set()
        #: Bytes that bundles added by this object did not need anew.
        self.shared_bytes = 0

    def add(self, bundle: Path, *, share: bool = False) -> StoredBundle:
        """Take a bundle in; its files are checked against its manifest.

        Args:
            bundle: Its folder.
            share: Let the folder's files be links to the repository's, so that equal files of
                bundles are on the disk once.

        Raises:
            BundleError: It is not whole, or altered.
        """
        raw = _read(bundle / "manifest.json")
        try:
            manifest = json.loads(raw)
            digest = str(manifest["digest"])
            listed = {
                name: StoredFile.model_validate(one) for name, one in manifest["files"].items()
            }
            machine = manifest.get("machine") or manifest["trained_on"]["machine"]
            created, counter = manifest["created"], manifest.get("counter", 0)
        except (ValueError, KeyError, TypeError, AttributeError) as fault:
            raise BundleError(
                "is no manifest of a bundle", where=bundle / "manifest.json"
            ) from fault
        files = {"manifest.json": StoredFile(sha256=_sha(raw), size=len(raw)), **listed}
        signed = (bundle / "manifest.sig").is_file()
        if signed:
            raw = _read(bundle / "manifest.sig")
            files["manifest.sig"] = StoredFile(sha256=_sha(raw), size=len(raw))
        for name, one in files.items():
            if not _NAME.match(name):
                raise BundleError(f"has a file of the name '{name}'", where=bundle)
            self._take(bundle / name, one, share=share)
        try:
            stored = StoredBundle(
                digest=digest, machine=machine, created=created, counter=counter, signed=signed,
                files=files,
            )  # fmt: skip
        except ValidationError as fault:
            raise BundleError(explain(fault), where=bundle / "manifest.json") from fault
        place = self._folder / "bundles" / f"{digest}.json"
        place.parent.mkdir(parents=True, exist_ok=True)
        write_json(place, stored.model_dump(mode="json"))
        return stored

    def object(self, sha256: str) -> Path:
        """Where the bytes of a digest are, if they are here."""
        return self._folder / "objects" / sha256[:2] / sha256

    def bundle(self, digest: str) -> StoredBundle | None:
        """A bundle, or None where there is none of that digest."""
        if not re.fullmatch(r"[0-9a-f]{64}", digest):
            return None
        with suppress(OSError, ValidationError):
            place = self._folder / "bundles" / f"{digest}.json"
            return StoredBundle.model_validate_json(place.read_bytes())
        return None

    def bundles(self) -> Iterator[StoredBundle]:
        """Every bundle, the latest of each machine last."""
        found = (self.bundle(path.stem) for path in (self._folder / "bundles").glob("*.json"))
        yield from sorted(
            (one for one in found if one is not None),
            key=lambda one: (one.machine, one.counter, one.created),
        )

    def _take(self, path: Path, one: StoredFile, *, share: bool) -> None:
        target = self.object(one.sha256)
        if target.is_file() and target.stat().st_size == one.size:
            if one.sha256 in self._counted:
                self.shared_bytes += one.size
            self._counted.add(one.sha256)
            if share and not target.samefile(path):
                _check(path, one)
                _replace_by_link(target, path)
            return
        _check(path, one)
        self._counted.add(one.sha256)
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = target.parent / f".{uuid.uuid4().hex}"
        try:
            if share:
                try:
                    os.link(path, scratch)
                except OSError:  # another disk, or one without links
                    shutil.copyfile(path, scratch)
            else:
                shutil.copyfile(path, scratch)
            scratch.replace(target)
        finally:
            scratch.unlink(missing_ok=True)


def _replace_by_link(target: Path, path: Path) -> None:
    scratch = path.parent / f".{uuid.uuid4().hex}"
    with suppress(OSError):
        os.link(target, scratch)
        scratch.replace(path)
    scratch.unlink(missing_ok=True)


def _check(path: Path, one: StoredFile) -> None:
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=path) from fault
    if (digest.hexdigest(), size) != (one.sha256, one.size):
        raise BundleError(
            "is not what the manifest says", where=path, remedy="Export the bundle again."
        )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=path) from fault


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
