"""From a folder to machines whose every recording has been opened and found fit."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

from rich.progress import Progress

from agent.capture.files import is_audio
from agent.core.errors import AudioError, ConfigError
from agent.core.text import plural, shown
from agent.recordings.dcase import is_dcase, read_dcase
from agent.recordings.inspect import Inspector, inspect_recordings
from agent.recordings.loose import is_loose, read_loose
from agent.recordings.model import Machine, Rejected
from agent.recordings.plain import is_plain, read_plain
from agent.recordings.walk import subfolders

# Where the machines lie below a folder that was unpacked as DCASE packs it.
_LEVELS = ((), ("raw",), ("dev_data",), ("dev_data", "raw"), ("eval_data",), ("eval_data", "raw"))
_LAYOUTS = (
    "Lay it out as normal/ with healthy recordings (and, if there are any, idle/, noise/, "
    "test/normal/, test/anomaly/), or as DCASE does: "
    "<machine>/train/section_00_source_train_normal_0001.wav and <machine>/test/..."
)
# Folders of a machine that are not one themselves.
_PARTS = frozenset(
    {
        "train",
        "test",
        "source_test",
        "target_test",
        "normal",
        "idle",
        "noise",
        "clean",
        "supplemental",
    }
)
_WHOLE = frozenset({"train", "normal"})
_KINDS = {"normal": "healthy", "test": "test"}
_NO_CHANNEL = "there is no channel"  # as `agent.capture.files` says it
_RENAME = "Rename it, for example with convmv -f latin1 -t utf8 --notest."
# How many files a refusal names; all of them would bury what it says.
_NAMED = 20


def load_machines(
    root: Path,
    names: Sequence[str] = (),
    *,
    on_bad: Literal["skip", "refuse"] = "skip",
    channel: int | None = None,
    progress: Progress | None = None,
    inspector: Inspector = inspect_recordings,
) -> list[Machine]:
    """Find the machines in a folder, and open and judge all their recordings.

    Args:
        root: A machine's folder in the plain or the DCASE layout, or a folder of such folders
            (also as DCASE unpacks: `dev_data/raw/<machine>`); or recordings in no order at all,
            which are all taken as healthy.
        names: Machines to load; none for all.
        on_bad: `skip` leaves unusable files out and lists them in `Machine.rejected`; `refuse`
            raises when there is one.
        channel: Channel that will be used, counted from 0; None averages all.
        progress: Where to show how far it is; None for nowhere.
        inspector: Opens and judges them (`agent.hygiene.examine` measures them too).

    Returns:
        The machines, sorted by name. One of several may be left without a healthy recording, all
        of its own being unusable: training it then says so, and the others go on.

    Raises:
        ConfigError: The folder is missing or in neither layout, a machine asked for isn't in it, or
            a machine has no healthy recordings at all.
        AudioError: There are unusable files and `on_bad` is `refuse`, no usable healthy ones, or
            not one healthy or test recording of a machine has the channel.
    """
    folders = find_machines(Path(root))
    unknown = sorted(set(names) - set(folders))
    if unknown:
        raise ConfigError(
            f"there is no machine '{unknown[0]}'",
            where=root,
            remedy=f"It holds {', '.join(folders)}.",
        )
    machines = [
        _called(_read(folder, progress), name)
        for name, folder in folders.items()
        if not names or name in names
    ]
    machines = [_named(machine) for machine in machines]
    for machine in machines:
        if not machine.of("normal") and not machine.rejected:
            raise ConfigError("holds no healthy recordings", where=machine.root, remedy=_LAYOUTS)
    named, machines = machines, _inspect(machines, channel, progress, inspector)
    if channel is not None:
        _refuse_channel(named, machines, channel)
    bad = [rejected for machine in machines for rejected in machine.rejected]
    if bad and on_bad == "refuse":
        raise AudioError(
            f"{plural(len(bad), 'recording')} cannot be used: {_listed(bad)}",
            where=root,
            remedy="Mend them, take them away, or let them be skipped.",
        )
    if not any(machine.of("normal") for machine in machines):
        raise AudioError(
            f"no healthy recording is usable: {_listed(bad)}",
            where=root,
            remedy="Mend at least one of them.",
        )
    return machines


def _read(folder: Path, progress: Progress | None) -> Machine:
    """One machine's recordings, by names alone."""
    if is_plain(folder):
        return read_plain(folder)
    if is_dcase(folder):
        return read_dcase(folder)
    machine = read_loose(folder)
    if progress is not None:
        count = plural(len(machine.recordings), "recording")
        progress.console.print(
            f"{folder.name} has no normal/: its {count} are all taken as healthy",
            highlight=False, markup=False,
        )  # fmt: skip
    return machine


def _called(machine: Machine, name: str) -> Machine:
    """A machine by another name than its folder's."""
    if machine.name == name:
        return machine
    recordings = tuple(replace(r, machine=name) for r in machine.recordings)
    return replace(machine, name=name, recordings=recordings)


def _named(machine: Machine) -> Machine:
    """Without recordings whose names are no text: run, manifest and report could not name them.

    Raises:
        ConfigError: The machine's own folder has such a name.
    """
    if shown(machine.root) != str(machine.root):
        raise ConfigError("its name is not in UTF-8", where=machine.root, remedy=_RENAME)
    bad = [r for r in machine.recordings if shown(r.path) != str(r.path)]
    return replace(
        machine,
        recordings=tuple(r for r in machine.recordings if r not in bad),
        rejected=(
            *(replace(fault, path=Path(shown(fault.path))) for fault in machine.rejected),
            *(Rejected(Path(shown(r.path)), "its name is not in UTF-8", _RENAME) for r in bad),
        ),
    )


