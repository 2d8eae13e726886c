"""What an evaluation found: figures of each system, machine and seed, and their summary."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from trainer.metrics.bootstrap import interval
from trainer.metrics.files import SectionScores
from trainer.metrics.summary import Interval, MachineFigures, official
from trainer.preset import Preset

Precision = Literal["int8", "float32"]


@dataclass(frozen=True, slots=True)
class System:
    """One column of the table: a preset, run in one arithmetic.

    Attributes:
        name: What it is called in tables, files and JSON.
        preset: The recipe.
        precision: The arithmetic asked of the exported bundle.
        seeds: Trained once with each.
    """

    name: str
    preset: Preset
    precision: Precision
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Unscored:
    """A test recording that has no score and counts in no figure."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """One machine, one system, one seed.

    Attributes:
        figures: The challenge's figures; None where only healthy recordings were judged.
        sections: The scores they rest on.
        threshold: Clip score above which a clip was called anomalous.
        precision: Arithmetic of the bundle that scored; a preset may keep float32.
        unscored: Test recordings left out.
        seconds: Time it took to train, export and score.
        bundle_bytes: Size of the bundle that scored; 0 where nobody looked.
        promise: Share of healthy clips that the threshold was calibrated to leave above it.
        notes: What test recordings have otherwise than those that were learnt from.
    """

    figures: MachineFigures | None
    sections: tuple[SectionScores, ...]
    threshold: float
    precision: str
    unscored: tuple[Unscored, ...] = ()
    seconds: float = 0.0
    bundle_bytes: int = 0
    promise: float | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Failure:
    """A machine that has no figures under a system, and why; `system` is empty for all of them."""

    machine: str
    system: str
    reason: str


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure over seeds.

    Attributes:
        mean: Mean over the seeds, a fraction; None where the figure does not exist.
        spread: Sample standard deviation over the seeds; None with one seed.
        interval: 95 % bootstrap interval of the mean, where one was asked for.
    """

    mean: float | None
    spread: float | None = None
    interval: Interval | None = None


@dataclass(slots=True)
class Evaluation:
    """Everything an evaluation found.

    Attributes:
        systems: The columns, floors last.
        machines: Names, in the order of the rows.
        outcomes: By system, machine and seed; what failed is absent.
        failures: What failed.
    """

    systems: tuple[System, ...]
    machines: tuple[str, ...]
    outcomes: dict[tuple[str, str, int], Outcome] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)

    def of(self, system: System, machine: str) -> dict[int, Outcome]:
        """Outcomes by seed; empty unless every seed has one, so that means stay comparable."""
        found = {
            seed: self.outcomes[system.name, machine, seed]
            for seed in system.seeds
            if (system.name, machine, seed) in self.outcomes
        }
        return found if len(found) == len(system.seeds) else {}

    def complete(self, system: System) -> list[str]:
        """Machines with the challenge's figures from every seed."""
        return [machine for machine in self.machines if self._figures(system, machine)]

    def judged(self, system: System) -> list[str]:
        """Machines whose recordings were judged with every seed, healthy ones alone or both."""
        return [machine for machine in self.machines if self.of(system, machine)]

    def figure(self, system: System, machine: str, name: str) -> Summary:
        """One of `FIGURES` over the seeds; the interval comes with `hmean`."""
        own = self._figures(system, machine)
        values = [getattr(figures, name) for figures in own]
        if not values or any(value is None for value in values):
            return Summary(None)
        bounds = None
        if name == "hmean":
            bounds = self._interval([[figures] for figures in own])
        return Summary(float(np.mean(values)), _spread(values), bounds)

    def most_telling(self, machine: str) -> System:
        """The best system on a machine, a floor only when there is nothing else."""
        able = [system for system in self.systems if self.of(system, machine)]
        return max(
            able,
            key=lambda s: (not s.preset.floor, self.figure(s, machine, "hmean").mean or -1.0),
        )

    def official(self, system: System) -> Summary:
        """The challenge's one number over the machines that have figures, over the seeds."""
        machines = self.complete(system)
        if not machines:
            return Summary(None)
        by_machine = [self._figures(system, machine) for machine in machines]
        by_seed = [list(own) for own in zip(*by_machine, strict=True)]
        values = [official(figures).value for figures in by_seed]
        return Summary(float(np.mean(values)), _spread(values), self._interval(by_seed))

    def beats_floors(self, system: System) -> bool:
        """Whether its official score is above that of every floor."""
        own = self.official(system).mean
        floors = [self.official(other).mean for other in self.systems if other.preset.floor]
        return own is not None and all(own > floor for floor in floors if floor is not None)

    def _figures(self, system: System, machine: str) -> list[MachineFigures]:
        """The figures of each seed; empty unless every seed has some."""
        found = [outcome.figures for outcome in self.of(system, machine).values()]
        known = [figures for figures in found if figures is not None]
        return known if len(known) == len(found) else []

    @staticmethod
    def _interval(by_seed: Sequence[Sequence[MachineFigures]]) -> Interval:
        # All seeds score the same clips, and resamples depend on the clips alone: the same clips
        # are drawn for each seed, and the mean is taken within a resample.
        return interval(np.mean([official(figures).resampled for figures in by_seed], axis=0))


def file_name(name: str) -> str:
    """A name with nothing in it that a file's name may not hold."""
    return "".join(c if c.isalnum() or c in "-_." else "_" for c in name).strip("_.") or "unnamed"


def _spread(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None
