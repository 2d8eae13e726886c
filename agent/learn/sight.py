"""Planted and recorded faults scored through an encoder's graph: what a threshold lets see."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.bundle.facts import SightInfo
from agent.bundle.manifest import EncoderInfo
from agent.calibrate.fit import FittedScorer
from agent.core.records import Matrix
from agent.learn.embed import Embedder, embed
from agent.learn.planted import (
    median_scores,
    median_windows,
    plant,
    recorded_scores,
    recorded_windows,
)
from agent.recordings.windows import WindowSet
from agent.score.build import build_scorer
from agent.score.scorer import HealthySet


def measure_sight(
    graph: Path,
    info: EncoderInfo,
    fitted: FittedScorer,
    healthy: HealthySet,
    windows: WindowSet,
    faulty: WindowSet | None,
    progress: Progress,
    embedder: Embedder = embed,
) -> tuple[SightInfo, Matrix]:
    """Score planted and recorded faults.

    Args:
        graph: The exported graph.
        info: What it takes and gives.
        fitted: The scorer.
        healthy: What it was fitted to.
        windows: The healthy windows themselves.
        faulty: Windows of faulty recordings; None without any.
        progress: Where to show progress.
        embedder: Makes the embeddings.

    Returns:
        The scores, and the embeddings of the windows that have them, float32 `(faults, dim)`,
        planted ones before recorded ones.
    """
    scorer = build_scorer(fitted.config, healthy, fitted.state)
    scorer.start()
    planted, what = plant(windows.waveforms, info.sample_rate)
    vectors = embedder(graph, info, planted, title="planting faults", progress=progress)
    scores = scorer.score(vectors)[0].tolist()
    told = [vectors[median_windows(scores, what)]]
    recorded: tuple[float, ...] = ()
    if faulty is not None:
        vectors = embedder(
            graph, info, faulty.waveforms, title="scoring recorded faults", progress=progress
        )
        reached = scorer.score(vectors)[0].tolist()
        recorded = recorded_scores(reached, faulty.groups)
        told.append(vectors[recorded_windows(reached, faulty.groups)])
    sight = SightInfo(planted=tuple(median_scores(scores, what)), recorded=recorded)
    return sight, np.concatenate(told).astype(np.float32)
