"""Making a bundle: hash its files, write the manifest last, put the finished folder in place.

The workstation seals what it exports, the device what it has learnt since (a grown memory bank).
A reader therefore never meets half a bundle: a folder without a manifest is not a bundle, and a
folder takes its final name only when all of it is on the disk.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from agent.bundle.manifest import MANIFEST, SIGNATURE, FileRecord, Manifest, digest_of
from agent.core.errors import BundleError
from agent.core.storage import sync, unwritable, write_json

_BLOCK = 1 << 20
_AT_FDCWD = -100  # linux/fcntl.h: paths are relative to the working directory
_RENAME_EXCHANGE = 2  # linux/fs.h: swap two names in one step


def file_record(path: Path) -> FileRecord:
    """Length and SHA-256 of a file's bytes.

    Raises:
        BundleError: It cannot be read.
    """
    digest = hashlib.sha256()
    size = 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(_BLOCK):
                digest.update(block)
                size += len(block)
    except OSError as fault:
        raise BundleError(
            f"cannot be read: {fault.strerror}",
            where=path,
            remedy="Check the disk and the folder's permissions.",
        ) from fault
    return FileRecord(sha256=digest.hexdigest(), size=size)


def seal(folder: Path, draft: Manifest) -> Manifest:
    """Hash every file of a folder, write its manifest last, and force all of it to the disk.

    Args:
        folder: The bundle to be: flat, its files already in it.
        draft: The manifest; its `files` and `digest` are replaced by what the folder holds.

    Returns:
        The manifest as written.

    Raises:
        BundleError: The folder holds other than plain files, or cannot be read or written.
    """
    files = {}
    for path in sorted(folder.iterdir()):
        if path.name == MANIFEST:
            continue
        if path.name == SIGNATURE:
            path.unlink()  # of an earlier manifest
            continue
        if path.is_symlink() or not path.is_file():
            raise BundleError(
                "is not a plain file; a bundle is a flat folder of files",
                where=path,
                remedy="Move it elsewhere and seal again.",
            )
        sync(path)
        files[path.name] = file_record(path)
    unsigned = draft.model_copy(update={"files": files})
    digest = digest_of(unsigned.model_dump(mode="json"))
    manifest = unsigned.model_copy(update={"digest": digest})
    write_json(folder / MANIFEST, manifest.model_dump(mode="json"))
    return manifest


@contextlib.contextmanager
def new_bundle(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out`, which takes its name when the block ends well.

    A block that raises leaves nothing behind and `out` as it was. An earlier bundle at `out` is
    replaced: in one step where the system can swap two names (Linux), else in two renames.

    Raises:
        BundleError: `out` exists and is no bundle, or its parent cannot be written to.
    """
    out = Path(os.path.abspath(out))  # noqa: PTH100  resolve() would follow a link named `out`
    check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as fault:
        raise unwritable(out.parent, fault) from fault
    try:
        draft.chmod(0o755)
        yield draft
        sync(draft)
        _put_in_place(draft, out)
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def check_replaceable(out: Path) -> None:
    """May a bundle be written here? Yes where nothing is, an empty folder, or an older bundle.

    Raises:
        BundleError: Something else is there.
    """
    if not out.exists() and not out.is_symlink():
        return
    if out.is_symlink() or not out.is_dir():
        what = "is a link" if out.is_symlink() else "is a file"
    elif (out / MANIFEST).is_file() or not any(out.iterdir()):
        return
    else:
        what = "is a folder with other things in it"
    raise BundleError(
        f"{what}, not a bundle; it will not be overwritten",
        where=out,
        remedy="Give a new folder, or the folder of an earlier bundle.",
    )


def _put_in_place(draft: Path, out: Path) -> None:
    """Give `draft` the name `out`; what was there is left under the draft's name or removed."""
    check_replaceable(out)
    try:
        if not out.exists():
            draft.rename(out)
        elif not swap_names(draft, out):
            # Without a swap there is an instant with no bundle at `out`, never half a bundle.
            aside = draft.with_name(draft.name + ".old")
            out.rename(aside)
            try:
                draft.rename(out)
            except OSError:
                aside.rename(out)
                raise
            shutil.rmtree(aside, ignore_errors=True)
        sync(out.parent)
    except OSError as fault:
        raise unwritable(out, fault) from fault


def swap_names(one: Path, other: Path) -> bool:
    """Exchange two names in one step; False where the system or file system has no such step."""
    if not sys.platform.startswith("linux"):
        return False
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if call is None:
        return False
    result = call(
        _AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if result == 0:
        return True
    code = ctypes.get_errno()
    if code in {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP}:
        return False
    raise OSError(code, os.strerror(code), str(other))
