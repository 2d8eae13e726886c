"""The layout an engineer would make of one machine's recordings.

    <machine>/normal/            healthy, required
    <machine>/idle/              standing still, optional
    <machine>/noise/             the surroundings without the machine, optional
    <machine>/clean/             the machine without its surroundings, optional
    <machine>/test/normal/       healthy, held back to judge with, optional
    <machine>/test/anomaly/      faulty, optional

Any names, any sub-folders.
"""

from __future__ import annotations

from pathlib import Path

from trainer.recordings.model import Machine, Recording, Rejected
from trainer.recordings.walk import audio_files, subfolders

NORMAL = "normal"
TEST = "test"
_ROLES = (NORMAL, "idle", "noise", "clean")
_LABELS = ("normal", "anomaly")


def is_plain(folder: Path) -> bool:
    """Whether a folder is one machine's: it has `normal/`."""
    return NORMAL in subfolders(folder)


def read_plain(folder: Path) -> Machine:
    """List one machine's recordings. Recordings in folders of other names are rejected."""
    found: list[Recording] = []
    rejected: list[Rejected] = []
    for name, place in subfolders(folder).items():
        if name in _ROLES:
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
    return Machine(folder.name, folder, tuple(found), tuple(rejected))


def _stray(path: Path, folder: str, wanted: str) -> Rejected:
    return Rejected(path, f"lies in {folder}/, which has no meaning here", f"Move it to {wanted}.")
