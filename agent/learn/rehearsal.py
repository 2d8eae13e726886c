"""What a threshold would have done with the healthy recordings it comes from.

Counting the recordings above a threshold that was calibrated on them only gives back the rate that
was asked for. So they are dealt into folds; the threshold is found without a fold's recordings, by
the same rule, and those are held against it. Each score is already that of a recording left out of
the memory bank, with its session where there are several; of three sessions and more, each is held
against a threshold of the others. What remains in favour: recordings of one day are alike, and a
trained encoder has learnt from all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.bundle.facts import AgreementInfo
from agent.bundle.manifest import Row, Threshold
from agent.calibrate.limits import HealthyScores
from agent.calibrate.rules import find_limit
from agent.capture.files import audio_info
from agent.config.recipe import Recipe
from agent.config.threshold import ThresholdRule
from agent.core.errors import AudioError
from agent.learn.promise import Promised, clip_rule
from agent.recordings.model import HEALTHY, NORMAL, Machine, Recording
from agent.recordings.windows import source_name
from agent.score.sessions import left_out_with, sessions_of
from agent.verdict.advice import what_to_record
from agent.verdict.agreement import agreement
from agent.verdict.figures import DecisionFigures, JudgedClip, decision_figures
from agent.verdict.verdict import Standing, Verdict, judge


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """Healthy recordings held against thresholds that were found without them.

    Attributes:
        clips: One a recording (a block of one, where few long ones were divided); empty where there
            are fewer than three.
        scores: Their scores, each with its own recording left out of the memory bank.
        threshold: Of whole recordings, found from all of them.
        ruling: Verdict on the figures, with what to record next.
        figures: What the thresholds did, `all` and by domain.
        agreement: How far the recordings agree; None where there are too few to say.
        promised: What the promise of alarms costs; None where that was not looked at.
    """

    clips: tuple[JudgedClip, ...]
    scores: tuple[float, ...]
    threshold: float
    figures: dict[str, DecisionFigures]
    ruling: Verdict
    agreement: AgreementInfo | None = None
    promised: Promised | None = None


# Beside the run: the figures as JSON.
DECISIONS = "decisions.json"
_FOLDS = 20
_LEAST = 3  # two to find a threshold from, one to hold against it


def summed_up(
    healthy: HealthyScores,
    threshold: Threshold,
    clip: str,
    machine: Machine,
    recipe: Recipe,
    apart: Collection[str] = (),
) -> Rehearsal:
    """The rehearsal of a fitted detector.

    Args:
        healthy: Scores of its healthy windows, each with its own recording left out.
        threshold: Found from them.
        clip: `mean` or `max`: how windows make a recording's score.
        machine: The recordings.
        recipe: By which it was made.
        apart: Recordings that are known to be unlike all others, and set no threshold.
    """
    rule = clip_rule(recipe)
    clips, scores = held_out_clips(healthy, rule, clip, lengths(machine), recipe.window.seconds)
    figures = decision_figures(clips)
    called = {one.name.partition("#")[0] for one in clips if one.called}
    heard = [r for r in machine.of(*HEALTHY) if source_name(machine.root, r) in called]
    ruling = judge(
        figures,
        Standing(promise=rule.false_alarm_rate),
        what_to_record(machine, figures, heard),
    )
    agree = agreement(clips, scores, figures["all"].false, apart)
    return Rehearsal(tuple(clips), tuple(scores), threshold.clip_value, figures, ruling, agree)


def held_out_clips(
    healthy: HealthyScores,
    rule: ThresholdRule,
    clip: str,
    seconds: Mapping[str, float],
    window_seconds: float,
) -> tuple[list[JudgedClip], list[float]]:
    """Each healthy recording, held against the threshold that the others give.

    Args:
        healthy: Scores of windows, each with its own recording left out.
        rule: How the threshold is found.
        clip: `mean` or `max`: how windows make a recording's score.
        seconds: Length of each recording by its name in the rows, where it is known.
        window_seconds: Length of a window.

    Returns:
        One clip a recording (a block of one, where few long ones were divided), and their scores;
        both empty below three.
    """
    values, rows = healthy.known()
    reduce = np.mean if clip == "mean" else np.max
    windows: dict[tuple[str, str], list[float]] = {}
    origins: dict[tuple[str, str], list[Row]] = {}
    for value, row in zip(values, rows, strict=True):
        windows.setdefault((row.domain, row.group), []).append(float(value))
        origins.setdefault((row.domain, row.group), []).append(row)
    if len(windows) < _LEAST:
        return [], []
    keys = list(windows)
    scores = np.array([float(reduce(windows[key])) for key in keys])
    domains = [domain for domain, _ in keys]
    above = np.zeros(len(keys), bool)
    folds = _fold_of([origins[key][0] for key in keys])
    limits = rule.model_copy(update={"sure": False, "promise": None})
    for fold in range(int(folds.max()) + 1):
        kept = np.flatnonzero(folds != fold)
        found = find_limit(scores[kept], [str(i) for i in kept], [domains[i] for i in kept], limits)
        above |= (folds == fold) & (scores > found.value)
    clips = [
        JudgedClip(
            key[1], NORMAL, key[0], bool(above[i]), _length(origins[key], seconds, window_seconds)
        )
        for i, key in enumerate(keys)
    ]
    return clips, scores.tolist()


def _fold_of(rows: Sequence[Row]) -> npt.NDArray[np.int64]:
    """The fold of each recording, given a row of each: whole sessions together, if there are three.

    Of two sessions each would be held against what the other alone knows of change.
    """
    if len(sessions_of(rows)) < _LEAST:
        units = [f"{i}" for i in range(len(rows))]
    else:
        units = left_out_with(rows)
    _, at = np.unique(units, return_inverse=True)
    count = int(at.max()) + 1
    order = np.random.default_rng(0).permutation(count) % min(_FOLDS, count)
    found: npt.NDArray[np.int64] = order[at]
    return found


def lengths(machine: Machine) -> dict[str, float]:
    """Length of each healthy recording, seconds, by its name in a bundle's rows."""
    known = {source_name(machine.root, r): _seconds(r) for r in machine.of(*HEALTHY)}
    return {name: seconds for name, seconds in known.items() if seconds is not None}


def _seconds(recording: Recording) -> float | None:
    try:
        return audio_info(recording.path).seconds
    except AudioError:
        return None


def _length(
    rows: Sequence[Row], seconds: Mapping[str, float], window_seconds: float
) -> float | None:
    if rows[0].group == rows[0].source:
        return seconds.get(rows[0].source)
    # A block of a long recording: from its first window to the end of its last.
    starts = [row.start for row in rows]
    return max(starts) - min(starts) + window_seconds
