"""A whole recording, cut into windows of the encoder's length."""

from __future__ import annotations

import numpy as np

from agent.frames import Samples


def clip_windows(
    samples: Samples, *, window_samples: int, hop_samples: int
) -> list[tuple[int, Samples]]:
    """Cut a recording so that every sample is in at least one window (while hop <= window).

    Windows start at multiples of the hop. Where those leave a tail uncovered, one more window ends
    with the recording's last sample. A recording shorter than a window is repeated until it fills
    one, which keeps its spectrum; zeros would add a step and a silence that were never recorded.

    Args:
        samples: float32, shape `(n,)`.
        window_samples: Length of a window, samples.
        hop_samples: Step between windows, samples.

    Returns:
        `(start, window)` pairs in order; start in samples, window float32 of shape
        `(window_samples,)`, a view of `samples` unless repeated. None for an empty recording.

    Raises:
        ValueError: The window or hop is not positive, or `samples` is not one-dimensional.
    """
    if window_samples < 1 or hop_samples < 1:
        raise ValueError(f"window {window_samples} and hop {hop_samples} must be positive")
    if samples.ndim != 1:
        raise ValueError(f"samples must be mono, of shape (n,), not {samples.shape}")
    length = len(samples)
    if length == 0:
        return []
    if length < window_samples:
        return [(0, np.resize(samples, window_samples))]
    starts = list(range(0, length - window_samples + 1, hop_samples))
    if starts[-1] + window_samples < length:
        starts.append(length - window_samples)
    return [(start, samples[start : start + window_samples]) for start in starts]
