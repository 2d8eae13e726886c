"""What a trained detector will promise, and what that costs, before it is exported."""

from __future__ import annotations

from rich.progress import Progress

from agent.bundle.facts import SightInfo
from agent.calibrate.fit import FittedScorer, threshold_of
from agent.calibrate.sight import sight_at
from agent.core.records import Matrix
from agent.learn.planted import median_scores, plant, recorded_scores
from agent.learn.promise import Promised, heard_hours, window_rule
from agent.recordings.windows import WindowSet
from agent.score.build import build_scorer
from agent.score.scorer import HealthySet
from agent.score.sessions import one_session
from trainer.encoders.base import Encoder
from trainer.graph.embedder import WindowEmbedder
from trainer.preset import Preset


def look_ahead(
    preset: Preset,
    encoder: Encoder,
    embedder: WindowEmbedder,
    fitted: FittedScorer,
    healthy: HealthySet,
    windows: WindowSet,
    faulty: WindowSet | None,
    progress: Progress | None = None,
) -> Promised | None:
    """Hold planted and recorded faults against the threshold of the preset's promise.

    Args:
        preset: The recipe.
        encoder: As trained.
        embedder: Embeds with it.
        fitted: The scorer.
        healthy: What it was fitted to.
        windows: The healthy windows themselves.
        faulty: Windows of faulty recordings; None without any.
        progress: Where to show progress.

    Returns:
        None where the preset promises no number of alarms.
    """
    asked = preset.threshold.false_alarms
    if asked is None:
        return None
    seconds = preset.window.seconds
    threshold = threshold_of(
        healthy, fitted.config, window_rule(preset), fitted.healthy_scores, seconds
    )
    scorer = build_scorer(fitted.config, healthy, fitted.state)
    scorer.start()

    def score(waveforms: Matrix, title: str) -> list[float]:
        found: list[float] = scorer.score(embedder(waveforms, progress, title))[0].tolist()
        return found

    planted, what = plant(windows.waveforms, encoder.sample_rate)
    recorded: tuple[float, ...] = ()
    if faulty is not None:
        reached = score(faulty.waveforms, "scoring recorded faults")
        recorded = recorded_scores(reached, faulty.groups)
    seen = median_scores(score(planted, "planting faults"), what)
    info = SightInfo(planted=tuple(seen), recorded=recorded)
    return Promised(
        asked,
        threshold.value,
        sight_at(threshold.value, info),
        heard_hours(windows, seconds),
        one_session(healthy.rows),
    )
