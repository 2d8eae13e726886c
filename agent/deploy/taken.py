"""The memory of the bundles that a machine took up: whose they are, and their highest counter.

A signature says who made a bundle, and not that it is meant for this place, or is the latest. So a
bundle names its machine and has a counter that the workstation counts up; what a machine has taken
up and proved is remembered in the state:

    <state>/bank/<machine>/taken.json

Of a signed setup another machine's bundle, or an older one, is refused then; of any other it is
told. An operator can have it taken up all the same (`reload` with `allow_older`); that is told too.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.bundle.manifest import Manifest
from agent.core.schema import Strict
from agent.core.state_file import StateFile

_FILE = "taken.json"


class _Memory(Strict):
    machine: Annotated[str, Field(description="Whose bundles it takes; empty before the first")] = (
        ""
    )
    counter: Annotated[int, Field(ge=0, description="Highest counter that proved itself")] = 0


class Taken:
    """One machine's memory of what it took up.

    Args:
        home: The machine's folder in the state.
    """

    def __init__(self, home: Path) -> None:
        self._file = StateFile(
            home / _FILE, _Memory,
            what="which bundles were taken up", otherwise="any machine's and any age is taken up",
        )  # fmt: skip
        self._memory: _Memory | None = None

    def doubt(self, manifest: Manifest) -> str:
        """Why a bundle may not be meant to be taken up; empty when there is no reason."""
        known = self._known()
        machine = _machine_of(manifest)
        if known.machine and machine != known.machine:
            return f"is of machine '{machine}', and those of '{known.machine}' are taken up here"
        if manifest.counter < known.counter:
            return (
                f"is older (counter {manifest.counter}, made {manifest.created}) than one that was "
                f"taken up before (counter {known.counter})"
            )
        return ""

    def remember(self, manifest: Manifest, *, back: bool = False) -> None:
        """A bundle has proved itself in use.

        Args:
            manifest: Its manifest.
            back: Also when that goes back to an older one, or another machine's: an operator has
                said so.
        """
        known = self._known()
        counter = manifest.counter if back else max(manifest.counter, known.counter)
        fresh = _Memory(machine=_machine_of(manifest), counter=counter)
        if fresh != known:
            self._memory = fresh
            self._file.save(fresh)

    def _known(self) -> _Memory:
        if self._memory is None:
            self._memory = self._file.load_or_new()
        return self._memory


def _machine_of(manifest: Manifest) -> str:
    """The machine that a bundle is for; of older ones the machine that it was trained for."""
    return manifest.machine or manifest.trained_on.machine
