"""Downloading a published checkpoint: resumed where it broke off, checked when it is there."""

from __future__ import annotations

import http.client
import shutil
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from urllib.parse import urljoin, urlsplit

from agent import __version__
from agent.bundle.seal import file_record
from agent.core.errors import AuscultError
from trainer.zoo.catalogue import Published

_BLOCK = 1 << 18
_PATIENCE = 30.0  # seconds without a byte
_CHECKPOINTS = (".pth", ".pt", ".safetensors", ".json")

# Bytes there, bytes in all (None when the server does not say).
Watch = Callable[[int, int | None], None]


class FetchError(AuscultError):
    """A checkpoint that could not be downloaded."""


def fetch(entry: Published, folder: Path, *, url: str = "", watch: Watch | None = None) -> Path:
    """Download a checkpoint and what belongs beside it.

    A broken download leaves `FILE.part`, which the next call continues when the server's copy is
    still the same. The finished file's SHA-256 is written beside it (`FILE.sha256`, as `sha256sum
    -c` reads it).

    Args:
        entry: What to download.
        folder: Folder of checkpoints; the file goes to `folder / entry.file`.
        url: Another place to take it from.
        watch: Told of progress.

    Returns:
        The checkpoint's path.

    Raises:
        FetchError: There is no direct download, no network, or what came is not the file.
    """
    target = folder / entry.file
    source = url or entry.url
    if not source:
        raise FetchError(
            f"{entry.name} has no direct download: its authors publish it behind a web page",
            where=entry.page,
            remedy=_by_hand(entry, folder),
        )
    if urlsplit(source).scheme not in {"http", "https"}:
        raise FetchError(
            "is not a web address", where=source, remedy="Give one that begins with https://."
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if entry.archive:
            archive = folder / f"{entry.name}.zip"
            _download(source, archive, watch)
            target = _unpack(archive, folder, entry)
        else:
            _download(source, target, watch)
            for name in entry.beside:
                _download(urljoin(source, name), target.with_name(name), None)
    except urllib.error.HTTPError as fault:
        raise FetchError(
            f"answered {fault.code} {fault.reason}", where=source, remedy=_by_hand(entry, folder)
        ) from fault
    except (
        urllib.error.URLError,
        TimeoutError,
        http.client.HTTPException,
        ConnectionError,
    ) as fault:
        reason = getattr(fault, "reason", fault)
        raise FetchError(
            f"cannot be reached, or the connection broke ({reason})",
            where=source,
            remedy="Run the command again to continue where it broke off. Without a network: "
            + _by_hand(entry, folder),
        ) from fault
    except OSError as fault:
        raise FetchError(f"cannot be written: {fault.strerror}", where=target) from fault
    digest = file_record(target).sha256
    if entry.sha256 and digest != entry.sha256:
        target.rename(target.with_name(target.name + ".wrong"))
        raise FetchError(
            f"is not the published file: its SHA-256 is {digest}, not {entry.sha256}",
            where=target.with_name(target.name + ".wrong"),
            remedy="Fetch it again, or get it by hand from " + entry.page + ".",
        )
    record_of(target).write_text(f"{digest}  {target.name}\n", encoding="ascii")
    return target


def record_of(path: Path) -> Path:
    """Where a checkpoint's recorded SHA-256 lies."""
    return path.with_name(path.name + ".sha256")


def recorded(path: Path) -> str:
    """The SHA-256 recorded for a file; empty when there is none."""
    try:
        return record_of(path).read_text(encoding="ascii").split()[0]
    except (OSError, IndexError, UnicodeDecodeError):
        return ""


def _by_hand(entry: Published, folder: Path) -> str:
    kept = f"unpack it in {folder}, so that there is" if entry.archive else "save it as"
    also = f" (and {', '.join(entry.beside)} beside it)" if entry.beside else ""
    return (
        f"Download {entry.name} by hand from {entry.url or entry.page}, {kept} "
        f"{folder / entry.file}{also}, then run: auscult pretrained check {folder / entry.file}"
    )


def _download(url: str, target: Path, watch: Watch | None) -> None:
    """Download to `target`, by way of `target.part`; continues a part of the same version."""
    part = target.with_name(target.name + ".part")
    mark = target.with_name(target.name + ".part.tag")
    have = part.stat().st_size if part.exists() and mark.exists() else 0
    headers = {"User-Agent": f"auscult/{__version__}", "Accept-Encoding": "identity"}
    if have:
        # If-Range: a server whose file has changed since sends all of the new one instead.
        headers |= {"Range": f"bytes={have}-", "If-Range": mark.read_text(encoding="utf-8")}
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 (the scheme was checked)
    try:
        answer = urllib.request.urlopen(request, timeout=_PATIENCE)  # noqa: S310
    except urllib.error.HTTPError as fault:
        if fault.code == http.client.REQUESTED_RANGE_NOT_SATISFIABLE and have:
            # More is here than there: not a part of that file.
            part.unlink()
            mark.unlink()
            _download(url, target, watch)
            return
        raise
    with answer:
        resumed = answer.status == http.client.PARTIAL_CONTENT
        have = have if resumed else 0
        length = answer.headers.get("Content-Length")
        total = None if length is None else have + int(length)
        tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
        # A weak tag can't promise the same bytes, so such a download starts over when it breaks.
        if tag and not tag.startswith("W/"):
            mark.write_text(tag, encoding="utf-8")
        else:
            mark.unlink(missing_ok=True)
        with part.open("ab" if resumed else "wb") as file:
            while block := answer.read(_BLOCK):
                file.write(block)
                have += len(block)
                if watch:
                    watch(have, total)
    if total is not None and have != total:
        raise http.client.IncompleteRead(b"", total - have)
    part.replace(target)
    mark.unlink(missing_ok=True)


def _unpack(archive: Path, folder: Path, entry: Published) -> Path:
    """Take the checkpoint out of an archive, and nothing that would lie elsewhere."""
    try:
        with zipfile.ZipFile(archive) as content:
            for member in content.infolist():
                place = PurePosixPath(member.filename)
                wanted = place.suffix in _CHECKPOINTS and not member.is_dir()
                if not wanted or place.is_absolute() or ".." in place.parts:
                    continue
                # Some archives hold the folder, some only what is in it.
                inside = folder / entry.name / place.name
                inside.parent.mkdir(parents=True, exist_ok=True)
                with content.open(member) as source, inside.open("wb") as sink:
                    shutil.copyfileobj(source, sink)
    except zipfile.BadZipFile as fault:
        raise FetchError(
            f"is not a whole archive: {fault}",
            where=archive,
            remedy="Delete it and fetch it again.",
        ) from fault
    target = folder / entry.file
    # Should the authors name it otherwise than the catalogue: take the one that is there.
    others = sorted(target.parent.glob("*.pth"))
    if not target.exists() and len(others) != 1:
        raise FetchError(
            f"holds no {target.name}",
            where=archive,
            remedy="Unpack it by hand and run `auscult pretrained check` on the .pth file.",
        )
    archive.unlink()
    return target if target.exists() else others[0]
