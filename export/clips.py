"""Scores a machine's test recordings through an opened bundle, as the device would."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from agent.capture.files import audio_info
from agent.core.cores import on_cores
from agent.core.errors import AudioError
from agent.core.text import plural
from agent.deploy.load import Bundle
from agent.offline.clips import score_clip
from agent.offline.recording import OpenRecording
from agent.recordings.model import Machine, Recording
from export.results import Unscored
from trainer.metrics.files import SectionScores


@dataclass(frozen=True, slots=True)
class ScoredTests:
    """What came of a machine's test recordings.

    Attributes:
        sections: The scores of each section in order of file name; labels are empty where a name
            does not tell.
        unscored: Recordings that could not be judged: silent, clipped, unreadable.
        notes: What is otherwise in them than in training, by the function that `score` asks too.
    """

    sections: tuple[SectionScores, ...]
    unscored: tuple[Unscored, ...] = ()
    notes: tuple[str, ...] = ()


def score_tests(
    bundle: Bundle,
    machine: Machine,
    *,
    hop_seconds: float,
    channel: int | None,
    advance: Callable[[], None],
) -> ScoredTests:
    """Score every test recording, and decide on it by the bundle's clip threshold.

    Args:
        bundle: The opened bundle.
        machine: Its test recordings are scored.
        hop_seconds: Step between the windows of a recording: that of the memory bank, since the
            clip threshold was calibrated on recordings cut so.
        channel: Channel of multi-channel recordings; None for that of training, or the average.
        advance: Called after each recording.
    """
    recordings = sorted(machine.of("test"), key=lambda r: r.path)

    def one(recording: Recording) -> _Heard:
        return _heard(bundle, recording, hop_seconds, channel)

    scored: dict[str, list[_Scored]] = {}
    unscored: list[Unscored] = []
    told: dict[str, list[str]] = {}
    for recording, heard in zip(recordings, on_cores(one, recordings), strict=True):
        name = clip_name(machine, recording)
        for text in heard.notes:
            told.setdefault(text, []).append(name)
        if heard.value is None or not math.isfinite(heard.value):
            unscored.append(Unscored(name, heard.reason))
        else:
            scored.setdefault(recording.section or "00", []).append(
                _Scored(recording, heard.value, heard.seconds, heard.limit)
            )
        advance()
    sections = tuple(_section(machine, number, clips) for number, clips in sorted(scored.items()))
    notes = tuple(
        f"{plural(len(names), 'test recording')} ({names[0]}{', ...' if names[1:] else ''}): {text}"
        for text, names in told.items()
    )
    return ScoredTests(sections, tuple(unscored), notes)


@dataclass(frozen=True, slots=True)
class _Heard:
    value: float | None
    reason: str
    seconds: float = 0.0
    limit: float = 0.0
    notes: tuple[str, ...] = ()


def _heard(bundle: Bundle, recording: Recording, hop_seconds: float, channel: int | None) -> _Heard:
    """One recording, scored."""
    try:
        # Decoded whole before, in a process of its own, when the machine was loaded.
        info = audio_info(recording.path)
        heard = OpenRecording(recording.path, bundle.manifest, channel, info)
        result = score_clip(bundle, heard.blocks(), hop_seconds=hop_seconds)
        reason = next((w.reason for w in result.windows if w.reason), "it holds no sound")
        notes = tuple(heard.notes())
        fault = heard.fault()
    except AudioError as fault_:
        return _Heard(None, fault_.problem)
    value = None if fault else result.value
    return _Heard(value, fault or reason, result.seconds, result.limit, notes)


def clip_name(machine: Machine, recording: Recording) -> str:
    """A clip's name in result files: the challenge's own, or the path that tells a plain label."""
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
