"""A device's work into one file, also while its agent runs."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import sqlite3
import tarfile
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agent import __version__
from agent.backup.contents import (
    CONFIG,
    DATABASES,
    FORMAT,
    MANIFEST,
    BackupFile,
    BackupManifest,
    Item,
    items,
)
from agent.config.agent import AgentConfig
from agent.core.clock import utc
from agent.core.errors import ConfigError

# Copies of a database that is written to meanwhile, until one is whole.
_TRIES = 5


@dataclass(frozen=True, slots=True)
class Saved:
    """What was kept.

    Attributes:
        files: How many.
        size: Bytes of them.
        key: Whether the device's key is among them.
        left: Sound files left out.
    """

    files: int
    size: int
    key: bool
    left: int


def save(
    config: AgentConfig,
    config_path: Path,
    target: Path,
    *,
    sound: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Saved:
    """Write a backup.

    Args:
        config: The agent's configuration.
        config_path: Its file.
        target: The backup's file, readable for its owner alone (it holds the device's key).
        sound: Recorded sound too.
        progress: Told of each file.

    Raises:
        ConfigError: The target is there already, or a database of the state is damaged.
        OSError: It cannot be written.
    """
    if target.exists():
        raise ConfigError(
            "is there already", where=target, remedy="Give another name, or remove it first."
        )
    files: dict[str, BackupFile] = {}
    left = 0
    handle, draft = tempfile.mkstemp(dir=target.absolute().parent, prefix=f".{target.name}.")
    try:
        with (
            os.fdopen(handle, "wb") as stream,
            tarfile.open(fileobj=stream, mode="w:gz", format=tarfile.PAX_FORMAT) as archive,
            tempfile.TemporaryDirectory() as scratch,
        ):
            for item in items(config, config_path):
                if item.recording and not sound:
                    left += 1
                    continue
                progress(item.name)
                # Whatever is removed meanwhile (old evidence) is no part of it.
                if (kept := _add(archive, item, Path(scratch))) is not None:
                    files[item.name] = kept
            manifest = BackupManifest(
                format=FORMAT,
                auscult_version=__version__,
                device=config.device_name,
                created=utc(time.time()),
                sound=sound,
                bundles={one.name: str(config.bundle_of(one)) for one in config.machines},
                files=files,
            )
            _write(archive, MANIFEST, manifest.model_dump_json(indent=1).encode())
            archive.close()
            stream.flush()
            os.fsync(stream.fileno())
        Path(draft).replace(target)
    except BaseException:
        Path(draft).unlink(missing_ok=True)
        raise
    size = sum(file.size for file in files.values())
    return Saved(len(files), size, "state/device.key" in files, left)


def _add(archive: tarfile.TarFile, item: Item, scratch: Path) -> BackupFile | None:
    if item.link:
        data = item.link.encode()
        _write(archive, item.name, data)
        return BackupFile(size=len(data), sha256=hashlib.sha256(data).hexdigest(), link=True)
    path = item.path
    if path.name in DATABASES:
        path = _whole(path, scratch)
    try:
        stream = path.open("rb")
    except FileNotFoundError:
        if item.name == CONFIG:
            raise
        return None
    with stream:
        about = os.fstat(stream.fileno())
        entry = _entry(item.name, about.st_size, about.st_mtime)
        reader = _Digest(stream)
        archive.addfile(entry, reader)
    return BackupFile(size=about.st_size, sha256=reader.digest.hexdigest())


def _whole(path: Path, scratch: Path) -> Path:
    """A copy of a database, with what its log holds; its agent may write to it meanwhile.

    The agent alone may open its outbox, so the files are copied, until a copy is found whole.
    """
    copy = scratch / path.name
    problem = ""
    for _ in range(_TRIES):
        for tail in ("", "-wal", "-shm"):
            Path(f"{copy}{tail}").unlink(missing_ok=True)
        for tail in ("-wal", ""):  # the log first: what moves from it meanwhile is then in both
            source = Path(f"{path}{tail}")
            if source.exists():
                shutil.copyfile(source, f"{copy}{tail}")
        try:
            db = sqlite3.connect(copy, isolation_level=None)
            try:
                ((verdict,), *_) = db.execute("PRAGMA integrity_check(1)").fetchall()
                if verdict == "ok":
                    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
                    db.execute("PRAGMA journal_mode = DELETE")
                    return copy
                problem = " ".join(verdict.split())
            finally:
                db.close()
        except sqlite3.Error as fault:
            problem = str(fault)
        time.sleep(0.2)
    raise ConfigError(
        f"no whole copy can be made of it: {problem}",
        where=path,
        remedy="Stop the agent and try again; if it is damaged, the agent moves it aside itself.",
    )


def _write(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    archive.addfile(_entry(name, len(data), time.time()), io.BytesIO(data))


def _entry(name: str, size: int, when: float) -> tarfile.TarInfo:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mtime, entry.mode = size, int(when), 0o600
    return entry


class _Digest:
    """A file that is digested as it is read."""

    def __init__(self, stream: io.BufferedReader) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """The next bytes."""
        data = self._stream.read(size)
        self.digest.update(data)
        return data
