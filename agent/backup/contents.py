"""What a backup holds: which files of the state, under which names, and what is left out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import Field

from agent.config.agent import AgentConfig
from agent.core.schema import Strict
from agent.deploy.versions import beside

FORMAT = 1
MANIFEST = "backup.json"
CONFIG = "agent.yaml"
STATE, BUNDLES, VERSIONS = "state", "bundles", "versions"
# The link that says which version of a bank is in use, and where it may lead.
LINK = "current"
LINKED = re.compile(r"\d{4}")
# Recordings that people may be heard in, and where they are; a bundle's own windows are part of it.
_SOUND = frozenset({".flac", ".wav"})
_RECORDED = frozenset({"evidence", "collected"})
# Made again from what there is, or meaning nothing elsewhere.
_DERIVED = frozenset({"engines", "level-free"})
_PASSING = (".lock", "-wal", "-shm", "-journal", ".damaged")
#: Folders into which a restore has put what was there before.
BEFORE = "before-restore-"
DATABASES = frozenset({"outbox.db", "history.db"})


class BackupFile(Strict):
    """A file of a backup."""

    size: Annotated[int, Field(ge=0, description="Bytes")]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$", description="Its digest")]
    link: Annotated[
        bool,
        Field(description="Stands for a link to its content: which version of a bank is in use"),
    ] = False


class BackupManifest(Strict):
    """`backup.json`, the last file of a backup: what it holds."""

    format: Annotated[int, Field(ge=1, description="Layout of the backup")]
    auscult_version: Annotated[str, Field(description="auscult that made it")]
    device: Annotated[str, Field(description="Name of the device")]
    created: Annotated[str, Field(description="When, ISO 8601 UTC")]
    sound: Annotated[bool, Field(description="Whether recorded sound is in it")]
    bundles: Annotated[
        dict[str, str], Field(description="By machine, where its bundle was on the device")
    ]
    files: Annotated[dict[str, BackupFile], Field(description="By name in the backup")]


@dataclass(frozen=True, slots=True)
class Item:
    """A file to be kept.

    Attributes:
        name: Its name in the backup.
        path: Where it is.
        link: Where it leads, when it is a link; else empty.
        recording: Whether it is recorded sound: evidence's, or a collected recording.
    """

    name: str
    path: Path
    link: str = ""
    recording: bool = False


def roots(config: AgentConfig) -> dict[str, Path]:
    """Folders of a device that are kept, by their name in the backup.

    The state; and outside it each machine's bundle, and the versions of its bank beside it.
    """
    found = {STATE: config.state_path}
    for machine in config.machines:
        folder = config.bundle_of(machine)
        if not folder.is_relative_to(config.state_path):
            found[f"{BUNDLES}/{machine.name}"] = folder
            found[f"{VERSIONS}/{machine.name}"] = beside(folder)
    return found


def items(config: AgentConfig, config_path: Path) -> Iterator[Item]:
    """What is to be kept of a device, whether or not its agent runs.

    Args:
        config: The agent's configuration.
        config_path: Its file.
    """
    yield Item(CONFIG, config_path)
    for root, folder in roots(config).items():
        for path in _files(folder):
            part = PurePosixPath(path.relative_to(folder).as_posix())
            first = part.parts[0] if root == STATE else ""
            if first in _DERIVED or first.startswith(BEFORE):
                continue
            link = str(path.readlink()) if path.is_symlink() else ""
            recording = first in _RECORDED and path.suffix in _SOUND
            yield Item(f"{root}/{part}", path, link, recording)


def _files(folder: Path) -> Iterator[Path]:
    """Files below a folder in a fixed order, without those that pass, and of links the one kept."""
    for place, names, files in os.walk(folder):
        links = [name for name in names if Path(place, name).is_symlink()]
        # Hidden ones are being made, and gone in a moment.
        names[:] = sorted(name for name in set(names) - set(links) if not name.startswith("."))
        for name in sorted([*files, *links]):
            path = Path(place, name)
            passing = name.startswith(".") or name.endswith(_PASSING) or ".damaged-" in name
            if passing or (path.is_symlink() and not _kept(path)):
                continue
            if path.is_symlink() or path.is_file():
                yield path


def _kept(link: Path) -> bool:
    return link.name == LINK and LINKED.fullmatch(str(link.readlink())) is not None
