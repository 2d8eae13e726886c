"""A bundle's folder held open: what is read from it are plain files of that very folder, bounded.

Its name may be given to another folder meanwhile, and a file in it be a link, a pipe or a device:
none of those is followed, waited for or read without end.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from agent.bundle.manifest import FileRecord
from agent.core.errors import BundleError, MissingBundleError

#: Most bytes that `rows.json` may have.
ROWS_LIMIT = 256 << 20
_BLOCK = 1 << 20


def altered(problem: str, where: Path) -> BundleError:
    """The fault of a bundle that is not what was exported, with its remedy.

    Args:
        problem: What is wrong.
        where: The file at fault.
    """
    remedy = "The bundle was altered or cut short: copy it again, or export it again."
    return BundleError(problem, where=where, remedy=remedy)


@dataclass(frozen=True, slots=True)
class Folder:
    """A folder, held open by `held_folder`.

    Attributes:
        path: Its name, as messages give it.
        handle: Of the folder itself.
    """

    path: Path
    handle: int

    def names(self) -> set[str]:
        """Names of what lies in it."""
        return set(os.listdir(self.handle))  # noqa: PTH208 - of this very folder, by its handle

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[BinaryIO]:
        """One of its plain files, to be read.

        Raises:
            FileNotFoundError: There is none of that name.
            BundleError: It is a link, or no plain file, or cannot be read.
        """
        place = self.path / name
        # A pipe would be waited for: O_NONBLOCK opens it at once, and it is refused.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with os.fdopen(os.open(name, flags, dir_fd=self.handle), "rb", _BLOCK) as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise altered("is no plain file", place)
                yield file
        except FileNotFoundError:
            raise
        except OSError as fault:
            if fault.errno == errno.ELOOP:
                raise altered("is a link, and a bundle has none", place) from fault
            raise BundleError(f"cannot be read: {fault.strerror}", where=place) from fault

    def read(self, name: str, limit: int) -> bytes:
        """All bytes of one of its files.

        Args:
            name: The file.
            limit: Most bytes that it may have.

        Raises:
            FileNotFoundError: There is none of that name.
            BundleError: It is no plain file, larger, or cannot be read.
        """
        with self.opened(name) as file:
            data = file.read(limit + 1)
        if len(data) > limit:
            raise altered(
                f"is far too large for what it is (above {limit // 2**20} MiB)", self.path / name
            )
        return data

    def hold(
        self, name: str, record: FileRecord, take: Callable[[bytes], object] = lambda _: None
    ) -> None:
        """Read a file through, and hold it to its length and SHA-256.

        Args:
            name: The file.
            record: What the manifest says of it.
            take: Given its bytes, block by block, before all of them are known to be right.

        Raises:
            BundleError: It is missing, no plain file, cut short or altered.
        """
        place, digest, left = self.path / name, hashlib.sha256(), record.size
        try:
            with self.opened(name) as file:
                size = os.fstat(file.fileno()).st_size
                if size != record.size:
                    raise altered(f"has {size} bytes where the manifest says {record.size}", place)
                while left and (block := file.read(min(_BLOCK, left))):
                    digest.update(block)
                    take(block)
                    left -= len(block)
        except FileNotFoundError as fault:
            raise altered("is missing from the bundle", place) from fault
        if left or digest.hexdigest() != record.sha256:
            raise altered(
                "is not the file that was exported (its SHA-256 differs from the manifest's)", place
            )


@contextlib.contextmanager
def held_folder(path: Path) -> Iterator[Folder]:
    """Hold a folder open, by whatever name it is found at this moment.

    Raises:
        MissingBundleError: There is nothing of that name.
        BundleError: It is no folder, or may not be read.
    """
    try:
        handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as fault:
        remedy = "Give the folder that `auscult export` or `auscult learn` wrote with --out."
        if fault.errno == errno.ENOENT:
            # The part of the path that is there says where to look for the mistake.
            there = next((one for one in path.parents if one.is_dir()), path.parent)
            where = "" if there == path.parent else f", nor a folder {path.parent}"
            raise MissingBundleError(
                f"there is no bundle here{where}",
                where=path,
                remedy=f"{remedy} A running agent looks where `bundle:` of its configuration says.",
            ) from fault
        problem = f"cannot be read: {fault.strerror}"
        if fault.errno == errno.ENOTDIR:
            problem = "a bundle is a folder, this is not"
        raise BundleError(problem, where=path, remedy=remedy) from fault
    try:
        yield Folder(path, handle)
    finally:
        os.close(handle)


def plain_bytes(path: Path, limit: int) -> bytes:
    """Bytes of a plain file of a bundle, of which nothing else is known.

    Args:
        path: The file.
        limit: Most bytes that it may have.

    Raises:
        FileNotFoundError: There is none of that name.
        BundleError: There is no such folder, or it is no plain file, or larger.
    """
    with held_folder(path.parent) as folder:
        return folder.read(path.name, limit)


def sealed_bytes(path: Path, name: str, record: FileRecord, limit: int) -> bytes:
    """Bytes of a bundle's file, which are what its manifest says.

    Args:
        path: The bundle's folder.
        name: The file.
        record: What its manifest says of it.
        limit: Most bytes that it may have.

    Raises:
        BundleError: It is missing, no plain file, altered, or larger.
    """
    if record.size > limit:
        raise altered(f"is far too large for what it is ({record.size} bytes)", path / name)
    blocks: list[bytes] = []
    with held_folder(path) as folder:
        folder.hold(name, record, blocks.append)
    return b"".join(blocks)
