"""Writing files that survive a power cut: the old bytes or all of the new."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from agent.core.errors import BundleError


def write_atomic(path: Path, data: bytes) -> None:
    """Write a file so that, even after a power cut, it holds its old bytes or all of the new.

    Args:
        path: The file; its folder must exist.
        data: Its new bytes.

    Raises:
        BundleError: It cannot be written (disk full, no permission).
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fchmod(stream.fileno(), 0o644)  # mkstemp's 0600 would lock out the service's user
            os.fsync(stream.fileno())
        Path(name).replace(path)
        sync_folder(path.parent)
    except OSError as fault:
        Path(name).unlink(missing_ok=True)
        raise unwritable(path, fault) from fault


def write_json(path: Path, value: Any) -> None:
    """Write JSON as `write_atomic` does: UTF-8, indented, no NaN, one newline at the end."""
    text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    write_atomic(path, (text + "\n").encode())


def sync_folder(folder: Path) -> None:
    """Force a folder's entries (its files' names) to the disk."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def unwritable(path: Path, fault: OSError) -> BundleError:
    """The fault of a file that cannot be written, with its remedy."""
    return BundleError(
        f"cannot be written: {fault.strerror}",
        where=path,
        remedy="Check free space and the folder's permissions.",
    )
