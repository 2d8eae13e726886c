"""What a machine is learnt from: its recordings' digests, and one folder that holds them all."""

from __future__ import annotations

import hashlib
import shutil
import stat
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from agent.core.errors import AuscultError, ConfigError

#: By path: length in bytes, time of the last change in ns, SHA-256.
Seen = dict[str, tuple[int, int, str]]
_ROLES = frozenset({"normal", "idle", "noise", "clean", "abnormal", "anomaly", "anomalous", "test"})
_CHUNK = 2**20
# A zip of recordings grows little; one that grows more is none.
_MOST_GROWTH = 200


def files_of(sources: Sequence[Path]) -> Iterator[Path]:
    """Every file of the sources, in a fixed order; hidden ones left out.

    Raises:
        ConfigError: A source is not there.
    """
    for source in sources:
        if source.is_file():
            yield source
        elif source.is_dir():
            yield from sorted(
                path
                for path in source.rglob("*")
                if path.is_file()
                and not any(part.startswith(".") for part in path.relative_to(source).parts)
            )
        else:
            raise ConfigError(
                "there are no recordings: no such file or folder",
                where=source,
                remedy="Mend `data` of the machine; on a cluster, every node must see it.",
            )


def survey(sources: Sequence[Path], known: Mapping[str, Sequence[object]]) -> Seen:
    """Digests of every file of the sources; one whose length and time are known is not read.

    Args:
        sources: Folders and zips.
        known: What an earlier survey gave.

    Raises:
        ConfigError: A source is not there, or a file cannot be read.
    """
    found: Seen = {}
    for path in files_of(sources):
        try:
            status = path.stat()
            before = known.get(str(path))
            if before is not None and (before[0], before[1]) == (
                status.st_size,
                status.st_mtime_ns,
            ):
                digest = str(before[2])
            else:
                digest = digest_of_file(path)
        except OSError as fault:
            raise ConfigError(f"cannot be read: {fault.strerror}", where=path) from fault
        found[str(path)] = (status.st_size, status.st_mtime_ns, digest)
    return found


def unchanged(sources: Sequence[Path], known: Mapping[str, Sequence[object]]) -> bool:
    """Whether length and time of every file are as they were; reads nothing."""
    try:
        paths = [(path, path.stat()) for path in files_of(sources)]
    except (OSError, AuscultError):
        return False
    now = {str(path): (status.st_size, status.st_mtime_ns) for path, status in paths}
    return now == {path: (one[0], one[1]) for path, one in known.items()}


def digest_of_file(path: Path) -> str:
    """SHA-256 of a file's bytes."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def content_digest(sources: Sequence[Path], seen: Seen) -> str:
    """One digest of names and contents, which a copy elsewhere has too."""
    digest = hashlib.sha256()
    for number, source in enumerate(sources):
        for path, (_, _, own) in seen.items():
            if Path(path) == source or source in Path(path).parents:
                name = Path(path).relative_to(source).as_posix()
                digest.update(f"{number}\0{name}\0{own}\n".encode())
    return digest.hexdigest()


def gather(name: str, sources: Sequence[Path], into: Path) -> Path:
    """One folder with a machine's recordings, named like it: zips unpacked, folders linked.

    Args:
        name: The machine.
        sources: Folders and zips.
        into: An empty folder to make it in.

    Raises:
        ConfigError: A source has no folder of recordings, or is a damaged zip.
    """
    place = into / name
    if len(sources) == 1 and sources[0].is_dir():
        place.symlink_to(_machine_folder(sources[0]).absolute(), target_is_directory=True)
        return place
    place.mkdir()
    for number, source in enumerate(sources):
        folder = source
        if source.is_file():
            folder = into / f"unpacked-{number}"
            unpack(source, folder)
        folder = _machine_folder(folder, source)
        for role in sorted(folder.iterdir()):
            if role.is_dir() and role.name.lower() == "test":
                for label in sorted(one for one in role.iterdir() if one.is_dir()):
                    _link(label, place / "test" / label.name.lower(), number)
            elif role.is_dir() and role.name.lower() in _ROLES:
                _link(role, place / role.name.lower(), number)
    return place


def _link(folder: Path, role: Path, number: int) -> None:
    role.mkdir(parents=True, exist_ok=True)
    (role / str(number)).symlink_to(folder.absolute(), target_is_directory=True)


def _machine_folder(folder: Path, source: Path | None = None) -> Path:
    """The folder that has `normal/` (or DCASE's `train/`): this one, or the only one in it."""
    folders = [one for one in sorted(folder.iterdir()) if one.is_dir()]
    names = {one.name.lower() for one in folders}
    if names & (_ROLES | {"train"}) or any(n.startswith("normalsound") for n in names):
        return folder
    if len(folders) == 1:
        return _machine_folder(folders[0], source or folder)
    raise ConfigError(
        "holds no folder normal/ with healthy recordings"
        if not folders
        else f"holds {len(folders)} folders, and none is normal/: {', '.join(sorted(names)[:5])}",
        where=source or folder,
        remedy="Name the folder of one machine, with normal/ (and idle/, noise/, test/) in it.",
    )


def unpack(path: Path, into: Path) -> None:
    """Unpack a zip of recordings; only plain files below its own folder.

    Raises:
        ConfigError: It is damaged, holds links or names that lead out of it, or is a bomb.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            total = sum(one.file_size for one in members)
            if total > _MOST_GROWTH * max(path.stat().st_size, 1):
                raise ConfigError(f"would unpack to {total} bytes", where=path)
            for member in members:
                name = PurePosixPath(member.filename)
                links = stat.S_ISLNK(member.external_attr >> 16)
                if name.is_absolute() or ".." in name.parts or links or "\\" in member.filename:
                    raise ConfigError(
                        f"holds '{member.filename}', which leads out of it", where=path
                    )
                target = into.joinpath(*name.parts)
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as packed, target.open("wb") as file:
                    shutil.copyfileobj(packed, file, _CHUNK)
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as fault:
        raise ConfigError(
            f"is not a whole zip: {fault}", where=path, remedy="Fetch it from the device again."
        ) from fault
    except OSError as fault:
        raise ConfigError(f"cannot be unpacked: {fault.strerror}", where=path) from fault
