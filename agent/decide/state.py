"""What must survive a restart, one JSON file a machine: `<state_dir>/state/<machine>.json`."""

from __future__ import annotations

import logging
from pathlib import Path

from pydantic import ValidationError

from agent.core.errors import AuscultError
from agent.core.schema import explain
from agent.core.storage import write_atomic
from agent.decide.memory import AlarmMemory

log = logging.getLogger(__name__)

# A shelving runs out while nothing else changes: what is left of it is noted so often, seconds.
_REFRESH_SECONDS = 60.0


class AlarmFile:
    """One machine's alarm on disk.

    A fault of the disk is logged once and tried again with every change: alarms go on without it.

    Args:
        path: The file; its folder is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved: AlarmMemory | None = None
        self._saved_wall = 0.0
        self._failing = False

    def load(self) -> AlarmMemory | None:
        """What an earlier run left; None when there is nothing, or nothing that can be used.

        A file that cannot be understood is moved aside, for people to look at.
        """
        try:
            memory = AlarmMemory.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except OSError as fault:
            log.warning("%s: cannot be read (%s): the alarm begins at normal", self._path, fault)
            return None
        except ValidationError as fault:
            aside = self._path.with_name(self._path.name + ".damaged")
            log.warning(
                "%s: cannot be used (%s): the alarm begins at normal, the file is kept as %s",
                self._path, explain(fault), aside.name,
            )  # fmt: skip
            try:
                self._path.replace(aside)
            except OSError as fault:
                log.warning("%s: cannot be moved aside: %s", self._path, fault)
            return None
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
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, memory.model_dump_json(indent=1).encode() + b"\n")
        except (OSError, AuscultError) as fault:
            if not self._failing:
                log.warning("the alarm's state is not saved, and will be tried again: %s", fault)
            self._failing = True
            return False
        if self._failing:
            log.info("%s: saved again", self._path)
        self._failing = False
        self._note(memory)
        return True

    def _note(self, memory: AlarmMemory) -> None:
        self._saved, self._saved_wall = _essence(memory), memory.saved_wall


def _essence(memory: AlarmMemory) -> AlarmMemory:
    """Without what changes by itself as time passes."""
    return memory.model_copy(
        update={"saved_wall": 0.0, "shelved_seconds": 0.0, "muted_seconds": 0.0}
    )
