"""What was learnt, for people and for programs: the verdict first, and what to record next."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from agent.bundle.manifest import Manifest
from agent.calibrate.sight import hours_words, passing_words, sight_at
from agent.core.text import plural
from agent.learn.learn import Learnt
from agent.learn.rehearsal import Rehearsal
from agent.verdict.report import rehearsal_json, rehearsal_words
from agent.verdict.verdict import Verdict

_STRANGEST = 10


def told(
    manifest: Manifest, rehearsal: Rehearsal, hours: float, tested: Verdict | None = None
) -> Iterator[tuple[str, str]]:
    """What to tell of a bundle that was made, line by line, each with a colour.

    Args:
        manifest: Its manifest.
        rehearsal: What its threshold would have done with its own healthy recordings.
        hours: Of healthy sound that it was made of.
        tested: Verdict on test recordings; None without.
    """
    limit = manifest.threshold
    yield (
        "default",
        (
            f"threshold {limit.value:.4g} for a window: {limit.false_alarm_rate:.3g} of healthy "
            f"windows are expected above it ({plural(limit.healthy_windows, 'window')} of "
            f"{plural(limit.healthy_recordings, 'recording')}; {limit.method}). By the same rule a "
            f"recording as a whole is compared with {limit.clip_value:.4g}"
        ),
    )
    if rehearsal.clips:
        yield "default", rehearsal_words(rehearsal.figures)
    verdict = tested or (rehearsal.ruling if rehearsal.clips else None)
    if verdict is not None:
        where = "the test recordings" if tested else "the healthy recordings, each left out"
        yield "default", f"verdict on {where}: {verdict.text()}"
    if manifest.sight is not None:
        seen, kept = sight_at(limit.value, manifest.sight), manifest.sight.kept
        words = [] if kept is None else [f"promise: {kept.words} of running"]
        words += passing_words(limit.value, seen)
        if kept is not None and hours:
            words.append(hours_words(hours))
        yield "red" if seen.blind else "default", "; ".join(words)
    said = "" if manifest.agreement is None else manifest.agreement.ruined  # before all else
    for note in manifest.notes:
        if note != said:
            yield "red" if note.startswith(("BLIND", "ONE SESSION")) else "yellow", f"note: {note}"


def report_data(learnt: Learnt) -> dict[str, Any]:
    """All of it for a program: verdict, figures, promise, recordings ranked by strangeness."""
    manifest, rehearsal = learnt.manifest, learnt.rehearsal
    ranked = sorted(zip(rehearsal.clips, rehearsal.scores, strict=True), key=lambda one: -one[1])[
        :_STRANGEST
    ]
    sight = manifest.sight
    return {
        "machine": manifest.machine,
        "digest": manifest.digest,
        "preset": manifest.trained_on.preset,
        "recordings": manifest.trained_on.recordings,
        "healthy_hours": round(learnt.healthy_hours, 4),
        "healthy": rehearsal_json(rehearsal.figures, rehearsal.ruling) if rehearsal.clips else None,
        "threshold": manifest.threshold.model_dump(mode="json"),
        "promise": None if sight is None or sight.kept is None else sight.kept.words,
        "sight": None if sight is None else sight.model_dump(mode="json"),
        "drift": None if manifest.drift is None else manifest.drift.model_dump(mode="json"),
        "agreement": None
        if manifest.agreement is None
        else manifest.agreement.model_dump(mode="json"),
        "strangest": [
            {
                "recording": clip.name,
                "score": round(score, 4),
                "threshold": round(rehearsal.threshold, 4),
                "called": clip.called,
            }
            for clip, score in ranked
        ],
        "left_out": {str(one.path): one.reason for one in learnt.inspection.machine.rejected},
        "notes": list(manifest.notes),
    }
