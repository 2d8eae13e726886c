"""The layout an engineer would make of one machine's recordings.

    <machine>/normal/            healthy, required
    <machine>/idle/              standing still, optional
    <machine>/noise/             the surroundings without the machine, optional
    <machine>/clean/             the machine without its surroundings, optional
    <machine>/test/normal/       healthy, held back to judge with, optional
    <machine>/test/anomaly/      faulty, optional

Any names and sub-folders. `abnormal/` beside `normal/`, as MIMII has it, holds faulty sound to
test with; in MIMII's own folders (`fan/id_00`) as many healthy recordings are held back
for the test as there are faulty ones, a half at most, evenly over their names (Purohit et al. 2019
draw them at random). ToyADMOS's folders (`NormalSound_IND`, `AnomalousSound_IND`,
`EnvironmentalNoise_CNT`) are taken likewise; of its simultaneous microphones the first.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from agent.recordings.model import Machine, Recording, Rejected
from agent.recordings.walk import audio_files, subfolders

NORMAL = "normal"
TEST = "test"
_ROLES = (NORMAL, "idle", "noise", "clean")
_LABELS = ("normal", "anomaly")


_FAULTY = ("abnormal", "anomaly", "anomalous")
_TOYADMOS = re.compile(r"(normalsound|anomaloussound|environmentalnoise)_", re.IGNORECASE)
_MEANT = {"normalsound": NORMAL, "anomaloussound": "abnormal", "environmentalnoise": "noise"}
_MICROPHONE = re.compile(r"_ch(\d+)_", re.IGNORECASE)
_MIMII = re.compile(r"(id_\d+|case\d+)", re.IGNORECASE)


def is_plain(folder: Path) -> bool:
    """Whether a folder is one machine's: it has `normal/`, or ToyADMOS's `NormalSound_...`."""
    return any(_meant(name) == NORMAL for name in subfolders(folder))


def _meant(name: str) -> str:
    """A folder's name, in lower case, as one of ours."""
    found = _TOYADMOS.match(name)
    return name if found is None else _MEANT[found[1].lower()]


def read_plain(folder: Path) -> Machine:
    """List one machine's recordings. Recordings in folders of other names are rejected."""
    found: list[Recording] = []
    rejected: list[Rejected] = []
    for own, place in subfolders(folder).items():
        name = _meant(own)
        if name in _FAULTY:
            found += [Recording(path, folder.name, TEST, "anomaly") for path in audio_files(place)]
        elif name in _ROLES:
            found += [Recording(path, folder.name, name) for path in audio_files(place)]
        elif name == TEST:
            for path in audio_files(place):
                parts = path.relative_to(place).parts
                label = parts[0].lower() if len(parts) > 1 else None
                if label is None or label in _LABELS:
                    found.append(Recording(path, folder.name, TEST, label))
                else:
                    rejected.append(_stray(path, f"test/{parts[0]}", "test/normal or test/anomaly"))
        else:
            wanted = f"{', '.join(_ROLES)}, test/normal or test/anomaly"
            rejected += [_stray(path, place.name, wanted) for path in audio_files(place)]
    rejected += [
        Rejected(path, "lies beside the folders, so its role is unknown", "Move it to normal/.")
        for path in audio_files(folder)
        if path.parent == folder
    ]
    found, others = _one_microphone(found)
    if _MIMII.fullmatch(folder.name):
        found = _held_back(found)
    return Machine(folder.name, folder, tuple(found), (*rejected, *others))


def _one_microphone(found: list[Recording]) -> tuple[list[Recording], list[Rejected]]:
    """ToyADMOS has a file for each microphone of one take, which are copies to learn from."""
    takes: dict[tuple[Path, str], Recording] = {}
    others: list[Rejected] = []
    for recording in sorted(found, key=lambda r: r.path):
        ch = _MICROPHONE.search(recording.path.name)
        toy = any(_TOYADMOS.match(part) for part in recording.path.parts)
        take = _MICROPHONE.sub("_", recording.path.name) if ch and toy else recording.path.name
        take = re.sub(r"^\d+_", "", take) if ch and toy else take
        if takes.setdefault((recording.path.parent, take), recording) is not recording:
            others.append(
                Rejected(
                    recording.path,
                    "is the same take by another microphone",
                    "Name a folder of that microphone's files alone to learn from it.",
                )
            )
    return list(takes.values()), others


def _held_back(found: list[Recording]) -> list[Recording]:
    """As many healthy recordings for the test as there are faulty ones, a half at most."""
    normal = [r for r in found if r.role == NORMAL]
    faulty = sum(r.label == "anomaly" for r in found)
    count = min(faulty, len(normal) // 2)
    if not count or any(r.role == TEST and r.label == NORMAL for r in found):
        return found
    step = len(normal) / count
    held = {normal[int(n * step)].path for n in range(count)}
    return [
        replace(r, role=TEST, label=NORMAL) if r.path in held and r.role == NORMAL else r
        for r in found
    ]


def _stray(path: Path, folder: str, wanted: str) -> Rejected:
    return Rejected(path, f"lies in {folder}/, which has no meaning here", f"Move it to {wanted}.")
