"""Decisions by recording: what the threshold called, what it passed, and how scores lie to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.core.name_time import all_name_times
from agent.recordings.model import ANOMALY, NORMAL
from agent.report.charts import Histogram, Lines, Series, Tone, wall_seconds
from agent.report.page import Page
from agent.verdict.figures import decision_figures
from agent.verdict.report import delay_words, share_words
from export.results import Evaluation, Outcome, System
from export.wording import title
from trainer.decisions.clips import judged_clips

CSV_HEADINGS = (
    "system", "machine", "seed", "recording", "label", "domain", "seconds", "score", "threshold",
    "called", "decision",
)  # fmt: skip
# Points of a ROC curve.
_RATES = 101


@dataclass(frozen=True, slots=True)
class Clip:
    """A test recording with a known answer, its score, and what was decided.

    Attributes:
        name: As in the score files.
        label: `normal` or `anomaly`.
        domain: `source`, `target` or `unknown`.
        seconds: Its length; None where that is not known.
        score: Larger is stranger.
        called: Whether the score lies above the threshold.
    """

    name: str
    label: str
    domain: str
    seconds: float | None
    score: float
    called: bool

    @property
    def decision(self) -> str:
        """In a word or two."""
        if self.label == ANOMALY:
            return "found" if self.called else "missed"
        return "false alarm" if self.called else "passed"


def clips_of(outcome: Outcome) -> list[Clip]:
    """The recordings of one outcome whose answers are known."""
    return [
        Clip(
            name, label, section.domains[i],
            None if section.seconds is None else float(section.seconds[i]),
            float(section.scores[i]), bool(section.scores[i] > outcome.threshold),
        )
        for section in outcome.sections
        for i, (name, label) in enumerate(zip(section.names, section.labels, strict=True))
        if label
    ]  # fmt: skip


def csv_table(evaluation: Evaluation) -> Iterator[list[object]]:
    """A row for each system, machine, seed and recording, under `CSV_HEADINGS`."""
    for system in evaluation.systems:
        for machine in evaluation.machines:
            for seed, outcome in evaluation.of(system, machine).items():
                for clip in clips_of(outcome):
                    yield [
                        system.name, machine, seed, clip.name, clip.label, clip.domain,
                        clip.seconds, clip.score, outcome.threshold, clip.called, clip.decision,
                    ]  # fmt: skip


def histogram(outcome: Outcome) -> Histogram:
    """Scores of healthy and faulty recordings, and the threshold."""
    clips = clips_of(outcome)
    return Histogram(
        [one.score for one in clips if one.label == NORMAL],
        outcome.threshold,
        "faulty | healthy recordings",
        [one.score for one in clips if one.label == ANOMALY],
    )


def show_decisions(page: Page, system: System, outcome: Outcome, *, scores: bool) -> None:
    """Put one system's decisions on one machine on a page: counts, delay, scores by recording.

    Args:
        page: The page.
        system: Which.
        outcome: What it found on the machine.
        scores: With the histogram of scores, where that is not the first screen's.
    """
    clips = clips_of(outcome)
    page.text(f"At its threshold of {outcome.threshold:.4g}, {system.name} decides:")
    count = {
        (label, called): sum(one.label == label and one.called is called for one in clips)
        for label in (ANOMALY, NORMAL)
        for called in (True, False)
    }
    page.table(
        ("", "an alarm would have been raised", "passed over"),
        [
            ("faulty", f"{count[ANOMALY, True]} found", f"{count[ANOMALY, False]} missed"),
            ("healthy", f"{count[NORMAL, True]} false", f"{count[NORMAL, False]} passed"),
        ],
        row_heads=True,
    )
    figures = decision_figures(judged_clips(outcome.sections))["all"]
    facts = [
        ("Faults found", share_words(figures.found)),
        ("False alarms", share_words(figures.false)),
    ]
    if figures.delay is not None:
        facts.append(("From a fault's beginning until it is noticed", delay_words(figures.delay)))
    page.facts(facts)
    page.chart(
        "Every recording's score against the threshold; click a dot whose sound is on this page",
        _by_recording(clips, outcome.threshold),
    )
    if scores:
        page.chart("How many recordings score how high", histogram(outcome))


def show_table(page: Page, outcome: Outcome) -> None:
    """Put every recording and what was decided of it on a page, the strangest first."""
    order = sorted(clips_of(outcome), key=lambda one: -one.score)
    page.table(
        ("recording", "is", "domain", "score", "decision"),
        [
            (
                one.name, "faulty" if one.label == ANOMALY else "healthy", one.domain,
                f"{one.score:.4g}", one.decision,
            )
            for one in order
        ],
        find="Find recordings (missed, false alarm, part of a name)",
        folded=f"All {len(order)} recordings, the strangest first",
    )  # fmt: skip


def show_ranking(page: Page, evaluation: Evaluation, machine: str) -> None:
    """Put the ROC curves of all systems on one machine on a page."""
    rates = np.linspace(0.0, 1.0, _RATES, dtype=np.float64)
    curves: list[Series] = []
    tones: tuple[Tone, ...] = ("healthy", "faulty", "other")
    for system in evaluation.systems:
        outcome = next(iter(evaluation.of(system, machine).values()), None)
        found = None if outcome is None else _roc(clips_of(outcome), rates)
        if found is not None:
            tone = tones[len(curves) % len(tones)]
            dashed = system.preset.floor
            curves.append(Series(title(system), found.tolist(), tone, dashed=dashed))
    if not curves:
        return
    page.chart(
        "Faults found against false alarms, at every threshold (ROC; a diagonal is chance)",
        Lines(
            x=rates.tolist(), series=curves, x_words="share of healthy recordings called faulty",
            y_words="share of faults found",
        ),
    )  # fmt: skip


def _by_recording(clips: Sequence[Clip], threshold: float) -> Lines:
    times = all_name_times([one.name for one in clips])
    order = list(range(len(clips)))
    if times is not None:
        order.sort(key=lambda n: times[n])
    else:
        order.sort(key=lambda n: (clips[n].label != NORMAL, clips[n].domain, clips[n].name))
    shown = [clips[n] for n in order]
    return Lines(
        x=[wall_seconds(times[n]) for n in order]
        if times is not None
        else [float(n + 1) for n in range(len(shown))],
        series=(
            Series("healthy", [o.score if o.label == NORMAL else None for o in shown],
                   "healthy", dots=True),
            Series("faulty", [o.score if o.label == ANOMALY else None for o in shown],
                   "faulty", dots=True),
        ),
        x_words="recorded at" if times is not None else "recording, healthy ones first",
        y_words="anomaly score",
        wall=times is not None,
        names=[one.name for one in shown],
        level=(threshold, "threshold"),
    )  # fmt: skip


def _roc(clips: Sequence[Clip], rates: npt.NDArray[np.float64]) -> npt.NDArray[np.float64] | None:
    healthy = np.sort([one.score for one in clips if one.label == NORMAL])[::-1]
    faulty = np.sort([one.score for one in clips if one.label == ANOMALY])
    if not len(healthy) or not len(faulty):
        return None
    # At a rate r, the threshold is the score that r of the healthy recordings exceed.
    allowed = np.floor(rates * len(healthy)).astype(int)
    limits = np.append(healthy, -np.inf)[allowed]
    found: npt.NDArray[np.float64] = 1.0 - np.searchsorted(faulty, limits, "right") / len(faulty)
    return found
