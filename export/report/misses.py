"""The recordings a system got most wrong, to look at and listen to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent.capture.files import read_audio
from agent.core.errors import AudioError
from agent.core.records import Samples
from agent.recordings.model import ANOMALY, NORMAL, Machine
from agent.report.page import Card, Page
from agent.report.pictures import player, small_spectrogram, top_of
from export.clips import clip_name
from export.results import Outcome, System

# What is shown of a recording.
_SECONDS, _RATE = 10.0, 16000


@dataclass(frozen=True, slots=True)
class Miss:
    """A recording and how wrong its score is.

    Attributes:
        name: As in the score files.
        label: What it is.
        score: What it scored.
        rank: Share of the other kind's recordings that look more like its own kind.
        wrong: Whether the threshold decides wrongly.
    """

    name: str
    label: str
    score: float
    rank: float
    wrong: bool


def worst(outcome: Outcome, count: int) -> tuple[list[Miss], list[Miss]]:
    """The anomalies that score lowest and the healthy recordings that score highest.

    Args:
        outcome: Of one system on one machine.
        count: Of each kind, at most.

    Returns:
        Anomalies, healthy recordings; the worst first.
    """
    clips = [
        (name, label, float(score))
        for section in outcome.sections
        for name, label, score in zip(section.names, section.labels, section.scores, strict=True)
    ]
    normal = np.array([score for _, label, score in clips if label == NORMAL])
    strange = np.array([score for _, label, score in clips if label == ANOMALY])
    lowest = sorted((c for c in clips if c[1] == ANOMALY), key=lambda c: c[2])[:count]
    highest = sorted((c for c in clips if c[1] == NORMAL), key=lambda c: -c[2])[:count]
    return (
        [
            Miss(name, label, score, _share(normal > score), score <= outcome.threshold)
            for name, label, score in lowest
        ],
        [
            Miss(name, label, score, _share(strange < score), score > outcome.threshold)
            for name, label, score in highest
        ],
    )


def show_worst(
    page: Page,
    system: System,
    outcome: Outcome,
    machine: Machine,
    count: int,
    *,
    channel: int | None,
) -> None:
    """Put the worst of each kind on a page, with pictures and sound."""
    missed, raised = worst(outcome, count)
    page.text(
        f"What {system.name} hears least in: the anomalies that score lowest, and the healthy "
        f"recordings that score highest (threshold {outcome.threshold:.4g})."
    )
    page.recordings(cards([*missed, *raised], machine, channel=channel))


def cards(misses: Sequence[Miss], machine: Machine, *, channel: int | None) -> list[Card]:
    """Caption, spectrogram and sound of each, as `Page.recordings` takes them."""
    paths = {clip_name(machine, recording): recording.path for recording in machine.of("test")}
    sounds = [_sound(paths.get(miss.name), channel) for miss in misses]
    top = top_of([one for one in sounds if len(one)], _RATE)
    found = []
    for miss, sound in zip(misses, sounds, strict=True):
        tone = "bad" if miss.wrong else "good"
        if len(sound):
            picture = small_spectrogram(sound, _RATE, top)
            found.append(Card(miss.name, caption(miss), picture, player(sound, _RATE), tone))
        else:
            found.append(Card(miss.name, f"{caption(miss)} (cannot be read any more)", tone=tone))
    return found


def caption(miss: Miss) -> str:
    """What is wrong with it, in a line."""
    if miss.label == ANOMALY:
        said = "missed" if miss.wrong else "found"
        rest = f"{100 * miss.rank:.0f} % of the healthy recordings score higher"
    else:
        said = "false alarm" if miss.wrong else "passed"
        rest = f"{100 * miss.rank:.0f} % of the anomalies score lower"
    return f"{said}, score {miss.score:.4g}; {rest}"


def _sound(path: Path | None, channel: int | None) -> Samples:
    """The recording's beginning; nothing where it cannot be read any more."""
    try:
        if path is not None:
            return read_audio(path, rate=_RATE, channel=channel, seconds=_SECONDS)
    except AudioError:
        pass
    return np.empty(0, np.float32)


def _share(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0
