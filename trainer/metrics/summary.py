"""From scored sections to the figures of each machine and of the whole test."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from trainer.metrics.auc import DomainAuc, MetricsError, auc_scores, harmonic_mean
from trainer.metrics.bootstrap import (
    RESAMPLES,
    Floats,
    Resamples,
    bootstrap,
    harmonic_means,
    interval,
)
from trainer.metrics.decisions import DecisionQuality, decision_quality
from trainer.metrics.files import SectionScores

Interval: TypeAlias = tuple[float, float]
# Below this many clips of one label and domain a bootstrap cannot show how much they may vary.
_FEW = 10
FIGURES = ("auc_source", "auc_target", "pauc", "ap", "hmean")


@dataclass(frozen=True, slots=True)
class SectionFigures:
    """One section's figures, and the resamples their intervals come from."""

    section: str
    auc: DomainAuc
    resampled: Resamples


@dataclass(frozen=True, slots=True)
class MachineFigures:
    """One machine's figures: of its only section, or harmonic means over its sections.

    Attributes:
        machine: Its name.
        auc_source: Fraction; None where its test set has domains but no source normals.
        auc_target: Likewise.
        pauc: Partial AUC.
        ap: Average precision, in no mean.
        hmean: Harmonic mean over all areas of all its sections.
        intervals: 95 % bootstrap interval of each of those that exists but for `ap`, by name.
        sections: The sections, by number.
        clips: Test clips they rest on.
        fewest: Clips in the smallest stratum of label and domain of a section.
        decisions: Quality of the decisions for each domain and for `all`; empty without decisions.
    """

    machine: str
    auc_source: float | None
    auc_target: float | None
    pauc: float
    ap: float
    hmean: float
    intervals: dict[str, Interval]
    sections: dict[str, SectionFigures]
    clips: int
    fewest: int
    decisions: dict[str, DecisionQuality]


@dataclass(frozen=True, slots=True)
class Official:
    """The harmonic mean over every area of every section of every machine.

    Attributes:
        value: Fraction.
        interval: 95 % bootstrap interval; the machines are taken as they are, their clips drawn.
        resampled: The mean in each resample, shape `(resamples,)`.
    """

    value: float
    interval: Interval
    resampled: Floats


def machine_figures(
    sections: Sequence[SectionScores], *, resamples: int = RESAMPLES, seed: int = 0
) -> MachineFigures:
    """Figures of one machine from all of its sections.

    Args:
        sections: Its scored sections, at least one.
        resamples: Bootstrap resamples.
        seed: Seed of the resampling.

    Raises:
        MetricsError: A section's figures do not exist (one class only), naming its file.
    """
    figures: dict[str, SectionFigures] = {}
    for index, section in enumerate(sections):
        # A section's resamples must not move with another's: each draws from its own stream.
        drawn = int(np.random.SeedSequence((seed, index)).generate_state(1)[0])
        clips = (section.labels, section.domains, section.scores)
        try:
            auc = auc_scores(*clips)
            resampled = bootstrap(*clips, resamples=resamples, seed=drawn)
        except MetricsError as fault:
            where = section.origin or f"{section.machine}, section {section.section}"
            raise MetricsError(fault.problem, where=where, remedy=fault.remedy) from fault
        figures[section.section] = SectionFigures(section.section, auc, resampled)
    found = list(figures.values())

    source, source_interval = _over(found, lambda s: s.auc.auc_source, lambda s: s.auc_source)
    target, target_interval = _over(found, lambda s: s.auc.auc_target, lambda s: s.auc_target)
    pauc, pauc_interval = _over(found, lambda s: s.auc.pauc, lambda s: s.pauc)
    assert pauc is not None
    overall = official_of(found)
    intervals = {
        "auc_source": source_interval,
        "auc_target": target_interval,
        "pauc": pauc_interval,
        "hmean": overall.interval,
    }
    return MachineFigures(
        machine=sections[0].machine,
        auc_source=source,
        auc_target=target,
        pauc=pauc,
        ap=harmonic_mean(section.auc.ap for section in found),
        hmean=overall.value,
        intervals={name: bounds for name, bounds in intervals.items() if bounds is not None},
        sections=figures,
        clips=sum(len(section.names) for section in sections),
        fewest=min(min(Counter(zip(s.labels, s.domains, strict=True)).values()) for s in sections),
        decisions=_decisions(sections),
    )


def summarize(
    sections: Iterable[SectionScores], *, resamples: int = RESAMPLES, seed: int = 0
) -> list[MachineFigures]:
    """Figures of every machine, in the order of first appearance.

    Raises:
        MetricsError: As `machine_figures`.
    """
    machines: dict[str, list[SectionScores]] = {}
    for section in sections:
        machines.setdefault(section.machine, []).append(section)
    return [
        machine_figures(own, resamples=resamples, seed=_seed_of(name, seed))
        for name, own in machines.items()
    ]


def too_few(machines: Sequence[MachineFigures]) -> str:
    """A warning that names the machines whose intervals cannot be trusted; empty when none."""
    named = [f"{m.machine} ({m.fewest})" for m in machines if m.fewest < _FEW]
    if not named:
        return ""
    return (
        f"fewer than {_FEW} test clips of a kind, intervals are too narrow to rely on: "
        f"{', '.join(named)}"
    )


def official(machines: Sequence[MachineFigures]) -> Official:
    """The challenge's one number over these machines, with its 95 % interval."""
    return official_of([section for machine in machines for section in machine.sections.values()])


def official_of(sections: Sequence[SectionFigures]) -> Official:
    """The harmonic mean over every area of these sections, with its 95 % interval."""
    value = harmonic_mean(v for section in sections for v in section.auc.values())
    resampled = harmonic_means([v for section in sections for v in section.resampled.values()])
    return Official(value, interval(resampled), resampled)


def _seed_of(machine: str, seed: int) -> int:
    # Independent between machines, and the same for a machine whichever others stand beside it.
    mixed = np.random.SeedSequence((seed, *machine.encode())).generate_state(1)
    return int(mixed[0])


def _over(
    sections: Sequence[SectionFigures],
    figure: Callable[[SectionFigures], float | None],
    resampled: Callable[[Resamples], Floats | None],
) -> tuple[float | None, Interval | None]:
    values = [value for s in sections if (value := figure(s)) is not None]
    drawn = [own for s in sections if (own := resampled(s.resampled)) is not None]
    if not values:
        return None, None
    return harmonic_mean(values), interval(harmonic_means(drawn))


def _decisions(sections: Sequence[SectionScores]) -> dict[str, DecisionQuality]:
    calls: list[npt.NDArray[np.bool_]] = [
        section.decisions for section in sections if section.decisions is not None
    ]
    if len(calls) != len(sections):
        return {}
    labels = [label for section in sections for label in section.labels]
    domains = [domain for section in sections for domain in section.domains]
    return decision_quality(labels, domains, np.concatenate(calls))
