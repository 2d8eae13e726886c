"""A folder of recordings without any order in it: all of them are of the healthy machine."""

from __future__ import annotations

import re
from pathlib import Path

from agent.capture.files import is_audio
from agent.core.errors import ConfigError
from agent.core.text import plural
from agent.recordings.model import Machine, Recording
from agent.recordings.walk import audio_files

# What a name says of a recording that is none of the healthy machine.
_OTHERWISE = re.compile(
    r"(?<![a-z])(abnormal|anomal(y|ies|ous)|fault(s|y)?|defect(s|ive)?|broken|damaged?|bad|ng|"
    r"idle|noise|background)(?![a-z])"
)


def is_loose(folder: Path) -> bool:
    """Whether a folder holds recordings, and none below it."""
    return any(
        path.is_file() and is_audio(path) and not path.name.startswith(".")
        for path in folder.iterdir()
    ) and all(path.parent == folder for path in audio_files(folder))


def read_loose(folder: Path) -> Machine:
    """List them, each as healthy.

    Raises:
        ConfigError: A name says otherwise.
    """
    files = list(audio_files(folder))
    others = [path.name for path in files if _OTHERWISE.search(path.stem.lower())]
    if others:
        raise ConfigError(
            f"{plural(len(others), 'recording')} of it by the name not of the healthy machine "
            f"running ({others[0]}), and no folders say which is which",
            where=folder,
            remedy="Move the healthy ones to normal/ in it, others to test/anomaly/, idle/ "
            "(standing still) or noise/ (the hall without it).",
        )
    return Machine(
        folder.name, folder, tuple(Recording(path, folder.name, "normal") for path in files)
    )
