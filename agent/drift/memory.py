"""What of a machine's drift outlives the process: `<state_dir>/state/drift/<machine>.json`."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError

from agent.core.errors import AuscultError
from agent.core.schema import Strict, explain
from agent.core.storage import write_atomic
from agent.drift.events import DriftEvent, DriftStatus
from agent.drift.state import MonitorState

log = logging.getLogger(__name__)

SCHEMA_VERSION = 1
# Baselines whose state is kept: the present one, and those a bundle may be rolled back to.
KEPT = 3


class DriftMemory(Strict):
    """A machine's drift between two runs of the agent."""

    schema_version: Annotated[int, Field(ge=1, le=SCHEMA_VERSION, description="Schema")] = (
        SCHEMA_VERSION
    )
    baseline: Annotated[
        str, Field(description="SHA-256 of the baseline in use; empty when there was none")
    ] = ""
    status: Annotated[
        DriftStatus | None, Field(description="How the drift stood; null before an evaluation")
    ] = None
    untold: Annotated[
        tuple[DriftEvent, ...],
        Field(description="Events that the publishers may not have been given yet"),
    ] = ()
    monitors: Annotated[
        tuple[MonitorState, ...],
        Field(max_length=KEPT, description="Of each baseline what its monitor remembers"),
    ] = ()


class DriftFile:
    """One machine's drift on disk.

    A fault of the disk is logged once and tried again with every save: the monitor goes on.

    Args:
        path: The file; its folder is made when needed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failing = False

    def load(self) -> DriftMemory:
        """What an earlier run left; an empty one when there is nothing that can be used.

        A file that cannot be understood is moved aside, for people to look at.
        """
        try:
            return DriftMemory.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            pass
        except OSError as fault:
            log.warning("%s: cannot be read (%s): drift begins anew", self._path, fault)
        except ValidationError as fault:
            self.set_aside(explain(fault))
        return DriftMemory()

    def set_aside(self, problem: str) -> None:
        """Keep the file under another name; drift begins anew."""
        aside = self._path.with_name(self._path.name + ".damaged")
        log.warning(
            "%s: cannot be used (%s): drift begins anew, accepted changes are forgotten; "
            "the file is kept as %s",
            self._path, problem, aside.name,
        )  # fmt: skip
        try:
            self._path.replace(aside)
        except OSError as fault:
            log.warning("%s: cannot be moved aside: %s", self._path, fault)

    def save(self, memory: DriftMemory) -> None:
        """Write it; never raises."""
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._path, memory.model_dump_json().encode() + b"\n")
        except (OSError, AuscultError) as fault:
            if not self._failing:
                log.warning("drift's state is not saved, and will be tried again: %s", fault)
            self._failing = True
            return
        if self._failing:
            log.info("%s: saved again", self._path)
        self._failing = False
