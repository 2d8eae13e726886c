"""Planted and recorded faults scored through an encoder's graph: what a threshold lets see."""

from __future__ import annotations

from pathlib import Path

from rich.progress import Progress

from agent.bundle.facts import SightInfo
from agent.bundle.manifest import EncoderInfo
from agent.calibrate.fit import FittedScorer
from agent.learn.embed import embed
from agent.learn.planted import median_scores, plant, recorded_scores
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
) -> SightInfo:
    """Score planted and recorded faults.

    Args:
        graph: The exported graph.
        info: What it takes and gives.
        fitted: The scorer.
        healthy: What it was fitted to.
        windows: The healthy windows themselves.
        faulty: Windows of faulty recordings; None without any.
        progress: Where to show progress.
    """
    scorer = build_scorer(fitted.config, healthy, fitted.state)
    scorer.start()
    planted, what = plant(windows.waveforms, info.sample_rate)
    vectors = embed(graph, info, planted, title="planting faults", progress=progress)
    scores = scorer.score(vectors)[0]
    recorded: tuple[float, ...] = ()
    if faulty is not None:
        vectors = embed(
            graph, info, faulty.waveforms, title="scoring recorded faults", progress=progress
        )
        recorded = recorded_scores(scorer.score(vectors)[0].tolist(), faulty.groups)
    return SightInfo(planted=tuple(median_scores(scores.tolist(), what)), recorded=recorded)
