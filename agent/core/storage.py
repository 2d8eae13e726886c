"""Writing files that survive a power cut: the old bytes or all of the new."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from agent.core.errors import BundleError


def write_atomic(path: Path, data: bytes, *, mode: int = 0o644) -> None:
    """Write a file so that, even after a power cut, it holds its old bytes or all of the new.

    Args:
        path: The file; its folder must exist.
        data: Its new bytes.
        mode: Who may read it: the service's user has to, where root may have written it.

    Raises:
        BundleError: It cannot be written (disk full, no permission).
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    except OSError as fault:
        raise unwritable(path, fault) from fault
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        Path(name).replace(path)
        sync(path.parent)
    except OSError as fault:
        Path(name).unlink(missing_ok=True)
        raise unwritable(path, fault) from fault


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_atomic` does: UTF-8, indented, no NaN, one newline at the end."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def make_private(folder: Path) -> None:
    """Make a folder that holds sound, and those above it that are missing: for its owner alone.

    Raises:
        OSError: It cannot be made.
    """
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir(mode=0o700, exist_ok=True)


def begin_private(path: Path) -> None:
    """Make an empty file that only its owner can read, to be written by a library by its name.

    Raises:
        OSError: It cannot be made.
    """
    path.unlink(missing_ok=True)
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))


def make_parents(path: Path) -> None:
    """Make the folders that a file is to be in.

    Raises:
        BundleError: They cannot be made.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as fault:
        raise unwritable(path, fault) from fault


def sync(path: Path) -> None:
    """Force a file's bytes, or a folder's entries (its files' names), to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def check_writable(path: Path) -> None:
    """Look, before work that takes long, whether its result can be written.

    Args:
        path: The file, or the folder to be made.

    Raises:
        BundleError: It cannot: a folder of its path is none, or may not be written to.
    """
    there = path
    # Not `Path.exists`, which raises where a folder above may not be looked into.
    while not os.path.exists(there) and there != there.parent:  # noqa: PTH110
        there = there.parent
    missing = there != path
    code = 0
    if missing and not there.is_dir():
        code = errno.ENOTDIR
    elif not os.access(there, os.W_OK | (os.X_OK if there.is_dir() else 0)):
        code = errno.EACCES
    if code:
        # With what stands in the way, where that is not the path itself.
        fault = OSError(code, os.strerror(code) + (f" ({there})" if missing else ""))
        raise unwritable(path, fault)


def unwritable(path: Path, fault: OSError) -> BundleError:
    """The fault of a file that cannot be written, with its remedy."""
    return BundleError(
        f"cannot be written: {fault.strerror}",
        where=path,
        remedy="Check free space and the folder's permissions.",
    )
