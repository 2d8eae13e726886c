"""A whole plant: what has to be learnt is learnt, what is done is kept, and one page says how."""

from __future__ import annotations

import fcntl
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from rich.progress import Progress

from agent.core.errors import AuscultError
from plant.learn.figures import LEVELS
from plant.learn.inputs import unchanged
from plant.learn.task import Outcome, PlantError, Task, read_outcome
from plant.learn.work import read_seen
from plant.rollout.repository import Repository

log = logging.getLogger(__name__)


class Workers(Protocol):
    """What learns machines: processes here, or a cluster."""

    def run(self, tasks: Sequence[Task]) -> Iterator[Outcome]:
        """Outcomes as they come, one for each task."""
        ...

    def stop(self) -> None:
        """End what runs."""
        ...


@dataclass(frozen=True, slots=True)
class Built:
    """What a build did.

    Attributes:
        outcomes: One a machine, worst first.
        out: Where all of it is.
        shared_bytes: What bundles need less on this disk because they share files.
    """

    outcomes: tuple[Outcome, ...]
    out: Path
    shared_bytes: int

    @property
    def failed(self) -> tuple[Outcome, ...]:
        """Machines without a bundle of this build."""
        return tuple(one for one in self.outcomes if one.state == "failed")


def build_plant(tasks: Sequence[Task], workers: Workers, progress: Progress) -> Built:
    """Learn machines; a failure of one never stops the others.

    Args:
        tasks: One a machine, all with the same `out`.
        workers: Who does it; stopped at the end.
        progress: Where to show how far it is.

    Raises:
        PlantError: Another build of the same `out` is under way.
    """
    out = tasks[0].out
    out.mkdir(parents=True, exist_ok=True)
    with _alone(out):
        return _build(tasks, workers, progress)


@contextmanager
def _alone(out: Path) -> Iterator[None]:
    """Two builds of one plant would do the same work, and tidy up each other's."""
    with (out / "build.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as fault:
            raise PlantError(
                "another build of this plant is under way", where=out, remedy="Wait for its end."
            ) from fault
        except OSError:  # storage without locks
            log.warning("%s: knows no locks; see that no other build is under way there", out)
        yield


def _build(tasks: Sequence[Task], workers: Workers, progress: Progress) -> Built:
    out = tasks[0].out
    kept = {task.machine: found for task in tasks if (found := _kept(task)) is not None}
    bar = progress.add_task("machines", total=len(tasks), completed=len(kept))
    outcomes = list(kept.values())
    left = [task for task in tasks if task.machine not in kept]
    try:
        for outcome in workers.run(left) if left else ():
            outcomes.append(outcome)
            progress.advance(bar)
    finally:
        workers.stop()
        # What builds and nodes left that died.
        shutil.rmtree(out / "work", ignore_errors=True)
    repository = Repository(out / "repository")
    by_name = {task.machine: task for task in tasks}
    for outcome in outcomes:
        if outcome.state != "failed":
            repository.add(by_name[outcome.machine].bundle, share=True)
    return Built(tuple(sorted(outcomes, key=badness)), out, repository.shared_bytes)


def _kept(task: Task) -> Outcome | None:
    """What was learnt before, where nothing has changed since; decided without reading sound."""
    found = read_outcome(task)
    try:
        if found is None or found.recipe != task.recipe():
            return None
    except (OSError, AuscultError):
        return None
    seen = read_seen(task)
    if not seen or not unchanged(task.sources, seen):
        return None
    return found.model_copy(update={"state": "kept"})


def badness(outcome: Outcome) -> tuple[int, float, float, str]:
    """Orders outcomes worst first: verdict, then faults missed, then false alarms, then name."""
    figures = outcome.figures
    level = "failed" if outcome.state == "failed" else figures.get("level", "cannot tell")
    rank = LEVELS.index(level) if level in LEVELS else 0
    faults, found = figures.get("faults") or 0, figures.get("found") or 0
    missed = (faults - found) / faults if faults else 0.0
    return rank, -missed, -(figures.get("false_alarm_share") or 0.0), outcome.machine