def find_machines(root: Path) -> dict[str, Path]:
    """Machine folders by machine name, sorted.

    Raises:
        ConfigError: The folder is missing, holds no machine, or one twice.
    """
    # The name of `.` or `..` is that of the folder it stands for; other links keep theirs.
    root = root.absolute()
    if ".." in root.parts:
        root = root.resolve()
    if not root.is_dir():
        what = "is a file, not a folder of recordings" if root.exists() else "does not exist"
        raise ConfigError(what, where=root, remedy="Name the folder that holds the recordings.")
    try:
        _refuse_part(root)
        if is_plain(root) or is_dcase(root):
            return {machine_name(root): root}
        found: dict[str, Path] = {}
        found |= _mimii(root)
        for level in _LEVELS:
            place = root.joinpath(*level)
            for folder in subfolders(place).values() if place.is_dir() else ():
                if folder in found.values() or not (is_plain(folder) or is_dcase(folder)):
                    continue
                if folder.name in found:
                    raise ConfigError(
                        f"machine '{folder.name}' is there twice: also in {found[folder.name]}",
                        where=folder,
                        remedy="Rename one, or name the folder above the one you mean.",
                    )
                found[folder.name] = folder
        if not found and is_loose(root):
            return {root.name: root}
    except OSError as fault:
        raise ConfigError(
            f"cannot be listed: {fault.strerror}", where=fault.filename or root
        ) from fault
    if not found:
        raise ConfigError("holds no recordings as auscult knows them", where=root, remedy=_LAYOUTS)
    return dict(sorted(found.items()))


def machine_name(folder: Path) -> str:
    """A machine's name: its folder's; of MIMII's `id_00` and ToyADMOS's `case1` with the type."""
    named = re.fullmatch(r"(id_\d+|case\d+)", folder.name, re.IGNORECASE)
    return f"{folder.parent.name}_{folder.name}" if named else folder.name


def _mimii(root: Path) -> dict[str, Path]:
    """Machines below a folder as MIMII or ToyADMOS is unpacked, at most two levels further down."""
    found: dict[str, Path] = {}
    for pattern in ("*", "*/*", "*/*/*"):
        for folder in sorted(root.glob(pattern)):
            if folder.is_dir() and machine_name(folder) != folder.name and is_plain(folder):
                name = machine_name(folder)
                if name in found:  # the same type at another signal-to-noise ratio
                    name = "_".join((*folder.relative_to(root).parts[:-2], name))
                found[name] = folder
    return found


def _refuse_part(root: Path) -> None:
    """A machine's test folder has a `normal/` too, and would pass for a machine named `test`.

    Raises:
        ConfigError: The folder is a part of a machine's.
    """
    if root.name.lower() not in _PARTS:
        return
    whole = root.parent
    try:
        around = subfolders(whole)
        # Of a folder of machines that happens to be called `train`, nothing is said.
        loose = any(is_audio(path) for path in root.iterdir() if path.is_file())
        part = loose and (is_plain(whole) or is_dcase(whole))
    except OSError:
        return  # what is around is not ours to read
    part = part or (
        root.name.lower() == "test" and is_plain(root) and not _WHOLE.isdisjoint(around)
    )
    if part:
        raise ConfigError(
            f"is a part of the machine in {whole}, not a machine",
            where=root,
            remedy=f"Name the machine's own folder: {whole}",
        )


def _refuse_channel(machines: Sequence[Machine], found: Sequence[Machine], channel: int) -> None:
    """A channel that none of a machine's recordings of a kind has was meant for other recordings.

    Raises:
        AudioError: It is so; left out one by one they would be missed only at the end.
    """
    for asked, machine in zip(machines, found, strict=True):
        faults = {fault.path: fault.reason for fault in machine.rejected}
        for role in ("normal", "test"):
            files = asked.of(role)
            without = [one for one in files if faults.get(one.path, "").startswith(_NO_CHANNEL)]
            # One that cannot even be read has no say in it.
            if without and all(one.path in faults for one in files):
                raise AudioError(
                    f"none of the {len(files)} {_KINDS[role]} recordings of {machine.name} has a "
                    f"channel {channel}: {faults[without[0].path]}",
                    where=without[0].path,
                    remedy="Choose a channel that they have, counted from 0, or none to average "
                    "them all.",
                )


def _inspect(
    machines: Sequence[Machine],
    channel: int | None,
    progress: Progress | None,
    inspector: Inspector,
) -> list[Machine]:
    used, rejected = inspector(
        [recording for machine in machines for recording in machine.recordings],
        channel=channel,
        progress=progress,
    )
    good = {id(recording) for recording in used}
    faults = {fault.path: fault for fault in rejected}
    judged = []
    for machine in machines:
        bad = [*machine.rejected, *(faults[r.path] for r in machine.recordings if r.path in faults)]
        judged.append(
            replace(
                machine,
                recordings=tuple(
                    sorted((r for r in machine.recordings if id(r) in good), key=lambda r: r.path)
                ),
                rejected=tuple(sorted(bad, key=lambda fault: fault.path)),
            )
        )
    return judged


def _listed(rejected: Sequence[Rejected]) -> str:
    if not rejected:
        return "there is none"
    lines = [f"\n  {fault.path}: {fault.reason}. {fault.remedy}" for fault in rejected[:_NAMED]]
    if len(rejected) > _NAMED:
        kinds = Counter(fault.reason for fault in rejected[_NAMED:])
        common, count = kinds.most_common(1)[0]
        lines.append(f"\n  and {len(rejected) - _NAMED} more ({count}: {common})")
    return "".join(lines) + "\n"
