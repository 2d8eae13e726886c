"""Which recordings of a folder make a sequence, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from agent.capture.files import AudioInfo, audio_info
from agent.core.errors import AudioError
from agent.core.text import natural_key, plural
from agent.drift.baseline import DriftError
from agent.recordings.dcase import is_dcase, read_dcase
from agent.recordings.model import Rejected
from agent.recordings.plain import is_plain, read_plain
from agent.recordings.walk import audio_files, subfolders

# One recording that broke off at its start would make every step as short as itself.
_LEAST_SHARE = 0.1
_REMEDY = "Give a folder of recordings in time order, or a machine's training folder."


@dataclass(frozen=True, slots=True)
class Chosen:
    """The recordings of a sequence.

    Attributes:
        files: In natural order of their names.
        left_out: Of a training folder, how many recordings of which folder are no part of the
            healthy machine's story, by the folder's name.
    """

    files: tuple[Path, ...]
    left_out: dict[str, int]


def choose_recordings(folder: Path) -> Chosen:
    """The healthy recordings of a machine's training folder; of any other folder, all.

    Raises:
        DriftError: There are none, or the folder holds machines' folders.
    """
    try:
        everything = list(audio_files(folder))
        wanted = _healthy(folder)
        machines = [path.name for path in subfolders(folder).values() if _is_machine(path)]
    except OSError as fault:
        raise DriftError(f"cannot be listed: {fault.strerror}", where=folder) from fault
    if not everything:
        raise DriftError("holds no audio", where=folder, remedy=_REMEDY)
    if wanted is None:
        if machines:
            raise DriftError(
                f"holds machines' training folders ({', '.join(machines)}), not one sequence",
                where=folder,
                remedy=f"Give one of them: {folder / machines[0]}",
            )
        wanted = set(everything)
    files = [path for path in everything if path in wanted]
    if not files:
        raise DriftError(
            "is a training folder without healthy recordings", where=folder, remedy=_REMEDY
        )
    others = Counter(
        "/".join(path.relative_to(folder).parts[:-1][:1])
        for path in everything
        if path not in wanted
    )
    return Chosen(
        tuple(sorted(files, key=lambda path: natural_key(path.relative_to(folder).as_posix()))),
        dict(sorted(others.items())),
    )


def one_format(files: Sequence[Path]) -> tuple[dict[Path, AudioInfo], list[Rejected]]:
    """The files of the rate and channel count that most have, in order, and those to be skipped.

    Skipped are others, unreadable ones and those shorter than a tenth of the usual length.
    """
    known: dict[Path, AudioInfo] = {}
    skipped: list[Rejected] = []
    for file in files:
        found = _header(file)
        if isinstance(found, Rejected):
            skipped.append(found)
        else:
            known[file] = found
    if not known:
        return {}, skipped
    (form, _), *_ = Counter((info.rate, info.channels) for info in known.values()).most_common(1)
    usual = median(info.seconds for info in known.values())
    used: dict[Path, AudioInfo] = {}
    for file, info in known.items():
        if (info.rate, info.channels) != form:
            why = f"has {_form(info.rate, info.channels)}, where most have {_form(*form)}"
            skipped.append(Rejected(file, why, "Convert it, or give a --bundle: it resamples."))
        elif info.seconds < _LEAST_SHARE * usual:
            why = f"lasts {info.seconds:.2g} s, where {usual:.3g} s are usual"
            skipped.append(Rejected(file, why, "Take it away."))
        else:
            used[file] = info
    return used, skipped


def _header(file: Path) -> AudioInfo | Rejected:
    try:
        return audio_info(file)
    except AudioError as fault:
        return Rejected(file, fault.problem, fault.remedy)


def _form(rate: int, channels: int) -> str:
    return f"{rate} Hz and {plural(channels, 'channel')}"


def _is_machine(folder: Path) -> bool:
    return is_plain(folder) or is_dcase(folder)


def _healthy(folder: Path) -> set[Path] | None:
    """A machine's healthy recordings; None where the folder is not laid out for training."""
    if not _is_machine(folder):
        return None
    machine = read_plain(folder) if is_plain(folder) else read_dcase(folder)
    return {recording.path for recording in machine.of("normal")}
