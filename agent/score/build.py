"""Any scorer: fitted, built, written to a bundle and read from it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from agent.bundle.facts import IndexInfo
from agent.bundle.files import _PART_INDEX, _STATE, CONSTANTS, state_file
from agent.bundle.manifest import INDEX, ROW_CONSTANTS
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
from agent.score.index import write_index
from agent.score.knn import KnnScorer
from agent.score.methods import build_method, fit_method, left_out
from agent.score.neighbours import BASIS, PLAN, PrototypeScorer, read_plan
from agent.score.scorer import HealthySet, Scorer, State, Vector


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
        indexes: HNSW indexes, by the part whose bank they are of; '' for a scorer without parts.

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
    index_from: int = 0,
    parent: Path | None = None,
) -> dict[str, IndexInfo]:
    """Write a scorer's arrays and the indexes of its banks.

    Args:
        folder: The bundle to be.
        config: The scorer.
        healthy: Its healthy windows.
        state: What it learnt.
        index_from: Banks of more rows than this are indexed.
        parent: Bundle whose indexes are added to, where their rows are the first of this one's.

    Returns:
        What the manifest tells of the indexes of large banks, by file.

    Raises:
        BundleError: The disk is full.
    """
    made: dict[str, npt.NDArray[Any]] = dict(state)
    told: dict[str, IndexInfo] = {}
    for part, knn in knn_parts(build_scorer(config, healthy, state)).items():
        if len(knn.bank) > index_from:
            before = None if parent is None else parent / index_file(part)
            if part and isinstance(config, FusionConfig):
                # What standardises the rows is learnt anew: the old index holds other points.
                before = before if config.parts[int(part)].standardize == "none" else None
            if before is not None and not before.is_file():
                before = None
            info = _write_one(folder / index_file(part), part, knn, made, before)
            if info is not None:
                told[index_file(part)] = info
    for name, array in made.items():
        np.save(folder / state_file(name), array, allow_pickle=False)
    return told


def _write_one(
    path: Path,
    part: str,
    knn: KnnScorer,
    state: dict[str, npt.NDArray[Any]],
    before: Path | None,
) -> IndexInfo | None:
    """Write the index of one bank, and put into `state` how it was made in the end."""
    vectors, metric = knn.bank.vectors, knn.config.metric
    start = f"{part}." if part else ""
    if start + PLAN not in state:  # small: every row is compared
        write_index(path, vectors, metric, knn.plan, grown_from=before)
        return None
    plan, reduction = knn.plan, knn.reduction
    if before is not None:
        # Its rows are reduced as they were: by other directions none of it could be kept.
        names = [file.name for file in before.parent.iterdir()]
        old = read_state(before.parent, [n for n in names if n.startswith(f"scorer.{start}index")])
        mine = {name.removeprefix(start): array for name, array in old.items()}
        was, reduction = read_plan(mine, vectors.shape[1])
        plan = plan if was is None else was
    recall = knn.config.recall
    plan = write_index(
        path, vectors, metric, plan, reduction=reduction, recall=recall, grown_from=before
    )
    if before is not None and not plan.usable:
        reduction = knn.reduction
        plan = write_index(path, vectors, metric, knn.plan, reduction=reduction, recall=recall)
    state[start + PLAN] = plan.array()
    state.pop(start + BASIS, None)
    if reduction is not None:
        state[start + BASIS] = reduction.array()
    return IndexInfo(
        rows=len(vectors),
        columns=vectors.shape[1] if reduction is None else reduction.columns,
        m=plan.links,
        ef_construction=plan.weighed,
        ef=plan.ef,
        compared=plan.compared,
        recall=plan.recall,
        used=plan.usable,
    )


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
    return f"bank.{part}.hnsw" if part else INDEX


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
    found = {"": folder / INDEX} if INDEX in listed else {}
    for name in listed:
        if match := _PART_INDEX.fullmatch(name):
            found[match[1]] = folder / name
    return found
