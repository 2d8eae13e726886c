"""A rollout: which machines get which bundle, who is first, and how far it is. Kept as JSON."""

from __future__ import annotations

import math
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, ValidationError

from agent.core.schema import Strict
from agent.core.storage import write_atomic, write_json

TargetState: TypeAlias = Literal[
    "pending", "offered", "taken", "passed", "failed", "away",
    "going back", "put back", "not put back",
]  # fmt: skip
#: It failed, or went back because others did.
BACK: frozenset[TargetState] = frozenset({"going back", "put back", "not put back"})
#: A rollout waits for it no more. One that is going back is followed beyond the rollout's end.
OVER: frozenset[TargetState] = BACK | {"passed", "failed", "away"}


_STOP = ".stop"


class KnownBefore(Strict):
    """How a machine was known by the bundle that it ran before."""

    blind: Annotated[bool, Field(description="Its threshold saw no known fault")]
    recognised: Annotated[bool, Field(description="Nothing said that it was another machine's")]


class Target(Strict):
    """One machine of a rollout."""

    device: Annotated[str, Field(description="Its device")]
    machine: Annotated[str, Field(description="Its name")]
    digest: Annotated[str, Field(description="The bundle that it is to run")]
    before: Annotated[str, Field(description="The one that it ran before; empty without any")] = ""
    canary: Annotated[bool, Field(description="Whether it is among the first")] = False
    state: Annotated[TargetState, Field(description="How far it is")] = "pending"
    since: Annotated[float, Field(ge=0, description="Since when, seconds since the epoch")] = 0.0
    reason: Annotated[str, Field(description="Why it failed or was put back")] = ""
    sequence: Annotated[int, Field(ge=0, description="Of its latest offer")] = 0
    offer: Annotated[str, Field(description="Its latest offer, as published")] = ""
    counts: Annotated[
        tuple[int, int, int],
        Field(
            description="Windows judged, those above the threshold, alarms, since it took the "
            "bundle"
        ),
    ] = (0, 0, 0)
    known_before: Annotated[
        KnownBefore | None,
        Field(description="How the bundle before fared; null where that is not known"),
    ] = None
    last: Annotated[
        tuple[int, int, int] | None, Field(description="The device's own counts when last seen")
    ] = None


class Rollout(Strict):
    """A rollout and its machines: `rollouts/<id>.json`."""

    id: Annotated[str, Field(description="Its name; ids sort by time")]
    created: Annotated[float, Field(ge=0, description="When, seconds since the epoch")]
    state: Annotated[
        Literal["running", "done", "put back"],
        Field(description="running; done: nothing is waited for; put back: it failed"),
    ] = "running"
    stage: Annotated[
        Literal["canaries", "all"], Field(description="Who has been offered the bundle")
    ] = "canaries"
    downgrade: Annotated[bool, Field(description="Also where it is older than what runs")] = False
    as_meant: Annotated[
        bool,
        Field(description="Also where a machine is not recognised: an operator says it is meant"),
    ] = False
    reason: Annotated[str, Field(description="Why, in a few words")] = ""
    why: Annotated[str, Field(description="Why it was put back; else empty")] = ""
    targets: Annotated[tuple[Target, ...], Field(description="The machines")]


def new_rollout(
    targets: Sequence[Target],
    *,
    canary_share: float,
    reason: str = "",
    downgrade: bool = False,
    as_meant: bool = False,
) -> Rollout:
    """A rollout that has yet to begin; its canaries are spread over devices and bundles.

    Args:
        targets: The machines.
        canary_share: Share of them that are first; one at least.
        reason: Why.
        downgrade: Also where it is older than what runs.
        as_meant: Also where a machine is not recognised.
    """
    count = min(len(targets), max(1, math.ceil(canary_share * len(targets))))
    ordered = sorted(targets, key=lambda one: (one.device, one.machine))
    step = len(ordered) / count
    first = {int(n * step) for n in range(count)}
    now = time.time()
    return Rollout(
        id=time.strftime("%Y%m%dT%H%M%S", time.gmtime(now)) + f"-{uuid.uuid4().hex[:6]}",
        created=now,
        reason=reason,
        downgrade=downgrade,
        as_meant=as_meant,
        targets=tuple(
            one.model_copy(update={"canary": n in first}) for n, one in enumerate(ordered)
        ),
    )


class Plans:
    """The rollouts of a plant, a file each.

    Args:
        folder: Where they are.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[Path, tuple[tuple[int, int, int], Rollout]] = {}

    def save(self, rollout: Rollout) -> None:
        """Write it, whole or not at all."""
        self._folder.mkdir(parents=True, exist_ok=True)
        write_json(self._folder / f"{rollout.id}.json", rollout.model_dump(mode="json"))

    def all(self) -> Iterator[Rollout]:
        """Every rollout, the oldest first."""
        for path in sorted(self._folder.glob("*.json")):
            with suppress(OSError, ValidationError):
                yield self._read(path)

    def current(self) -> Rollout | None:
        """The oldest that is running; None without any."""
        return next((one for one in self.all() if one.state == "running"), None)

    def stop(self, rollout: Rollout, reason: str) -> None:
        """Ask whoever carries a rollout out to put all its machines back, also when it is done."""
        write_atomic(self._folder / f"{rollout.id}{_STOP}", reason.encode())

    def stopped(self, rollout: Rollout) -> str:
        """Why a rollout is to be put back; empty where nobody asked for it."""
        try:
            reason = (self._folder / f"{rollout.id}{_STOP}").read_text("utf-8", "replace").strip()
        except OSError:
            return ""
        return "called back by an operator" + (f": {reason}" if reason else "")

    def _read(self, path: Path) -> Rollout:
        """A rollout; a file that is as it was is not read again."""
        about = path.stat()
        mark = about.st_mtime_ns, about.st_size, about.st_ino
        if (known := self._known.get(path)) is not None and known[0] == mark:
            return known[1]
        found = Rollout.model_validate_json(path.read_bytes())
        self._known[path] = mark, found
        return found
