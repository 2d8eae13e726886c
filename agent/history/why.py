"""Why there was no alarm: what was heard in a stretch, and what held an alarm back."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

from agent.config.decide import DecideConfig
from agent.core.clock import utc
from agent.core.records import Level
from agent.core.text import plural
from agent.history.bucket import STEPS, Bucket
from agent.history.store import KEPT, PastFile, Told

# What an operator's word begins and ends.
_STARTS = {"muted": "unmuted", "shelved": "unshelved"}
# A mean score from here on is not what healthy sound has: of nine machines in service none stayed
# above 0.13 for five minutes (docs/notes/thresholds.md).
_WEAK = 0.3
# Events that say why.
RAISING = frozenset({"raised", "alert", "realarm"})


@dataclass(frozen=True, slots=True)
class Reason:
    """What became of a stretch of a machine's sound.

    Attributes:
        begin: From, seconds since the epoch.
        end: Up to.
        heard_seconds: Of it, sound that was cut into windows.
        judged_seconds: Of it, what was scored.
        idle_seconds: Heard while the machine stood still.
        exceeded_seconds: Above the threshold while that counted.
        most: Highest score, on the scale whose 1.0 is the threshold; None when nothing was scored.
        evidence_seconds: Most seconds above the threshold within `of_seconds`.
        invalid: Why windows could not be judged.
        level: Highest level.
        events: What was told in it, the oldest first, in words.
        held: What an operator had asked for that reaches into it: muting and shelving, in words.
        verdict: Why there was no alarm, in a sentence without its full stop.
        text: All of it in a few sentences.
    """

    begin: float
    end: float
    heard_seconds: float
    judged_seconds: float
    idle_seconds: float
    exceeded_seconds: float
    most: float | None
    evidence_seconds: float
    invalid: tuple[str, ...]
    level: str
    events: tuple[str, ...]
    held: tuple[str, ...]
    verdict: str
    text: str


def explain_stretch(
    points: Sequence[tuple[int, Bucket]],
    step: int,
    told: Sequence[Told],
    begin: float,
    end: float,
    decide: DecideConfig,
) -> Reason:
    """Say what was heard in a stretch, and what held an alarm back.

    Args:
        points: The machine's past there: starts and buckets, in order.
        step: Their length, seconds.
        told: Its alarm's events up to `end`, the oldest first, with those before `begin`.
        begin: From, seconds since the epoch.
        end: Up to.
        decide: The machine's.
    """
    windows = sum(bucket.windows for _, bucket in points)
    heard = float(step * len(points))
    share = heard / windows if windows else 0.0  # seconds that a window adds
    total = Bucket()
    for _, bucket in points:
        total.join(bucket)
    amounts = decide.amounts
    within = amounts.within * (share if amounts.in_windows else 1.0)
    evidence = _most_within(points, step, share, max(within, step))
    invalid = tuple(dict.fromkeys(bucket.invalid for _, bucket in points if bucket.invalid))
    inside = [event for event in told if event.second >= begin]
    level = (Level.NORMAL, Level.ALERT, Level.ALARM)[total.level].value
    held = _held(told, begin, end)
    judged, idle = total.scored * share, total.idle * share
    parts = [_heard_words(heard, end - begin, judged, idle, windows - total.scored, share, invalid)]
    if total.score_max is not None:
        parts.append(
            f"The highest score was {total.score_max:.2f}, where 1 is the threshold; "
            f"{total.exceeded * share:.0f} s were above it"
        )
    parts += held
    raised = [event for event in inside if event.kind in RAISING]
    if raised:
        parts.append(f"{plural(len(raised), 'alarm event')} told: see the events")
    elif total.level == Level.ALARM.rank:
        parts.append("An alarm stood already, so none was raised anew")
    elif total.exceeded:
        parts.append(_short_of(decide, evidence, total.exceeded))
    elif total.score_max is not None and total.score_max > 1.0:
        parts.append(
            "What exceeded the threshold did not count: "
            + (held[0] if held else "the machine stood still, started or stopped there")
        )
    elif total.level == Level.ALERT.rank:
        parts.append("An alert stood already; nothing was above the threshold of an alarm")
    elif total.score_max is not None:
        parts.append(_below(decide, total.score_sum / total.scored))
    return Reason(
        begin, end, heard, judged, idle, total.exceeded * share, total.score_max, evidence, invalid,
        level, tuple(event.words for event in inside), tuple(held), parts[-1],
        ". ".join(parts) + ".",
    )  # fmt: skip


def why_of(file: PastFile, machine: str, begin: float, end: float, decide: DecideConfig) -> Reason:
    """Read a stretch of the past, as finely as it is kept, and explain it.

    Raises:
        OSError: The disk is gone.
        sqlite3.Error: Likewise.
    """
    told = file.told(machine, end)
    age = time.time() - begin
    step = next((step for step in STEPS if age <= KEPT[step]), STEPS[-1])
    points = file.read(machine, step, int(begin) // step * step, math.ceil(end), step)
    return explain_stretch(points, step, told, begin, end, decide)


def _heard_words(
    heard: float, asked: float, judged: float, idle: float, unjudged: int, share: float,
    invalid: Sequence[str],
) -> str:  # fmt: skip
    if not heard:
        return (
            "Nothing was heard: the agent was off, or the microphone gave no sound, or it is "
            "longer ago than what is kept"
        )
    text = f"{heard:.0f} of {asked:.0f} s were heard, {judged:.0f} s judged"
    if idle:
        text += f"; in {idle:.0f} s the machine stood still, which counts neither way"
    if unjudged:
        text += f"; {unjudged * share:.0f} s could not be judged ({', '.join(invalid)})"
    return text


def _most_within(
    points: Sequence[tuple[int, Bucket]], step: int, share: float, within: float
) -> float:
    """Most seconds above the threshold in any stretch of `within` seconds."""
    most, first, held = 0.0, 0, 0.0
    for start, bucket in points:
        held += bucket.exceeded * share
        while points[first][0] <= start - within:
            held -= points[first][1].exceeded * share
            first += 1
        most = max(most, held)
    return min(most, max(within, step))


def _short_of(decide: DecideConfig, evidence: float, windows: int) -> str:
    amounts = decide.amounts
    if amounts.in_windows:
        return (
            f"Evidence did not suffice: {windows} windows above the threshold, and an alarm takes "
            f"{amounts.raise_after:g} of {amounts.within:g} in a row"
        )
    if evidence >= amounts.raise_after:
        # By the minute it cannot be seen how close together they were.
        return (
            f"Evidence did not suffice: {evidence:.0f} s in a minute were above the threshold, but "
            f"never {amounts.raise_after:g} s within {amounts.within:g} s of judged sound"
        )
    return (
        f"Evidence did not suffice: at most {evidence:.0f} s within {amounts.within:g} s were "
        f"above the threshold, and an alarm takes {amounts.raise_after:g} s"
    )


def _below(decide: DecideConfig, mean: float) -> str:
    """What is to be said of a stretch with nothing above the threshold."""
    if mean < _WEAK:
        return "Nothing was above the threshold: it sounded healthy"
    steady = None if decide.alert is None else decide.alert.steady(decide.clear_seconds)
    text = (
        f"Nothing was above the threshold, but a mean score of {mean:.2f} is more than healthy "
        "sound mostly has"
    )
    if steady is None:
        return f"{text}; what stays so is never told (decide.alert.steady_seconds)"
    return (
        f"{text}; what stays so becomes an alert after {steady.raise_after:g} of "
        f"{steady.within:g} s above the threshold for it, which `promise` in info names"
    )


def _held(told: Sequence[Told], begin: float, end: float) -> list[str]:
    """What an operator had asked for: muting and shelving that reach into the stretch."""
    found = []
    for start, stop in _STARTS.items():
        since: Told | None = None
        for event in (*told, None):
            over = event is None or event.kind == stop
            if event is not None and event.kind == start:
                since = event
            elif over and since is not None:
                until = end if event is None else event.second
                if until > begin:
                    found.append(_held_words(start, since, None if event is None else until))
                since = None
    return found


def _held_words(kind: str, since: Told, until: float | None) -> str:
    by = f" by {since.operator}" if since.operator else ""
    note = f" ({since.note})" if since.note else ""
    stretch = f"from {utc(since.second)}" + ("" if until is None else f" to {utc(until)}")
    if kind == "muted":
        return f"It was muted{by}{note} {stretch}: nothing heard then counts"
    return f"Its alarm was shelved{by}{note} {stretch}: nothing rises for the world then"
