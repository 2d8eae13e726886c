"""Nearest neighbours in all their forms: fitted, built, and asked about sound never heard."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from agent.bundle.files import CONSTANTS
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import ConfigError
from agent.core.records import Matrix
from agent.score.bank import MemoryBank
from agent.score.fitter import Fitter
from agent.score.index_state import read_index, searched_by_index
from agent.score.knn import KnnScorer
from agent.score.left_out import leave_one_out_each
from agent.score.prototypes import is_plain, prepare_bank
from agent.score.scorer import (
    HealthySet,
    IntVector,
    Scorer,
    State,
    StateError,
    Vector,
    folds,
    take,
)
from agent.score.sessions import left_out_with, sessions_of

VECTORS = "vectors"
ORIGIN = "origin"
# A bank is refitted so many times, by recordings left out, where no shorter way is exact.
_FOLDS = 20
_FEW_FOLDS = 5
_MANY_ROWS = 5000


def fit_neighbours(healthy: HealthySet, config: KnnConfig, fitter: Fitter | None) -> State:
    """Learn the row constants (and prototypes). A large bank is indexed as it is written.

    Raises:
        WorkstationError: What is asked for takes a fitter and there is none.
        ConfigError: The embedding cannot be cut into so many bands.
    """
    if config.bands > 1:
        banks = [prepare_bank(part, config, fitter) for part in _bands(healthy, config)]
        constants = np.concatenate([bank.constants for bank in banks], axis=1)
        state: dict[str, Matrix | IntVector] = {CONSTANTS: constants}
        if not is_plain(config):
            state[VECTORS] = np.concatenate([bank.vectors for bank in banks], axis=1)
            state[ORIGIN] = np.stack([bank.origin for bank in banks], axis=1)
        return state
    bank = prepare_bank(healthy, config, fitter)
    state = {CONSTANTS: bank.constants}
    if not is_plain(config):
        state |= {VECTORS: bank.vectors, ORIGIN: bank.origin[:, None]}
    return state


def build_neighbours(
    config: KnnConfig, healthy: HealthySet, state: State, index: Path | None
) -> Scorer:
    """The scorer, not started.

    Raises:
        StateError: An array is not what it needs.
        ConfigError: The embedding cannot be cut into so many bands.
    """
    dim, bands = healthy.vectors.shape[1], config.bands
    vectors, origin = healthy.vectors, None
    if not is_plain(config):
        vectors = take(state, VECTORS, (None, dim)).astype(np.float32)
        origin = take(state, ORIGIN, (len(vectors), bands)).astype(np.int64)
        if origin.min() < 0 or origin.max() >= len(healthy):
            raise StateError(ORIGIN, "names a row that the bank has not")
    constants = take(state, CONSTANTS, (len(vectors), 2 * bands)).astype(np.float32)
    rows = healthy.rows
    if origin is not None:
        rows = tuple(healthy.rows[i] for i in origin[:, 0])
    if bands > 1:
        width = _width(dim, config)
        judges = [
            KnnScorer(
                MemoryBank(
                    vectors[:, band * width : (band + 1) * width],
                    constants[:, 2 * band : 2 * band + 2],
                    rows,
                ),
                config,
            )
            for band in range(bands)
        ]
        return BandedScorer(judges, width, origin)
    bank = MemoryBank(vectors, constants, rows)
    path = index if searched_by_index(state) else None
    scorer = KnnScorer(bank, config, path, index=read_index(state, dim))
    return scorer if origin is None else PrototypeScorer(scorer, origin[:, 0])


def neighbours_left_out(
    healthy: HealthySet, config: KnnConfig, queries: Sequence[Matrix], fitter: Fitter | None
) -> list[Vector]:
    """Scores as if what is left out with each window had never been heard, for each set of queries.

    One recording at a time is left out of the plain forms, exactly. Where domains have banks or
    scales of their own, or prototypes or made-up rows stand for what was recorded, everything is
    fitted again without a twentieth of the recordings (a fifth, of a large bank); so it is where
    whole sessions are left out.
    """
    if config.bands > 1:
        width = _width(healthy.vectors.shape[1], config)
        one = config.model_copy(update={"bands": 1})
        pieces = [
            neighbours_left_out(
                part, one, [q[:, band * width : (band + 1) * width] for q in queries], fitter
            )
            for band, part in enumerate(_bands(healthy, config))
        ]
        return [np.mean(found, axis=0, dtype=np.float32) for found in zip(*pieces, strict=True)]
    sessions = bool(sessions_of(healthy.rows))
    plain = is_plain(config) and config.banks == "joint" and config.domain_scale == "none"
    if plain and not sessions:
        return leave_one_out_each(healthy.vectors, healthy.groups, config, queries)
    found: list[Vector] = [np.full(len(healthy), np.nan, np.float32) for _ in queries]
    count = _FOLDS if len(healthy) <= _MANY_ROWS else _FEW_FOLDS
    for outside in folds(healthy, count, left_out_with(healthy.rows)):
        rest = healthy.among(~outside)
        scorer = build_neighbours(config, rest, fit_neighbours(rest, config, fitter), None)
        scorer.start()
        for scores, query in zip(found, queries, strict=True):
            scores[outside], _ = scorer.score(query[outside])
    return found


class PrototypeScorer:
    """Nearest neighbours among vectors that stand for healthy rows.

    Args:
        scorer: Judges by those vectors.
        origin: The healthy row that each stands for, int64 `(m,)`.
    """

    def __init__(self, scorer: KnnScorer, origin: IntVector) -> None:
        self.scorer, self._origin = scorer, origin

    def start(self) -> None:
        """Prepare the bank. Idempotent."""
        self.scorer.start()

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Judge embeddings, float32 `(m, dim)`: scores, and the healthy rows nearest to them."""
        scores, nearest = self.scorer.score(embeddings)
        return scores, self._origin[nearest]


