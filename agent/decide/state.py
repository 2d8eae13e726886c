"""What must survive a restart, one JSON file a machine: `<state_dir>/state/<machine>.json`."""

from __future__ import annotations

from pathlib import Path

from agent.core.state_file import StateFile
from agent.decide.memory import AlarmMemory

# A shelving runs out while nothing else changes: what is left of it is noted so often, seconds.
_REFRESH_SECONDS = 60.0


class AlarmFile:
    """One machine's alarm on disk.

    A fault of the disk is logged once and tried again with every change: alarms go on without it.

    Args:
        path: The file; its folder is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self._file = StateFile(
            path, AlarmMemory, what="the alarm's state", otherwise="the alarm begins at normal"
        )
        self._saved: AlarmMemory | None = None
        self._saved_wall = 0.0

    def load(self) -> AlarmMemory | None:
        """What an earlier run left; None when there is nothing, or nothing that can be used.

        A file that cannot be understood is moved aside, for people to look at.
        """
        memory = self._file.load()
        if memory is not None:
            self._note(memory)
        return memory

    def save(self, memory: AlarmMemory) -> bool:
        """Write the memory if it says anything new.

        Returns:
            Whether the disk holds it.
        """
        runs_out = memory.shelved_seconds > 0.0 or memory.muted_seconds > 0.0
        stale = runs_out and abs(memory.saved_wall - self._saved_wall) >= _REFRESH_SECONDS
        if _essence(memory) == self._saved and not stale:
            return True
        if not self._file.save(memory):
            return False
        self._note(memory)
        return True

    def _note(self, memory: AlarmMemory) -> None:
        self._saved, self._saved_wall = _essence(memory), memory.saved_wall


def _essence(memory: AlarmMemory) -> AlarmMemory:
    """Without what changes by itself as time passes."""
    return memory.model_copy(
        update={"saved_wall": 0.0, "shelved_seconds": 0.0, "muted_seconds": 0.0}
    )
