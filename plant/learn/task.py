"""What is to be done for one machine, and what became of it: plain records that cross processes."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError

from agent import __version__
from agent.core.errors import AuscultError
from agent.core.schema import Strict
from plant.learn.inputs import digest_of_file
from plant.learn.schema import HowLearnt, PlantFile

RECORD = "outcome.json"


class PlantError(AuscultError):
    """Work on a plant's machines that could not be done."""


class Task(Strict):
    """One machine to be learnt.

    A folder of `out` belongs to it alone: `machines/<name>/` is there as a whole or not at all.
    """

    machine: str
    sources: tuple[Path, ...]
    how: HowLearnt
    out: Path
    sign: Path | None
    threads: Annotated[int, Field(ge=1)] = 1
    version: str = __version__

    @property
    def place(self) -> Path:
        """Where its bundle and what is known of it are."""
        return self.out / "machines" / self.machine

    @property
    def bundle(self) -> Path:
        """Its bundle."""
        return self.place / f"{self.machine}.bundle"

    @property
    def log(self) -> Path:
        """What the commands said."""
        return self.out / "logs" / f"{self.machine}.log"

    @property
    def seen(self) -> Path:
        """Lengths, times and digests of its recordings when they were last looked at."""
        return self.out / "inputs" / f"{self.machine}.json"

    def recipe(self) -> str:
        """Digest of all that shapes its bundle beside its recordings."""
        how = self.how.model_dump(mode="json")
        lent = self.how.encoder_from
        files = [one for one in (self.sign, self.how.weights) if one is not None and one.is_file()]
        if lent is not None:
            files.append(lent / "manifest.json")
        preset = self.how.preset
        if preset is not None and preset.endswith((".yaml", ".yml")):
            files.append(Path(preset))
        told = {
            "machine": self.machine,
            "how": how,
            "version": self.version,
            "files": [digest_of_file(one) if one.is_file() else str(one) for one in files],
        }
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


class Outcome(Strict):
    """What became of a machine: `machines/<name>/outcome.json` where it went well."""

    machine: Annotated[str, Field(description="The machine")]
    state: Annotated[
        Literal["built", "kept", "failed"],
        Field(description="Built now, kept as it was built before, or failed"),
    ]
    reason: Annotated[str, Field(description="Why it failed, in words")] = ""
    recipe: Annotated[str, Field(description="Digest of settings and version")] = ""
    content: Annotated[str, Field(description="Digest of the recordings")] = ""
    digest: Annotated[str, Field(description="Digest of the bundle's manifest")] = ""
    attempt: Annotated[str, Field(description="Names the attempt that made it")] = ""
    node: Annotated[str, Field(description="Where it was made")] = ""
    finished: Annotated[str, Field(description="When, ISO 8601 UTC")] = ""
    seconds: Annotated[float, Field(ge=0, description="How long it took, seconds")] = 0.0
    figures: Annotated[dict[str, Any], Field(description="As in figures.json of its bundle")] = {}


def read_outcome(task: Task) -> Outcome | None:
    """What was recorded of a machine that was built; None where there is nothing whole."""
    try:
        found = Outcome.model_validate_json((task.place / RECORD).read_bytes())
        manifest = json.loads((task.bundle / "manifest.json").read_bytes())
    except (OSError, ValidationError, ValueError):
        return None
    return found if manifest.get("digest") == found.digest else None


def tasks_of(plant: PlantFile, *, threads: int, only: tuple[str, ...] = ()) -> list[Task]:
    """A task for each machine, or for those named.

    Raises:
        PlantError: There is no machine of a name.
    """
    names = {one.name for one in plant.machines}
    for name in only:
        if name not in names:
            raise PlantError(
                f"there is no machine '{name}'", remedy=f"It has {', '.join(sorted(names))}."
            )
    return [
        Task(
            machine=one.name,
            sources=tuple(path.absolute() for path in one.data),
            how=plant.how(one),
            out=plant.out.absolute(),
            sign=None if plant.sign is None else plant.sign.absolute(),
            threads=threads,
        )
        for one in plant.machines
        if not only or one.name in only
    ]
