"""What of a machine's drift outlives the process: `<state_dir>/state/drift/<machine>.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.core.schema import Strict
from agent.core.state_file import StateFile
from agent.drift.events import DriftEvent, DriftStatus
from agent.drift.state import MonitorState

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


def drift_file(path: Path | None) -> StateFile[DriftMemory]:
    """One machine's drift on disk.

    Args:
        path: The file; None for nowhere.
    """
    return StateFile(
        path,
        DriftMemory,
        what="drift's state",
        otherwise="drift begins anew, accepted changes are forgotten",
    )
