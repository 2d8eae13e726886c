"""From what settings cost to the ones to use.

The agent shares its device with other work and its heat with nobody: least processor time comes
first, as long as windows are judged well before the next is due; then memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from agent.config.encode import InferenceConfig
from agent.encode.providers import CPU
from agent.tune.measure import Cost, Work

# Share of the time that windows of all machines together may take, by the slow ones.
KEEPING_UP = 0.5
# Differences below this are noise: then memory decides, and then what was tried first.
_CPU_ALIKE = 1.05
_MEMORY_ALIKE_MB = 2.0


@dataclass(frozen=True, slots=True)
class Trial:
    """Settings and what they cost.

    Attributes:
        inference: The settings.
        cost: Of a window, the mean over encoders; of memory their sum.
        load: Share of the time that the windows of all machines take, by slow ones.
        fault: Why it could not be measured; empty when it could.
    """

    inference: InferenceConfig
    cost: Cost | None
    load: float
    fault: str = ""


def thread_counts(cores: int) -> list[int]:
    """Counts worth trying: doubling, and all of them."""
    found = [1]
    while found[-1] * 2 < cores:
        found.append(found[-1] * 2)
    return [*found, cores] if cores > 1 else found


def explore(
    base: InferenceConfig,
    providers: Sequence[Sequence[str]],
    cores: int,
    attempt: Callable[[InferenceConfig], Trial],
) -> Iterator[Trial]:
    """Try settings, one kind after another, each with the best of the kinds before.

    Args:
        base: Where to start; options of providers are kept.
        providers: Lists of execution providers worth trying.
        cores: Cores there are.
        attempt: Measures.

    Yields:
        Each trial as it is done; `best` chooses among them.
    """
    done: list[Trial] = []

    def one(**changes: object) -> Iterator[Trial]:
        start = best(done).inference if done else base
        wanted = start.model_copy(update=changes)
        if all(trial.inference != wanted for trial in done):
            done.append(attempt(wanted))
            yield done[-1]

    plain = {"threads": 1, "spinning": False, "arena": True, "memory_pattern": False}
    for names in providers:
        yield from one(**plain, providers=tuple(names))
    for threads in thread_counts(cores)[1:]:
        yield from one(threads=threads, spinning=False)
        yield from one(threads=threads, spinning=True)
    for arena, pattern in ((True, True), (False, False), (False, True)):
        yield from one(arena=arena, memory_pattern=pattern)


def best(trials: Sequence[Trial]) -> Trial:
    """The trial whose settings to use.

    Raises:
        ValueError: None could be measured.
    """
    measured = [trial for trial in trials if trial.cost is not None]
    if not measured:
        raise ValueError("nothing could be measured")
    able = [trial for trial in measured if trial.load <= KEEPING_UP]
    if not able:
        # None keeps up: the fastest comes nearest.
        return min(measured, key=lambda trial: trial.load)
    chosen = able[0]
    for trial in able[1:]:
        if _better(trial.cost, chosen.cost):
            chosen = trial
    return chosen


def _better(new: Cost | None, old: Cost | None) -> bool:
    assert new is not None
    assert old is not None
    if new.cpu_ms * _CPU_ALIKE < old.cpu_ms:
        return True
    if new.cpu_ms > old.cpu_ms * _CPU_ALIKE:
        return False
    return new.memory_mb < old.memory_mb - _MEMORY_ALIKE_MB


def combined(inference: InferenceConfig, works: Sequence[Work], costs: Sequence[Cost]) -> Trial:
    """The trial of some settings with every encoder.

    Args:
        inference: The settings.
        works: What is to be done.
        costs: Of each one's windows.
    """
    windows = sum(work.per_second for work in works)
    shares = [work.per_second / windows for work in works]

    def mean(name: str) -> float:
        values = [float(getattr(cost, name)) for cost in costs]
        return sum(share * value for share, value in zip(shares, values, strict=True))

    load = sum(
        work.per_second * cost.slow_ms / 1e3 for work, cost in zip(works, costs, strict=True)
    )
    cost = Cost(
        mean("wall_ms"), mean("slow_ms"), mean("cpu_ms"), sum(cost.memory_mb for cost in costs)
    )
    return Trial(inference, cost, load)


def provider_lists(there: Sequence[str]) -> list[tuple[str, ...]]:
    """Lists of execution providers worth trying: the processor, and each accelerator before it."""
    known = ("CUDAExecutionProvider", "TensorrtExecutionProvider")
    return [(CPU,), *((name, CPU) for name in known if name in there)]
