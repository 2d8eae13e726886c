"""Scores a whole recording: its windows one by one, and the recording as one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from agent.bundle.load import Bundle
from agent.frames import Samples, Validity
from agent.window.clip import clip_windows
from agent.window.validity import assess

# Windows encoded at once: bounds the memory a long recording takes.
_BATCH = 16


class ClipWindow(NamedTuple):
    """One window of a recording.

    Attributes:
        start: Where it starts, seconds from the recording's beginning.
        score: Its anomaly score, None when it is invalid.
        reason: Why it is invalid, in words; empty when valid.
        p_value: Conformal p-value of the score; None without one.
    """

    start: float
    score: float | None
    reason: str
    p_value: float | None = None


@dataclass(frozen=True, slots=True)
class ClipScore:
    """The windows of a recording and its score as one.

    Attributes:
        windows: In order of time.
        validity: Whether each of them may be judged.
        value: Mean or maximum of the valid windows' scores (`manifest.scorer.clip`); None when
            no window is valid.
        p_value: Conformal p-value of that; None without one.
    """

    windows: tuple[ClipWindow, ...]
    validity: tuple[Validity, ...]
    value: float | None
    p_value: float | None = None


def score_clip(bundle: Bundle, samples: Samples, *, hop_seconds: float | None = None) -> ClipScore:
    """Score a recording.

    Args:
        bundle: An opened bundle.
        samples: Mono float32, shape `(n,)`, at `manifest.encoder.sample_rate`.
        hop_seconds: Step between windows, seconds; when None the manifest's `clip_hop_seconds`,
            with which its `clip_value` was calibrated.

    Returns:
        The scores. A recording shorter than a window is repeated to fill it; one that is empty
        has no window.
    """
    encoder = bundle.manifest.encoder
    hop = bundle.manifest.clip_hop_seconds if hop_seconds is None else hop_seconds
    if len(samples) == 0:
        return ClipScore((), (), None)
    # Judged before it is repeated: a fraction of a second stays too short however often it is.
    verdict, reason = assess(samples, encoder.sample_rate)
    if verdict is Validity.TOO_SHORT:
        return ClipScore((ClipWindow(0.0, None, reason),), (verdict,), None)
    cut = clip_windows(
        samples,
        window_samples=encoder.window_samples,
        hop_samples=max(1, round(hop * encoder.sample_rate)),
    )
    verdicts = [assess(window, encoder.sample_rate, min_seconds=0.0) for _, window in cut]
    valid = [i for i, (verdict, _) in enumerate(verdicts) if verdict is Validity.VALID]
    scores: dict[int, float] = {}
    for first in range(0, len(valid), _BATCH):
        part = valid[first : first + _BATCH]
        values, _ = bundle.scorer.score(bundle.encoder.encode(np.stack([cut[i][1] for i in part])))
        for i, value in zip(part, values, strict=True):
            if np.isfinite(value):
                scores[i] = float(value)
            else:
                verdicts[i] = (Validity.NOT_FINITE, "the encoder gave no finite number for it")
    rarity = bundle.significance
    windows = tuple(
        ClipWindow(
            start / encoder.sample_rate,
            scores.get(i),
            verdicts[i][1],
            None if rarity is None or i not in scores else float(rarity.windows(scores[i])),
        )
        for i, (start, _) in enumerate(cut)
    )
    combine = np.mean if bundle.manifest.scorer.clip == "mean" else np.max
    value = float(combine(list(scores.values()))) if scores else None
    return ClipScore(
        windows,
        tuple(verdict for verdict, _ in verdicts),
        value,
        None if rarity is None or value is None else float(rarity.clips(value)),
    )
