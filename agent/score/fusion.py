"""Several scorers as one: each judges its columns, is made comparable, and they are combined."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.config.scorer import FusionConfig, Part, Span
from agent.core.cores import on_cores
from agent.core.errors import ConfigError
from agent.core.records import Matrix
from agent.score.comparable import Normalizer, combine, normalizer
from agent.score.fitter import Fitter
from agent.score.methods import build_method, by_folds, fit_method, left_out
from agent.score.scorer import (
    NO_ROW,
    Floats,
    HealthySet,
    IntVector,
    Scorer,
    State,
    StateError,
    Vector,
    folds,
    take,
)
from agent.score.standardize import Standard, fit_standard, read_standard

# Arrays of a part's state: its healthy scores, ascending; its weight where healthy sound says so.
HEALTHY, WEIGHT = "healthy", "weight"
# A part that is standardised is fitted so many times for its left-out healthy scores.
_FOLDS = 20


@dataclass(frozen=True, slots=True)
class Judge:
    """A part of a fusion, built.

    Attributes:
        columns: Columns of the embedding it judges; None for all.
        scorer: Its scorer.
        normalizer: Makes its scores comparable.
        standard: Standardises the columns first; None where nothing does.
        weight: What it counts in a mean.
    """

    columns: Span | None
    scorer: Scorer
    normalizer: Normalizer
    standard: Standard | None = None
    weight: float = 1.0

    def score(self, embeddings: Matrix) -> tuple[Floats, IntVector]:
        """Comparable scores of embeddings `(m, dim)`, and the nearest row of each."""
        columns = _columns(embeddings, self.columns)
        if self.standard is not None:
            columns = self.standard.apply(columns)
        scores, nearest = self.scorer.score(columns)
        return self.normalizer(scores.astype(np.float64)), nearest


class FusionScorer:
    """Scores embeddings with several judges.

    Args:
        config: How they are combined.
        judges: One for each part.
    """

    def __init__(self, config: FusionConfig, judges: Sequence[Judge]) -> None:
        self.config = config
        self.judges = tuple(judges)

    def start(self) -> None:
        """Start every judge. Idempotent."""
        for judge in self.judges:
            judge.scorer.start()

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Judge embeddings, float32 `(m, dim)`.

        Returns:
            Scores float32 `(m,)`, and the nearest row according to the judge that decided most (or,
            where that one knows none, another).
        """
        judged = [judge.score(embeddings) for judge in self.judges]
        table, near = np.stack([one for one, _ in judged]), np.stack([one for _, one in judged])
        weights = np.array([judge.weight for judge in self.judges])
        value = combine(self.config, table, weights).astype(np.float32)
        say = table if self.config.combine in {"min", "rank"} else -weights[:, None] * table
        order = np.argsort(say + np.where(near == NO_ROW, np.inf, 0.0), axis=0, kind="stable")
        best = np.take_along_axis(near, order[:1], axis=0)[0]
        return value, best


def fit_fusion(
    healthy: HealthySet,
    config: FusionConfig,
    fitter: Fitter | None = None,
    *,
    scores: Sequence[Vector] | None = None,
) -> State:
    """Learn every part's arrays, named `<part>.<array>`.

    Args:
        healthy: Healthy windows.
        config: The fusion.
        fitter: Fits what takes a workstation.
        scores: `parts_left_out` of the windows themselves, where that is known.

    Raises:
        WorkstationError: A part takes a fitter and there is none.
        ConfigError: A part judges columns that there are not.
    """
    state = {}
    if scores is None:
        scores = parts_left_out(healthy, config, fitter)
    for place, part in enumerate(config.parts):
        own, standard = prepared(healthy, part)
        learnt = dict(fit_method(own, part.scorer, fitter))
        if standard is not None:
            learnt |= standard.state
        if part.fades_at is not None:
            learnt[WEIGHT] = np.array([_faded(healthy, part)], np.float32)
        state.update({f"{place}.{name}": array for name, array in learnt.items()})
        known = scores[place]
        known = known[np.isfinite(known)]
        # With one recording there is nothing to compare; the scorer is refused a threshold later.
        state[f"{place}.{HEALTHY}"] = np.sort(known) if len(known) else np.zeros(1, np.float32)
    return state


def build_fusion(
    config: FusionConfig,
    healthy: HealthySet,
    state: State,
    indexes: Mapping[str, Path],
) -> FusionScorer:
    """The scorer of a fusion, not started.

    Args:
        config: The fusion.
        healthy: The healthy windows of the bundle.
        state: From `fit_fusion`.
        indexes: Indexes of its parts' large banks, by their number.

    Raises:
        StateError: An array is not what a part needs.
        ConfigError: A part judges columns that there are not.
    """
    check_columns(config, healthy.vectors.shape[1])
    judges = []
    for place, part in enumerate(config.parts):
        mine = {
            name.removeprefix(f"{place}."): array
            for name, array in state.items()
            if name.startswith(f"{place}.")
        }
        own, standard, weight = healthy.columns(part.columns), None, part.weight
        try:
            if part.standardize != "none":
                standard = read_standard(mine, part.standardize, own.vectors.shape[1])
                own = standard.of(own)
            if part.fades_at is not None:
                weight = float(take(mine, WEIGHT, (1,))[0])
            scorer = build_method(part.scorer, own, mine, indexes.get(str(place)))
            scores = np.sort(take(mine, HEALTHY, (None,)))
        except StateError as fault:
            raise fault.of_part(str(place)) from fault
        comparable = normalizer(config, scores, part.least_unit)
        judges.append(Judge(part.columns, scorer, comparable, standard, weight))
    return FusionScorer(config, judges)


