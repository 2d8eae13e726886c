"""Scores a machine's test recordings through an opened bundle, as the device would."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.capture.files import stream_audio
from agent.core.errors import AudioError
from agent.deploy.load import Bundle
from agent.offline.clips import score_clip
from export.results import Unscored
from trainer.metrics.files import SectionScores
from trainer.recordings.model import Machine, Recording


def score_tests(
    bundle: Bundle,
    machine: Machine,
    *,
    hop_seconds: float,
    channel: int | None,
    advance: Callable[[], None],
) -> tuple[tuple[SectionScores, ...], tuple[Unscored, ...]]:
    """Score every test recording, and decide on it by the bundle's clip threshold.

    Args:
        bundle: The opened bundle.
        machine: Its test recordings are scored.
        hop_seconds: Step between the windows of a recording: that of the memory bank, since the
            clip threshold was calibrated on recordings cut so.
        channel: Channel of multi-channel recordings; None averages.
        advance: Called after each recording.

    Returns:
        The scores of each section in order of file name (labels are empty where a name does not
        tell), and the recordings that could not be judged: silent, clipped, unreadable.
    """
    scored: dict[str, list[_Scored]] = {}
    unscored: list[Unscored] = []
    for recording in sorted(machine.of("test"), key=lambda r: r.path):
        value: float | None = None
        seconds = limit = 0.0
        try:
            blocks = stream_audio(
                recording.path, rate=bundle.manifest.encoder.sample_rate, channel=channel
            )
            result = score_clip(bundle, blocks, hop_seconds=hop_seconds)
            value, seconds, limit = result.value, result.seconds, result.limit
            reason = next((w.reason for w in result.windows if w.reason), "it holds no sound")
        except AudioError as fault:
            reason = fault.problem
        if value is None or not math.isfinite(value):
            unscored.append(Unscored(clip_name(machine, recording), reason))
        else:
            scored.setdefault(recording.section or "00", []).append(
                _Scored(recording, value, seconds, limit)
            )
        advance()
    sections = tuple(_section(machine, number, clips) for number, clips in sorted(scored.items()))
    return sections, tuple(unscored)


def clip_name(machine: Machine, recording: Recording) -> str:
    """Its name in result files: the challenge's own, or the path that tells a plain label."""
    if recording.section:
        return recording.path.name
    return recording.path.relative_to(machine.root).as_posix()


@dataclass(frozen=True, slots=True)
class _Scored:
    recording: Recording
    value: float
    seconds: float
    limit: float


def _section(machine: Machine, number: str, clips: Sequence[_Scored]) -> SectionScores:
    scores = np.asarray([clip.value for clip in clips], dtype=np.float64)
    return SectionScores(
        machine=machine.name,
        section=number,
        names=tuple(clip_name(machine, clip.recording) for clip in clips),
        labels=tuple(clip.recording.label or "" for clip in clips),
        domains=tuple(clip.recording.domain for clip in clips),
        scores=scores,
        decisions=scores > np.asarray([clip.limit for clip in clips]),
        seconds=np.asarray([clip.seconds for clip in clips], dtype=np.float64),
    )
