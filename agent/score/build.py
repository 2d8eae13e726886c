"""Any scorer: fitted, built, written to a bundle and read from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.bundle.facts import IndexInfo
from agent.bundle.files import _PART_INDEX, _STATE, CONSTANTS, state_file
from agent.bundle.manifest import INDEX, INDEX_BEFORE, ROW_CONSTANTS
from agent.config.scorer import FusionConfig, ScorerConfig
from agent.core.errors import BundleError
from agent.core.records import Matrix
from agent.score.fitter import Fitter
from agent.score.fusion import (
    FusionScorer,
    build_fusion,
    fit_fusion,
    fusion_left_out,
    joined_left_out,
    parts_left_out,
)
from agent.score.index import Index, choose_index, write_index
from agent.score.index_state import index_info, index_state, read_index, without_index
from agent.score.knn import EXACT_UP_TO, KnnScorer
from agent.score.methods import build_method, fit_method, left_out
from agent.score.neighbours import PrototypeScorer
from agent.score.prototypes import is_plain
from agent.score.scorer import HealthySet, Scorer, State, StateError, Vector
from agent.score.sessions import left_out_with


def fit_state(healthy: HealthySet, config: ScorerConfig, fitter: Fitter | None = None) -> State:
    """Learn a scorer's arrays.

    Args:
        healthy: Healthy windows.
        config: The scorer.
        fitter: Fits what takes a workstation; None on a device.

    Raises:
        WorkstationError: The scorer takes a fitter and there is none.
        ConfigError: It judges columns that there are not.
    """
    if isinstance(config, FusionConfig):
        return fit_fusion(healthy, config, fitter)
    return fit_method(healthy, config, fitter)


def fit_scored(
    healthy: HealthySet,
    config: ScorerConfig,
    fitter: Fitter | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[State, Vector]:
    """What `fit_state` and `healthy_scores` give, without doing twice what both need.

    Args:
        healthy: Healthy windows.
        config: The scorer.
        fitter: Fits what takes a workstation; None on a device.
        advance: Called after each part.

    Raises:
        WorkstationError: The scorer takes a fitter and there is none.
        ConfigError: It judges columns that there are not.
    """
    if isinstance(config, FusionConfig):
        parts = parts_left_out(healthy, config, fitter, advance)
        (scores,) = joined_left_out(healthy, config, [(own, own) for own in parts])
        return fit_fusion(healthy, config, fitter, scores=parts), scores
    (scores,) = left_out(healthy, config, [healthy.vectors], fitter)
    advance()
    return fit_method(healthy, config, fitter), scores


def build_scorer(
    config: ScorerConfig,
    healthy: HealthySet,
    state: State,
    indexes: Mapping[str, Path] | None = None,
) -> Scorer:
    """A scorer of what was learnt, not started.

    Args:
        config: The scorer.
        healthy: The healthy windows of the bundle.
        state: From `fit_state`, or `read_state`.
        indexes: Indexes of large banks, by the part whose bank they are of; '' for a scorer
            without parts.

    Raises:
        StateError: An array is not what the scorer needs.
        ConfigError: It judges columns that there are not.
    """
    found = indexes or {}
    if isinstance(config, FusionConfig):
        return build_fusion(config, healthy, state, found)
    return build_method(config, healthy, state, found.get(""))


def healthy_scores(
    healthy: HealthySet,
    config: ScorerConfig,
    fitter: Fitter | None = None,
    *,
    queries: Sequence[Matrix] | None = None,
) -> list[Vector]:
    """Scores as if the recording of each window had never been heard.

    Args:
        healthy: Healthy windows.
        config: The scorer.
        fitter: Fits what takes a workstation.
        queries: Sets of embeddings to judge, each float32 `(n, dim)`; the windows' own when None.

    Returns:
        For each set float32 `(n,)`; NaN where there is nothing to compare with.

    Raises:
        WorkstationError: The scorer takes a fitter and there is none.
        ConfigError: It judges columns that there are not.
    """
    asked = [healthy.vectors] if queries is None else queries
    if isinstance(config, FusionConfig):
        return fusion_left_out(healthy, config, asked, fitter)
    return left_out(healthy, config, asked, fitter)


def write_scorer(
    folder: Path,
    config: ScorerConfig,
    healthy: HealthySet,
    state: State,
    *,
    parent: Path | None = None,
) -> dict[str, IndexInfo]:
    """Write a scorer's arrays, and the indexes of its large banks, which are chosen here.

    Args:
        folder: The bundle to be.
        config: The scorer.
        healthy: Its healthy windows.
        state: What it learnt.
        parent: Bundle whose indexes are added to, where their rows are the first of this one's.

    Returns:
        What the manifest tells of the indexes of large banks, by file.

    Raises:
        OSError: The disk is full.
    """
    made: dict[str, npt.NDArray[Any]] = dict(without_index(state))
    told: dict[str, IndexInfo] = {}
    for part, knn in knn_parts(build_scorer(config, healthy, made)).items():
        vectors, metric = knn.bank.vectors, knn.config.metric
        if len(vectors) <= EXACT_UP_TO:
            continue
        before = None
        if parent is not None and is_plain(knn.config):
            before = _index_of(parent, part, vectors.shape[1])
        index = choose_index(
            vectors, metric, knn.config.recall, left_out_with(knn.bank.rows), grown_from=before
        )
        write_index(folder / index_file(part), vectors, metric, index)
        start = f"{part}." if part else ""
        made |= {start + name: array for name, array in index_state(index).items()}
        told[index_file(part)] = index_info(index, vectors.shape[1])
    for name, array in made.items():
        np.save(folder / state_file(name), array, allow_pickle=False)
    return told


def _index_of(folder: Path, part: str, dim: int) -> tuple[Path, Index] | None:
    """A bundle's index of one bank, and its file; None where it has none of this kind."""
    path = folder / index_file(part)
    if not path.is_file():
        return None
    start = f"{part}." if part else ""
    names = [file.name for file in folder.glob(f"scorer.{start}index_*.npy")]
    state = read_state(folder, names)
    try:
        index = read_index({name.removeprefix(start): one for name, one in state.items()}, dim)
    except StateError:
        return None
    return None if index is None else (path, index)


