"""What was collected from a machine, as recordings to learn from."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from agent.capture.recorder import FOLDERS
from agent.collect.retention import survey_sessions
from agent.collect.session import read_session
from agent.core.errors import AudioError, AuscultError
from agent.recordings.inspect import inspect_recordings
from agent.recordings.model import Machine, Recording, Rejected


def collected_machine(root: Path, name: str, progress: Progress | None = None) -> Machine:
    """A machine's collected sessions, opened and judged.

    Args:
        root: The state's folder of collected sound.
        name: The machine's.
        progress: Where to show progress.

    Returns:
        Recordings named `SESSION/FILE`, as rows of a bank name what joined it; a session that
        cannot be read, and every file that cannot be used, is in `rejected`.

    Raises:
        AudioError: No healthy sound was collected, or none can be used.
    """
    found: list[Recording] = []
    rejected: list[Rejected] = []
    for stored in survey_sessions(root):
        if stored.machine != name:
            continue
        try:
            session = read_session(stored.folder)
        except AuscultError as fault:
            rejected.append(Rejected(stored.folder, fault.problem, fault.remedy))
            continue
        found += [
            Recording(stored.folder / segment.file, name, FOLDERS[session.label])
            for segment in session.segments
        ]
    used, bad = inspect_recordings(sorted(found, key=lambda one: one.path), progress=progress)
    rejected += bad
    if not any(one.role == "normal" for one in used):
        why = f": {rejected[0].path}: {rejected[0].reason}" if rejected else ""
        raise AudioError(
            f"there is no usable healthy sound of '{name}' among what was collected{why}",
            where=root,
            remedy="Collect some while the machine runs in good order, ten minutes or more: the "
            "page does it, or `auscult collect --label healthy --seconds 600`.",
        )
    return Machine(name, root, tuple(used), tuple(rejected))
