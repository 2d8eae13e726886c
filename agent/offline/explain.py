"""Explains the anomalous windows of a recording."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from agent.capture.files import beginning
from agent.core.reasons import Explanation
from agent.core.records import Samples
from agent.deploy.load import Bundle
from agent.machine.account import explain_window
from agent.offline.clips import ClipScore
from agent.window.clip import stream_windows


def explain_clip(
    bundle: Bundle,
    samples: Samples | Iterable[Samples],
    clip: ClipScore,
    *,
    hop_seconds: float | None = None,
) -> list[Explanation | None]:
    """Why each window that counts is above the threshold; None for the others.

    Args:
        bundle: What it was scored with.
        samples: The recording, as given to `score_clip`; blocks are taken anew.
        clip: Its score.
        hop_seconds: As given to `score_clip`.
    """
    encoder = bundle.manifest.encoder
    hop = bundle.manifest.clip_hop_seconds if hop_seconds is None else hop_seconds
    strange = [
        window.counts
        and window.score is not None
        and window.score > bundle.manifest.threshold.value
        for window in clip.windows
    ]
    if not any(strange):
        return [None] * len(strange)
    blocks = [samples] if isinstance(samples, np.ndarray) else samples
    seconds = bundle.manifest.clip_seconds
    most = None if seconds is None else round(seconds * encoder.sample_rate)
    cut = stream_windows(
        beginning(blocks, most),
        window_samples=encoder.window_samples,
        hop_samples=max(1, round(hop * encoder.sample_rate)),
    )
    return [
        explain_window(bundle, window, bundle.encoder.encode(window[None])[0]).explanation
        if wanted
        else None
        for (_, window), wanted in zip(cut, strange, strict=True)
    ]
