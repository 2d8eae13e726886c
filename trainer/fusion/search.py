"""Weights of a fusion by grid search on labelled clips, and what such weights are worth elsewhere.

The figure of the best weights on the clips that chose them is too good: among many weights some fit
by chance. So the search is repeated with machines, sections or clips left out, and each figure is
taken on what its weights were not chosen by (nested cross-validation; Varma & Simon 2006, "Bias in
error estimation when using cross-validation for model selection"). Each single system and equal
weights are judged on the same clips, so that the comparison is fair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from math import comb
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from agent.score.scorer import Floats
from trainer.fusion.combine import Method, combine
from trainer.fusion.systems import SectionTable
from trainer.metrics.auc import MAX_FPR, MetricsError, Split, harmonic_mean, split_clips
from trainer.metrics.bootstrap import harmonic_means, weighted_auc

By: TypeAlias = Literal["machine", "section", "clip"]
# official: AUC source, AUC target and pAUC; auc, pauc: those alone.
Objective: TypeAlias = Literal["official", "auc", "pauc"]
# Steps that divide 1, finest first, and how many sets of weights are tried at most.
_STEPS = (0.05, 0.1, 0.125, 0.2, 0.25, 0.5)
_MOST = 1500
# With a step of the user's own, which may take long, but must fit in memory.
_BOUND = 50_000
# Objectives closer than this are equal.
_EQUAL = 1e-9


@dataclass(frozen=True, slots=True)
class Nested:
    """Figures on clips that chose nothing; fractions, harmonic means over sections and areas.

    Attributes:
        by: What was left out in turn.
        figure: Of searched weights.
        equal: Of equal weights, on the same clips.
        best_alone: Of the one system that the same search would choose.
        alone: Of each system alone.
        spread: Standard deviation of `figure` over repeated halvings; None where nothing is random.
        weights: Weights chosen each time, shape `(times, systems)`.
    """

    by: By
    figure: float
    equal: float
    best_alone: float
    alone: tuple[float, ...]
    spread: float | None
    weights: Floats


@dataclass(frozen=True, slots=True)
class Searched:
    """What a search found.

    Attributes:
        weights: The best on all clips, sum 1.
        figure: Of these on the clips that chose them: too good to be reported.
        step: Step of the grid.
        tried: Sets of weights tried.
        nested: Honest figures.
        objective: What was searched for, and what all these figures are of.
    """

    weights: Floats
    figure: float
    step: float
    tried: int
    nested: tuple[Nested, ...]
    objective: Objective = "official"


def simplex(systems: int, step: float) -> Floats:
    """All weights >= 0 of sum 1 in multiples of a step.

    Returns:
        Shape `(sets, systems)`.
    """
    units = round(1 / step)
    bars = np.array(list(combinations(range(units + systems - 1), systems - 1)))
    bars = bars.reshape(-1, systems - 1)
    edges = np.concatenate(
        [
            np.full((len(bars), 1), -1),
            bars,
            np.full((len(bars), 1), units + systems - 1),
        ],
        axis=1,
    )
    found: Floats = (np.diff(edges, axis=1) - 1) / units
    return found


def usual_step(systems: int) -> float:
    """The finest step that is still affordable."""
    for step in _STEPS:
        if comb(round(1 / step) + systems - 1, systems - 1) <= _MOST:
            return step
    return 1.0


def search(
    method: Method,
    tables: Sequence[SectionTable],
    scores: Sequence[Floats],
    *,
    step: float | None = None,
    objective: Objective = "official",
    repeats: int = 10,
    seed: int = 0,
    progress: Progress | None = None,
) -> Searched:
    """Find weights, and tell what they are worth.

    Args:
        method: One that heeds weights.
        tables: The sections.
        scores: Comparable scores of each, shape `(systems, n)`.
        step: Of the grid; None for the finest that is affordable.
        objective: What the weights are to make as large as can be.
        repeats: How often the clips are halved.
        seed: Of the halvings.
        progress: Where to show progress.

    Raises:
        MetricsError: A section's figures do not exist, or the step makes too many sets of weights.
    """
    systems = len(scores[0])
    step = step or usual_step(systems)
    sets = comb(round(1 / step) + systems - 1, systems - 1)
    if sets > _BOUND:
        raise MetricsError(
            f"a step of {step:g} makes {sets} sets of weights of {systems} systems, "
            f"{_BOUND} at most can be tried",
            where="--step",
            remedy=f"Leave it out ({usual_step(systems):g} is taken), or fuse fewer systems.",
        )
    grid = simplex(systems, step)
    halves = _halves(tables, repeats, np.random.default_rng(seed))
    task = None
    if progress is not None:
        task = progress.add_task(f"trying {len(grid)} sets of weights", total=len(tables))

    def advance() -> None:
        if progress is not None and task is not None:
            progress.advance(task)

    judge = _Judge(method, tables, scores, grid, halves, objective, advance)
    best = judge.best(judge.whole)
    nested = [judge.leaving("machine"), judge.leaving("section"), judge.halving()]
    return Searched(
        weights=grid[best],
        figure=float(judge.whole[best]),
        step=step,
        tried=len(grid),
        nested=tuple(found for found in nested if found is not None),
        objective=objective,
    )


class _Judge:
    """The areas of every set of weights, on all clips and on each half of them.

    The sets are those of the grid, then each system alone and equal weights, which belong to no
    search.
    """

    def __init__(
        self,
        method: Method,
        tables: Sequence[SectionTable],
        scores: Sequence[Floats],
        grid: Floats,
        halves: Sequence[Floats],
        wanted: Objective,
        advance: Callable[[], None],
    ) -> None:
        systems = grid.shape[1]
        self._tables = tables
        self._searched = slice(0, len(grid))
        self._single = slice(len(grid), len(grid) + systems)
        self._grid = np.concatenate([grid, np.eye(systems), np.full((1, systems), 1 / systems)])
        self._away = np.abs(self._grid - 1 / systems).max(axis=1)
        # For each section its areas, each of shape (sets, 1 + halves): all clips, then the halves.
        self._areas = []
        for place, (table, own) in enumerate(zip(tables, scores, strict=True)):
            every = np.ones((1, len(table.names)))
            counts = np.concatenate([every, halves[place]]) if halves else every
            split = split_clips(table.labels, table.domains)
            fused = combine(method, own, self._grid)
            self._areas.append(_areas(split, fused, counts, wanted))
            advance()
        objective = harmonic_means([area for own in self._areas for area in own])
        self.whole, self._halved = objective[:, 0], objective[:, 1:]

    def best(self, objective: Floats, *, alone: bool = False) -> int:
        """The best set of weights; of equally good ones the nearest to equal weights."""
        rows = np.arange(len(self._grid))[self._single if alone else self._searched]
        good = rows[objective[rows] >= objective[rows].max() - _EQUAL]
        return int(good[np.argmin(self._away[good])])

    def leaving(self, by: Literal["machine", "section"]) -> Nested | None:
        """Weights for each machine (or section) from the others; None when there is only one."""
        owners = [
            t.machine if by == "machine" else f"{t.machine}/{t.section}" for t in self._tables
        ]
        names = list(dict.fromkeys(owners))
        machines = {table.machine for table in self._tables}
        if len(names) < 2 or (by == "section" and len(names) == len(machines)):
            return None
        picked: list[float] = []
        singles: list[float] = []
        weights = []
        for name in names:
            inside = self._of(owners, name)
            outside = harmonic_means(self._of(owners, name, others=True))
            best, single = self.best(outside), self.best(outside, alone=True)
            weights.append(self._grid[best])
            picked.extend(float(area[best]) for area in inside)
            singles.extend(float(area[single]) for area in inside)
        return Nested(
            by=by,
            figure=harmonic_mean(picked),
            equal=float(self.whole[-1]),
            best_alone=harmonic_mean(singles),
            alone=tuple(map(float, self.whole[self._single])),
            spread=None,
            weights=np.stack(weights),
        )

    def _of(self, owners: Sequence[str], name: str, *, others: bool = False) -> list[Floats]:
        """Areas on all clips, `(sets,)` each, of one owner's sections or of all others'."""
        chosen = [
            own
            for own, owner in zip(self._areas, owners, strict=True)
            if (owner == name) is not others
        ]
        return [area[:, 0] for own in chosen for area in own]

    def halving(self) -> Nested | None:
        """Weights from one half of the clips for the other; None where there are no halves."""
        count = self._halved.shape[1]
        if not count:
            return None
        here = np.arange(count)
        other = np.roll(here, count // 2)
        best = np.array([self.best(self._halved[:, i]) for i in here])
        single = np.array([self.best(self._halved[:, i], alone=True) for i in here])
        found = self._halved[best, other]
        repeats = found.reshape(2, -1).mean(axis=0)
        fixed = self._halved.mean(axis=1)
        return Nested(
            by="clip",
            figure=float(found.mean()),
            equal=float(fixed[-1]),
            best_alone=float(self._halved[single, other].mean()),
            alone=tuple(map(float, fixed[self._single])),
            spread=float(repeats.std(ddof=1)) if len(repeats) > 1 else None,
            weights=self._grid[best],
        )


def _areas(split: Split, fused: Floats, counts: Floats, wanted: Objective) -> list[Floats]:
    """Areas (AUC source, AUC target, pAUC) wanted that exist, each `(sets, choices)`."""
    full = ((split.source, 1.0), (split.target, 1.0)) if wanted != "pauc" else ()
    partial = ((~split.anomalous, MAX_FPR),) if wanted != "auc" else ()
    found = []
    for normals, most in (*full, *partial):
        if normals.any():
            rows = [
                weighted_auc(counts, split.anomalous, normals, scores, max_fpr=most)
                for scores in fused
            ]
            found.append(np.stack(rows))
    return found


def _halves(tables: Sequence[SectionTable], repeats: int, rng: np.random.Generator) -> list[Floats]:
    """Which clips count in each half, `(2 repeats, n)` for each section: first halves, then second.

    Halves rather than smaller folds: a pAUC of five normals has no meaning. Empty when a section
    has too few clips to be halved.
    """
    found = []
    for table in tables:
        split = split_clips(table.labels, table.domains)
        kinds = (split.anomalous, split.source, split.target)
        if any(kind.any() and kind.sum() < 2 for kind in kinds):
            return []
        first = np.stack([_half(split, rng) for _ in range(repeats)])
        found.append(np.concatenate([first, 1.0 - first]))
    return found


def _half(split: Split, rng: np.random.Generator) -> Floats:
    """1 for half of each kind of clip, a kind being what an area takes."""
    chosen = np.zeros(len(split.anomalous))
    rest = ~(split.anomalous | split.source | split.target)
    # Without known domains `source` and `target` are the same clips.
    for kind in (split.anomalous, split.source, split.target & ~split.source, rest):
        members: npt.NDArray[np.int64] = rng.permutation(np.flatnonzero(kind))
        chosen[members[rng.integers(2) :: 2]] = 1.0
    return chosen
