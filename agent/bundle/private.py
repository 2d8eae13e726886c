"""A copy of a bundle in a folder that nobody else can write: verified there, and loaded from there.

Whoever can write a bundle's folder could exchange it between the check and the use. So its files
are copied once, checked as they are copied, and whatever opens the bundle is given the copy. It is
there as long as the bundle is being opened; what stays mapped afterwards has no name any more.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from agent.bundle.graph import external_files
from agent.bundle.manifest import MANIFEST, SIGNATURE, FileRecord, Manifest
from agent.bundle.plain import ROWS_LIMIT, Folder, altered, held_folder
from agent.bundle.verify import Head, read_head, tell_others
from agent.core.errors import AuscultError, BundleError
from agent.core.text import shown

log = logging.getLogger(__name__)

_PREFIX = ".bundle."
# Most bytes of a file by the end of its name: a graph of protobuf cannot have more than 2 GiB, what
# is JSON is read whole, rows being the most. Real ones have a hundredth of it.
_MOST = {".onnx": 2 << 30, ".json": ROWS_LIMIT}
_MOST_OTHERWISE = 16 << 30
_MOST_FILES = 200
_SPARE = 64 << 20  # bytes that a disk keeps free
# Where a copy is put when the folder wanted for it has no room; the last is memory.
_ELSEWHERE = (Path("/var/tmp"), Path("/dev/shm"))  # noqa: S108 - each copy is in a folder of 0700


@dataclass(frozen=True, slots=True)
class SealedCopy:
    """A bundle whose bytes are what its manifest says, and stay it.

    Attributes:
        folder: The private folder.
        source: Where it was copied from, as messages name it.
        head: Manifest and signature, the very bytes.
    """

    folder: Path
    source: Path
    head: Head

    @property
    def manifest(self) -> Manifest:
        """What it says of itself."""
        return self.head.manifest


@contextlib.contextmanager
def private_copy(
    path: Path,
    wanted: Path | None = None,
    *,
    vouch: Callable[[Head], object] = lambda _: None,
) -> Iterator[SealedCopy]:
    """Copy a bundle, every byte verified; the copy is gone when the block ends.

    Args:
        path: The bundle's folder.
        wanted: Folder that the copy is made in, which nobody else may write to; that of temporary
            files when None.
        vouch: Raises when the bundle is not to be used, before any other file is read.

    Raises:
        BundleError: A file is missing, altered, no plain file or far too large; a graph names
            weights outside the bundle; there is no room for the copy. What is raised in the block
            about the copy names `path`.
    """
    with held_folder(path) as folder:
        head = read_head(folder)
        vouch(head)
        _bounded(head.manifest, path)
        with _room(head.manifest, path, wanted) as private, _named_as(private, path):
            _take(folder, head, private)
            _check_graphs(private, head.manifest)
            yield SealedCopy(private, path, head)


@contextlib.contextmanager
def opened_in_place(folder: Path, source: Path) -> Iterator[SealedCopy]:
    """A copy that another process made, and holds as long as the block lasts.

    Args:
        folder: Of the copy.
        source: What it is a copy of.

    Raises:
        BundleError: Its manifest cannot be read.
    """
    with _named_as(folder, source):
        with held_folder(folder) as held:
            head = read_head(held)
        yield SealedCopy(folder, source, head)


def remove_leftovers(wanted: Path) -> None:
    """Remove copies whose process was killed while it opened them."""
    try:
        entries = [entry for entry in wanted.iterdir() if entry.name.startswith(_PREFIX)]
    except OSError:
        return
    for entry in entries:
        owner = entry.name.split(".")[2]
        alive = owner != str(os.getpid()) and Path("/proc", owner).exists()
        if not alive:
            shutil.rmtree(entry, ignore_errors=True)


def _check_graphs(folder: Path, manifest: Manifest) -> None:
    """Refuse a graph that would have anything read but files that the manifest lists.

    Raises:
        BundleError: Naming the graph, and the file.
    """
    for name in manifest.files:
        if name.endswith(".onnx"):
            outside = sorted(external_files(folder / name) - set(manifest.files))
            if outside:
                raise BundleError(
                    f"has weights read from '{outside[0][:200]}', which is no file of the bundle",
                    where=folder / name,
                    remedy="Do not use this bundle: export it again.",
                )


@contextlib.contextmanager
def _named_as(private: Path, path: Path) -> Iterator[None]:
    """Faults about the copy name the bundle that it is a copy of."""
    try:
        yield
    except AuscultError as fault:
        where, problem = fault.where, fault.problem.replace(shown(private), shown(path))
        if where is not None:
            where = where.replace(shown(private), shown(path))
        if (where, problem) != (fault.where, fault.problem):
            fault.where, fault.problem = where, problem
            fault.args = (str(fault),)
        raise


def _bounded(manifest: Manifest, path: Path) -> None:
    if len(manifest.files) > _MOST_FILES:
        raise altered(
            f"files: lists {len(manifest.files)} files, a bundle has at most {_MOST_FILES}",
            path / MANIFEST,
        )
    for name, record in manifest.files.items():
        most = _MOST.get(Path(name).suffix, _MOST_OTHERWISE)
        if record.size > most:
            raise altered(
                f"has {record.size / 1e9:.1f} GB where {most / 1e9:.1f} GB are the most",
                path / name,
            )


@contextlib.contextmanager
def _room(manifest: Manifest, path: Path, wanted: Path | None) -> Iterator[Path]:
    """A folder of our own with room for a bundle."""
    needed = sum(record.size for record in manifest.files.values()) + _SPARE
    temporary = Path(tempfile.gettempdir())
    why = ""
    for place in (*(() if wanted is None else (wanted,)), temporary, *_ELSEWHERE):
        try:
            if place == wanted:
                place.mkdir(parents=True, exist_ok=True)
            if shutil.disk_usage(place).free < needed:
                why = why or f"{place} has no room for {needed / 1e6:.0f} MB"
                continue
            made = tempfile.mkdtemp(dir=place, prefix=f"{_PREFIX}{os.getpid()}.")  # 0700
        except OSError as fault:
            why = why or f"{place}: {fault.strerror}"
            continue
        if why:
            log.info("%s is opened from %s: %s", path, place, why)
        try:
            yield Path(made)
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return
    raise BundleError(
        f"cannot be copied to where nobody else can write, and is not opened without: {why}",
        where=path,
        remedy="Make room on the device's disk.",
    )


def _take(folder: Folder, head: Head, private: Path) -> None:
    for name, record in head.manifest.files.items():
        _take_one(folder, name, record, private)
    (private / MANIFEST).write_bytes(head.text)
    if head.signature is not None:
        (private / SIGNATURE).write_bytes(head.signature)
    tell_others(folder, head.manifest)


def _take_one(folder: Folder, name: str, record: FileRecord, private: Path) -> None:
    try:
        with (private / name).open("wb") as copy:
            folder.hold(name, record, copy.write)
    except OSError as fault:
        raise BundleError(
            f"cannot be copied to {private}: {fault.strerror}",
            where=folder.path / name,
            remedy="Make room on the device's disk.",
        ) from fault