class BandedScorer:
    """A bank for each piece of the embedding; the mean of their scores.

    A fault in one band is not drowned by what the others do, and each band may resemble another
    recording.

    Args:
        judges: One for each band.
        width: Columns of a band.
        origin: The healthy row that each vector of each band stands for, `(m, bands)`; None when
            they are the rows.
    """

    def __init__(
        self, judges: Sequence[KnnScorer], width: int, origin: IntVector | None = None
    ) -> None:
        self.judges, self._width, self._origin = tuple(judges), width, origin

    def start(self) -> None:
        """Prepare every band. Idempotent."""
        for judge in self.judges:
            judge.start()

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Judge embeddings, float32 `(m, dim)`.

        Returns:
            Scores, and the healthy row nearest in the band that is strangest.
        """
        scores, rows = [], []
        for band, judge in enumerate(self.judges):
            piece = embeddings[:, band * self._width : (band + 1) * self._width]
            found, nearest = judge.score(np.ascontiguousarray(piece))
            scores.append(found)
            rows.append(nearest if self._origin is None else self._origin[nearest, band])
        table, near = np.stack(scores), np.stack(rows)
        strangest = np.argmax(table, axis=0)
        return table.mean(axis=0, dtype=np.float32), near[strangest, np.arange(table.shape[1])]


def _bands(healthy: HealthySet, config: KnnConfig) -> list[HealthySet]:
    width = _width(healthy.vectors.shape[1], config)
    return [healthy.columns((band * width, (band + 1) * width)) for band in range(config.bands)]


def _width(dim: int, config: KnnConfig) -> int:
    if dim % config.bands:
        raise ConfigError(
            f"an embedding of {dim} values cannot be cut into {config.bands} equal bands",
            where="scorer.bands",
            remedy=f"Give a number that divides {dim}.",
        )
    return dim // config.bands
