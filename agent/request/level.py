"""The commands that concern the microphone's level: it is taken anew, and that is taken back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

from agent.level.baseline import LevelBaseline
from agent.request.commands import Handler


class Leveled(Protocol):
    """A machine whose level can be taken anew; `agent.pipeline.pipeline.Pipeline`."""

    def take_level(
        self,
        operator: str,
        comment: str = "",
        decibels: float | None = None,
        *,
        bands: bool = False,
    ) -> LevelBaseline:
        """Take the level anew; see `MachineLevel.take` and `take_microphone`."""
        ...

    def undo_level(self, operator: str, comment: str = "") -> LevelBaseline:
        """Take the latest answer back; see `MachineLevel.undo`."""
        ...


def level_handlers(
    machine: Callable[[str], Leveled], changed: Callable[[str], None]
) -> dict[str, Handler]:
    """Who carries them out, by command; each answers with what was said, or taken back.

    Args:
        machine: A machine by its name; raises AuscultError while it is not judged.
        changed: Told of each machine whose level was taken anew.
    """

    def take(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        name = fields["machine"]
        answer = machine(name).take_level(
            fields["operator"], fields["comment"], fields["decibels"], bands=fields["microphone"]
        )
        changed(name)
        return answer.model_dump(mode="json")

    def undo(fields: Mapping[str, Any]) -> Mapping[str, Any]:
        name = fields["machine"]
        answer = machine(name).undo_level(fields["operator"], fields["comment"])
        changed(name)
        return answer.model_dump(mode="json")

    return {"level_baseline": take, "level_baseline_undo": undo}
