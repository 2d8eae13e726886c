"""A window in which the gain changed part of the way through, and the same as if it had not.

Windows overlap, so ten of them may lie across the moment at which somebody turned a knob. None of
them is healthy sound made louder: it is told by undoing the change from that moment on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from agent.core.records import Samples

_FRAME_SECONDS = 0.02
# Too near an end, a step can be told from nothing.
_EDGE_FRAMES = 5
# In doubt the sound is made too quiet for so long rather than too loud: a short dip is heard by
# hardly any view, a burst by each that takes the maximum over time.
_DOUBT_SECONDS = 0.04
_SILENCE = 1e-12


@dataclass(frozen=True, slots=True)
class Step:
    """A change of level within a window.

    Attributes:
        at: Sample at which it happens, to a frame's length.
        decibels: How much louder it is from there on.
    """

    at: int
    decibels: float


def find_step(samples: Samples, rate: int, least_db: float) -> Step | None:
    """The step that explains most of how a window's level changes.

    Args:
        samples: float32, shape `(n,)`.
        rate: Samples a second.
        least_db: A smaller one is none.

    Returns:
        The step; None when there is none worth undoing.
    """
    frame = max(1, round(_FRAME_SECONDS * rate))
    count = len(samples) // frame
    if count < 4 * _EDGE_FRAMES:
        return None
    cut = samples[: count * frame].reshape(count, frame).astype(np.float64)
    level = 10.0 * np.log10(np.maximum(np.mean(np.square(cut), axis=1), _SILENCE))
    places = np.arange(_EDGE_FRAMES, count - _EDGE_FRAMES)
    sums = np.cumsum(level)
    before = sums[places - 1] / places
    after = (sums[-1] - sums[places - 1]) / (count - places)
    # Between-class variance of a split in two.
    gain = places * (count - places) * (after - before) ** 2
    at = int(places[np.argmax(gain)])
    decibels = float(np.median(level[at:]) - np.median(level[:at]))
    return Step(at * frame, decibels) if abs(decibels) > least_db else None


def undo(samples: Samples, rate: int, step: Step) -> Samples:
    """The window as if its gain had stayed what it was before the step.

    Args:
        samples: float32, shape `(n,)`.
        rate: Samples a second.
        step: What to undo.
    """
    doubt = round(_DOUBT_SECONDS * rate)
    # Louder: turned down a little too early. Quieter: turned up a little too late.
    at = max(0, step.at - doubt) if step.decibels > 0 else min(len(samples), step.at + doubt)
    result = samples.astype(np.float32, copy=True)
    result[at:] *= np.float32(10.0 ** (-step.decibels / 20.0))
    return result
