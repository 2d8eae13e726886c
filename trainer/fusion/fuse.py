"""Finished scores of several systems fused: scores, weights, and figures that can be believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from rich.progress import Progress

from agent.score.scorer import Floats
from trainer.fusion.combine import (
    OFFLINE,
    WEIGHTED,
    Method,
    Normalize,
    combine,
    comparable,
    usual_normalization,
)
from trainer.fusion.search import Objective, Searched, search
from trainer.fusion.systems import ScoredSystem, SectionTable, align
from trainer.metrics.auc import MetricsError
from trainer.metrics.bootstrap import RESAMPLES
from trainer.metrics.files import SectionScores
from trainer.metrics.summary import MachineFigures, Official, official, summarize


@dataclass(frozen=True, slots=True)
class Fused:
    """A fusion of finished scores.

    Attributes:
        systems: What was fused.
        method: How.
        normalize: How scores were made comparable; None where the method brings its own.
        weights: One for each system, sum 1; None where the method heeds none.
        searched: How the weights were found, when labelled clips chose them.
        sections: The fused scores.
        machines: Their figures; with searched weights too good, see `searched.nested`.
        total: The official score over all machines.
        alone: The official score of each system alone.
    """

    systems: tuple[ScoredSystem, ...]
    method: Method
    normalize: Normalize | None
    weights: Floats | None
    searched: Searched | None
    sections: tuple[SectionScores, ...]
    machines: tuple[MachineFigures, ...]
    total: Official
    alone: tuple[Official, ...]

    @property
    def offline(self) -> bool:
        """Whether it takes a whole test set, so that no device can do it."""
        return self.method in OFFLINE


def fuse(
    systems: Sequence[ScoredSystem],
    method: Method = "mean",
    *,
    normalize: Normalize | None = None,
    weights: Sequence[float] | None = None,
    searching: bool = False,
    step: float | None = None,
    objective: Objective = "official",
    repeats: int = 10,
    resamples: int = RESAMPLES,
    seed: int = 0,
    progress: Progress | None = None,
) -> Fused:
    """Fuse.

    Args:
        systems: At least two.
        method: How scores are combined.
        normalize: How they are made comparable; None for the method's usual way.
        weights: One for each system, none negative; equal when None.
        searching: Weights are chosen by the labelled clips instead.
        step: Of the search's grid; None for the finest that is affordable.
        objective: What the search makes as large as can be.
        repeats: How often the search halves the clips.
        resamples: Bootstrap resamples behind the intervals.
        seed: Of halvings and resamples.
        progress: Where to show progress.

    Raises:
        MetricsError: Systems scored different clips, healthy scores are missing, weights do not
            fit, or a section's figures do not exist.
    """
    systems = tuple(systems)
    own_scale = method in {"rank", "test_rank"}
    chosen = normalize or usual_normalization(method)
    tables = align(systems)
    scores = comparable(systems, tables, method, chosen)
    used = _weights(method, weights, len(systems), searching=searching)
    searched = None
    if searching:
        searched = search(
            method, tables, scores, step=step, objective=objective, repeats=repeats, seed=seed,
            progress=progress,
        )  # fmt: skip
        used = searched.weights
    sections = tuple(
        _section(table, combine(method, own, used[None])[0])
        for table, own in zip(tables, scores, strict=True)
    )
    task = None
    if progress is not None:
        task = progress.add_task("resampling clips", total=1 + len(systems))

    def resampled(scored: Sequence[SectionScores]) -> tuple[MachineFigures, ...]:
        found = tuple(summarize(scored, resamples=resamples, seed=seed))
        if progress is not None and task is not None:
            progress.advance(task)
        return found

    machines = resampled(sections)
    alone = [
        official(resampled([_section(table, table.scores[place]) for table in tables]))
        for place in range(len(systems))
    ]
    return Fused(
        systems=systems,
        method=method,
        normalize=None if own_scale else chosen,
        weights=used if method in WEIGHTED else None,
        searched=searched,
        sections=sections,
        machines=machines,
        total=official(machines),
        alone=tuple(alone),
    )


def _weights(
    method: Method, given: Sequence[float] | None, count: int, *, searching: bool
) -> Floats:
    if method not in WEIGHTED and (searching or given is not None):
        raise MetricsError(
            f"the method {method} heeds no weights",
            remedy=f"Leave them out, or fuse by {', '.join(sorted(WEIGHTED))}.",
        )
    if given is None:
        return np.full(count, 1 / count)
    weights = np.asarray(given, dtype=np.float64)
    fit = len(weights) == count and np.isfinite(weights).all() and (weights >= 0).all()
    if not fit or weights.sum() <= 0:
        raise MetricsError(
            f"the weights {', '.join(f'{w:g}' for w in weights)} do not fit {count} systems",
            remedy="Give one for each system, none negative, not all of them 0.",
        )
    shares: Floats = weights / weights.sum()
    return shares


def _section(table: SectionTable, scores: Floats) -> SectionScores:
    return SectionScores(
        machine=table.machine,
        section=table.section,
        names=table.names,
        labels=table.labels,
        domains=table.domains,
        scores=scores,
    )
