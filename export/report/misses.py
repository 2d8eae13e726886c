"""The recordings a system got most wrong, to look at and listen to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.capture.files import read_audio
from agent.core.errors import AudioError
from agent.recordings.model import ANOMALY, NORMAL, Machine
from export.clips import clip_name
from export.results import Outcome, System
from trainer.report.page import Page, flac
from trainer.report.paint import draw, spectrogram

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
    page.cards(cards([*missed, *raised], machine, channel=channel))


def cards(
    misses: Sequence[Miss], machine: Machine, *, channel: int | None
) -> list[tuple[str, bytes | None, bytes | None]]:
    """Caption, spectrogram and sound of each, as `Page.cards` takes them."""
    paths = {clip_name(machine, recording): recording.path for recording in machine.of("test")}
    found: list[tuple[str, bytes | None, bytes | None]] = []
    for miss in misses:
        try:
            path = paths[miss.name]
            sound = read_audio(path, rate=_RATE, channel=channel, seconds=_SECONDS)
        except (AudioError, KeyError):
            found.append((f"{caption(miss)} (cannot be read any more)", None, None))
            continue
        loud = sound * (0.8 / max(1e-6, float(np.abs(sound).max())))
        picture = draw((5, 2.8), spectrogram(sound, _RATE, ""))
        found.append((caption(miss), picture, flac(loud, _RATE)))
    return found


def caption(miss: Miss) -> str:
    """What is wrong with it, in a line."""
    if miss.label == ANOMALY:
        said = "missed" if miss.wrong else "found"
        rest = f"{100 * miss.rank:.0f} % of the healthy recordings score higher"
    else:
        said = "false alarm" if miss.wrong else "passed"
        rest = f"{100 * miss.rank:.0f} % of the anomalies score lower"
    return f"{miss.name}: {said}, score {miss.score:.4g}; {rest}"


def _share(values: npt.NDArray[np.bool_]) -> float:
    return float(values.mean()) if len(values) else 0.0