def fusion_left_out(
    healthy: HealthySet,
    config: FusionConfig,
    queries: Sequence[Matrix],
    fitter: Fitter | None = None,
) -> list[Vector]:
    """Scores of the recordings left out, as `methods.left_out` gives them.

    What makes parts comparable leaves the recordings out as well.
    """
    # The windows' own scores are needed whatever is asked: they make the parts comparable.
    others = [query for query in queries if query is not healthy.vectors]
    parts = _parts_left_out(healthy, config, [healthy.vectors, *others], fitter)
    places = iter(range(1, len(others) + 1))
    at = [0 if query is healthy.vectors else next(places) for query in queries]
    return joined_left_out(
        healthy, config, [[scores[place] for place in (0, *at)] for scores in parts]
    )


def parts_left_out(
    healthy: HealthySet,
    config: FusionConfig,
    fitter: Fitter | None = None,
    advance: Callable[[], None] = lambda: None,
) -> list[Vector]:
    """Scores of the windows by each part, float32 `(n,)`, with their recordings left out."""
    own = [healthy.vectors]
    return [scores for (scores,) in _parts_left_out(healthy, config, own, fitter, advance)]


def joined_left_out(
    healthy: HealthySet, config: FusionConfig, parts: Sequence[Sequence[Vector]]
) -> list[Vector]:
    """Scores of the recordings left out, of those by each part.

    Args:
        healthy: Healthy windows.
        config: The fusion.
        parts: Of each part the windows' own scores, then those of each set of queries.

    Returns:
        For each set of queries float32 `(n,)`.
    """
    queries = parts[0][1:]
    found: list[Vector] = [np.full(len(healthy), np.nan, np.float32) for _ in queries]
    weights = np.array([_faded(healthy, part) for part in config.parts])
    for outside in folds(healthy):
        tables: list[list[Floats]] = [[] for _ in queries]
        for part, scores in zip(config.parts, parts, strict=True):
            rest = scores[0][~outside].astype(np.float64)
            rest = np.sort(rest[np.isfinite(rest)])
            if not len(rest):
                return found
            comparable = normalizer(config, rest, part.least_unit)
            for table, asked in zip(tables, scores[1:], strict=True):
                table.append(comparable(asked[outside].astype(np.float64)))
        for result, table in zip(found, tables, strict=True):
            result[outside] = combine(config, np.stack(table), weights).astype(np.float32)
    return found


def _parts_left_out(
    healthy: HealthySet,
    config: FusionConfig,
    queries: Sequence[Matrix],
    fitter: Fitter | None,
    advance: Callable[[], None] = lambda: None,
) -> list[list[Vector]]:
    check_columns(config, healthy.vectors.shape[1])

    def one(part: Part) -> list[Vector]:
        return _part_left_out(
            healthy.columns(part.columns),
            part,
            [_columns(query, part.columns) for query in queries],
            fitter,
        )

    found = []
    # A device has the sound of the present to attend to.
    for scores in on_cores(one, config.parts, most=1 if fitter is None else len(config.parts)):
        found.append(scores)
        advance()
    return found


def _part_left_out(
    own: HealthySet, part: Part, queries: Sequence[Matrix], fitter: Fitter | None
) -> list[Vector]:
    if part.standardize == "none":
        return left_out(own, part.scorer, queries, fitter)

    def fitted(rest: HealthySet) -> Scorer:
        standard = _standard(rest, part)
        learnt = standard.of(rest)
        scorer = build_method(part.scorer, learnt, fit_method(learnt, part.scorer, fitter))
        return Standardized(standard, scorer)

    # What standardises it must not have heard the recording either: of few recordings in many
    # columns it would bring those to rest that it was learnt from, and them alone.
    return by_folds(own, queries, fitted, _FOLDS)


class Standardized:
    """A scorer behind what standardises its columns.

    Args:
        standard: What is done to embeddings first.
        scorer: Judges them then.
    """

    def __init__(self, standard: Standard, scorer: Scorer) -> None:
        self._standard, self._scorer = standard, scorer

    def start(self) -> None:
        """Start the scorer. Idempotent."""
        self._scorer.start()

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Judge embeddings, float32 `(m, dim)`."""
        return self._scorer.score(self._standard.apply(embeddings))


def prepared(healthy: HealthySet, part: Part) -> tuple[HealthySet, Standard | None]:
    """The healthy windows as a part's scorer learns from them, and what standardised them."""
    own = healthy.columns(part.columns)
    if part.standardize == "none":
        return own, None
    standard = _standard(own, part)
    return standard.of(own), standard


def _standard(own: HealthySet, part: Part) -> Standard:
    assert part.standardize != "none"
    return fit_standard(own.vectors, part.standardize, least_spread=part.least_spread)


def _faded(healthy: HealthySet, part: Part) -> float:
    """A part's weight: less, where healthy sound itself varies much in what it judges."""
    if part.fades_at is None:
        return part.weight
    level = healthy.columns(part.columns).vectors.mean(axis=1, dtype=np.float64)
    spread = float(level.std())
    return part.weight / (1.0 + (spread / part.fades_at) ** 2)


def _columns(embeddings: Matrix, span: Span | None) -> Matrix:
    return embeddings if span is None else embeddings[:, span[0] : span[1]]


def check_columns(config: FusionConfig, dim: int) -> None:
    """Whether the embedding has the columns that the parts judge.

    Args:
        config: The fusion.
        dim: Length of the embedding.

    Raises:
        ConfigError: It has not; the part is named.
    """
    for place, part in enumerate(config.parts):
        if part.columns is not None and part.columns[1] > dim:
            raise ConfigError(
                f"columns {part.columns[0]} to {part.columns[1]} are asked for, and the encoder "
                f"gives {dim}",
                where=f"scorer.parts.{place}.columns",
                remedy="Set the columns of the preset's parts to what its encoder gives.",
            )
