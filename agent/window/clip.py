"""A whole recording, cut into windows of the encoder's length."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from agent.core.records import Samples


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


def stream_windows(
    blocks: Iterable[Samples], *, window_samples: int, hop_samples: int
) -> Iterator[tuple[int, Samples]]:
    """The windows that `clip_windows` cuts, of a recording that comes in blocks.

    Never more than a window, a hop and a block are held, however long the recording is.

    Args:
        blocks: float32, shape `(n,)` each.
        window_samples: Length of a window, samples.
        hop_samples: Step between windows, samples.

    Yields:
        As `clip_windows`; each window with samples of its own.

    Raises:
        ValueError: The window or hop is not positive.
    """
    if window_samples < 1 or hop_samples < 1:
        raise ValueError(f"window {window_samples} and hop {hop_samples} must be positive")
    held: Samples = np.empty(0, np.float32)
    first = 0  # position of the first sample held
    start = 0  # of the next window
    covered = 0  # up to where the windows given reach
    for block in blocks:
        held = np.concatenate([held, block])
        while start + window_samples <= first + len(held):
            yield start, held[start - first : start - first + window_samples].copy()
            covered = start + window_samples
            start += hop_samples
        # The last window's length stays, in case one more must end with the last sample.
        gone = max(0, min(start, first + len(held) - window_samples) - first)
        held, first = held[gone:].copy(), first + gone
    length = first + len(held)
    if length and not covered:
        yield 0, np.resize(held, window_samples)
    elif covered < length:
        yield length - window_samples, held[-window_samples:].copy()