def knn_parts(scorer: Scorer) -> dict[str, KnnScorer]:
    """The nearest-neighbour scorers in a scorer, by part; '' for one without parts."""
    if isinstance(scorer, PrototypeScorer):
        scorer = scorer.scorer
    if isinstance(scorer, KnnScorer):
        return {"": scorer}
    if isinstance(scorer, FusionScorer):
        return {
            str(place): knn
            for place, judge in enumerate(scorer.judges)
            for knn in knn_parts(judge.scorer).values()
        }
    return {}


def index_file(part: str) -> str:
    """The bundle's file of an index."""
    return f"bank.{part}.index.npy" if part else INDEX


def read_state(folder: Path, listed: Collection[str]) -> State:
    """Read a scorer's arrays.

    Args:
        folder: The bundle, its checksums verified.
        listed: Names of its files.

    Raises:
        BundleError: A file is not an array of numbers.
    """
    state: dict[str, npt.NDArray[Any]] = {}
    for name in sorted(listed):
        match = _STATE.fullmatch(name)
        if match is None and name != ROW_CONSTANTS:
            continue
        try:
            array = np.load(folder / name, allow_pickle=False)
        except Exception as fault:
            # NumPy reads a header with Python's own parser, whose errors are of many kinds.
            raise BundleError(f"is not a NumPy array: {fault}", where=folder / name) from fault
        if not isinstance(array, np.ndarray):
            raise BundleError("holds several arrays, not one", where=folder / name)
        state[CONSTANTS if match is None else match[1]] = array
    return state


def read_indexes(folder: Path, listed: Collection[str]) -> dict[str, Path]:
    """The indexes that a bundle has, by part."""
    found = {}
    for name in sorted(listed):
        if name in {INDEX_BEFORE, INDEX}:
            found[""] = folder / name
        if match := _PART_INDEX.fullmatch(name):
            found[match[1]] = folder / name
    return found
