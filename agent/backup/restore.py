"""A device's work from a backup: checked as a whole first, then put in place."""

from __future__ import annotations

import hashlib
import os
import shutil
import tarfile
import tempfile
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from pydantic import ValidationError

from agent.backup.contents import (
    BEFORE,
    CONFIG,
    FORMAT,
    LINK,
    LINKED,
    MANIFEST,
    STATE,
    BackupManifest,
    roots,
)
from agent.config.agent import AgentConfig, load_config
from agent.core.errors import ConfigError
from agent.core.schema import explain
from agent.publish.database import lock

_MANIFEST_BYTES = 64 << 20
# A backup that unpacks to more than this times its size is none of ours, nor is one of so many.
_RATIO = 200
_FILES = 1_000_000
_CHUNK = 1 << 20


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back.

    Attributes:
        manifest: What the backup says of itself.
        config: The agent's configuration used.
        wrote_config: Whether the backup's was put in place, as there was none.
        before: Where what was in the state before was moved; None when it was empty.
        kept: Bundles that were there already, and were left as they are.
    """

    manifest: BackupManifest
    config: AgentConfig
    wrote_config: bool
    before: Path | None
    kept: tuple[Path, ...]


def restore(archive: Path, config_path: Path, *, force: bool = False) -> Restored:
    """Put a backup in place.

    Args:
        archive: The backup.
        config_path: The agent's configuration; the backup's is written there if there is none.
        force: Do so though the state holds something, which is moved aside within it.

    Raises:
        ConfigError: It is no whole backup, the state holds something, or the agent runs.
        OSError: Something cannot be written.
    """
    size = archive.stat().st_size
    with tempfile.TemporaryDirectory(prefix="auscult-restore-") as scratch:
        place = Path(scratch)
        manifest = _unpack(archive, place, size)
        wrote = not config_path.exists()
        if wrote:
            config_path.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(place / CONFIG, config_path)
        config = load_config(config_path)
        state = config.state_path
        with suppress(FileExistsError):
            state.mkdir(mode=0o700, parents=True)
        # The running agent holds this; nothing may change under it.
        with lock(state / "outbox" / "outbox.lock"):
            for made in (state / "outbox", state / "outbox" / "outbox.lock"):
                _give(made, state.stat())
            before = _make_room(state, force=force)
            kept = _place(place, config, manifest)
    return Restored(manifest, config, wrote, before, kept)


def _unpack(archive: Path, place: Path, size: int) -> BackupManifest:
    """Everything below `place`, held against the manifest."""
    digests: dict[str, tuple[int, str]] = {}
    left = _RATIO * size + _MANIFEST_BYTES
    try:
        with tarfile.open(archive, "r:gz") as tar:
            for entry in tar:
                name = PurePosixPath(entry.name)
                if not entry.isreg() or name.is_absolute() or ".." in name.parts:
                    raise _no_backup(archive, f"it holds {entry.name!r}, which is no plain file")
                left -= entry.size
                if left < 0 or len(digests) > _FILES:
                    raise _no_backup(archive, "it unpacks to far more than it should")
                stream = tar.extractfile(entry)
                assert stream is not None
                target = place / name
                target.parent.mkdir(parents=True, exist_ok=True)
                digest = hashlib.sha256()
                with target.open("wb") as out:
                    while data := stream.read(_CHUNK):
                        digest.update(data)
                        out.write(data)
                target.chmod(0o600)
                digests[entry.name] = entry.size, digest.hexdigest()
    except (tarfile.TarError, EOFError, OSError, ValueError) as fault:
        if isinstance(fault, OSError) and fault.errno is not None:
            raise  # the disk's
        raise _no_backup(archive, f"it is damaged, or cut short ({fault})") from fault
    return _checked(archive, place, digests)


def _checked(archive: Path, place: Path, digests: dict[str, tuple[int, str]]) -> BackupManifest:
    about = place / MANIFEST
    if not about.is_file() or about.stat().st_size > _MANIFEST_BYTES:
        raise _no_backup(archive, f"it has no {MANIFEST}: it is cut short, or something else")
    try:
        manifest = BackupManifest.model_validate_json(about.read_bytes())
    except ValidationError as fault:
        raise _no_backup(archive, f"{MANIFEST}: {explain(fault)}") from fault
    if manifest.format != FORMAT:
        raise _no_backup(
            archive,
            f"its layout is {manifest.format}, of auscult {manifest.auscult_version}; this one "
            f"knows {FORMAT}",
        )
    wanted = {name: (file.size, file.sha256) for name, file in manifest.files.items()}
    del digests[MANIFEST]
    if wrong := sorted(
        name for name in wanted.keys() | digests.keys() if wanted.get(name) != digests.get(name)
    ):
        raise _no_backup(archive, f"{wrong[0]} is not as it was saved")
    return manifest


def _make_room(state: Path, *, force: bool) -> Path | None:
    """Move what is there aside; where it is now."""
    there = [
        path
        for path in state.iterdir()
        if path.name != "outbox" and not path.name.startswith((".", BEFORE))
    ]
    outbox = state / "outbox"
    there += [path for path in outbox.iterdir() if path.name != "outbox.lock"]
    if not there:
        return None
    if not force:
        raise ConfigError(
            f"holds something already: {', '.join(sorted(path.name for path in there)[:5])}",
            where=state,
            remedy="Restore to a device that is new, or give --force: what is there is moved "
            "aside within it, nothing is deleted.",
        )
    aside = state / f"{BEFORE}{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}"
    for path in there:
        target = aside / path.relative_to(state)
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    return aside


def _place(place: Path, config: AgentConfig, manifest: BackupManifest) -> tuple[Path, ...]:
    """Move the files where they belong; bundles that were left as they are."""
    folders, kept = roots(config), []
    there = {name for name, folder in folders.items() if name != STATE and folder.exists()}
    owner = config.state_path.stat()
    for name, file in manifest.files.items():
        root = next((root for root in folders if name.startswith(f"{root}/")), None)
        if root is None:
            continue  # the configuration, and bundles of machines that it has not
        if root in there:
            kept.append(folders[root])
            continue
        part = name.removeprefix(f"{root}/")
        target = folders[root] / part
        _folders(folders[root], target.parent, owner, private=root == STATE)
        if file.link:
            leads = (place / name).read_text(encoding="utf-8")
            if target.name == LINK and LINKED.fullmatch(leads):
                target.symlink_to(leads)
            continue
        shutil.move(place / name, target)
        # Bundles are read by the service's user, whoever that will be; state is that user's own.
        target.chmod(0o600 if root == STATE else 0o644)
        _give(target, owner if root == STATE else None)
    return tuple(dict.fromkeys(kept))


def _folders(root: Path, folder: Path, owner: os.stat_result, *, private: bool) -> None:
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for one in reversed(missing):
        one.mkdir()
        one.chmod(0o700 if private else 0o755)
        if one.is_relative_to(root):
            _give(one, owner if private else None)


def _give(path: Path, owner: os.stat_result | None) -> None:
    """Have root's work belong to whom the state belongs."""
    if owner is not None and os.geteuid() == 0:
        os.chown(path, owner.st_uid, owner.st_gid)


def _no_backup(archive: Path, problem: str) -> ConfigError:
    return ConfigError(
        problem, where=archive, remedy="Give a whole file that `auscult backup` has written."
    )
