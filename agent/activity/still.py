"""Does the machine stand still in this half second? By band levels, beside the gate for windows.

The gate (`agent.score.gate`) looks at whole windows, by the encoder. This looks at frames of half a
second, so that a run shorter than a window can be cut out of the quiet on either side of it. It is
the gate's own rule on other vectors: nearer to the still frames than to the running ones by a
margin, and not far from the former. A band that is quieter than in most still frames counts as
just that quiet: a quieter hall is no stranger to standing still.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from agent.activity.levels import BandLevels
from agent.bundle.manifest import Gate
from agent.core.records import Matrix
from agent.score.gate import IdleGate, fit_gate
from agent.score.space import Space

# Frames kept of either kind: enough for every load, and quick to compare with.
_MOST_FRAMES = 2000
# Quieter than in this share of the still frames is quiet.
_FLOOR_QUANTILE = 0.25


@dataclass(frozen=True, slots=True)
class StillFrames:
    """What the frames of a bundle are compared with.

    Attributes:
        still: Band levels of the idle machine and its surroundings, float32 `(n, BANDS)`, dB.
        running: Of the healthy machine, float32 `(m, BANDS)`.
        config: Margin and reach.
    """

    still: Matrix
    running: Matrix
    config: Gate


class StillGate:
    """Tells frames of a standing machine from those of a running one.

    Args:
        frames: What they are compared with.
    """

    def __init__(self, frames: StillFrames) -> None:
        self._floor = frames.still.min(axis=0)
        # What is quieter in every band is that row itself.
        still = np.concatenate([frames.still, self._floor[None]])
        self._gate = IdleGate(still, frames.running, Space("euclidean"), frames.config)

    def still(self, levels: Matrix) -> npt.NDArray[np.bool_]:
        """Tell which frames are of a standing machine.

        Args:
            levels: As `BandLevels` measures them, float32 `(k, BANDS)`.
        """
        return self._gate.idle(np.maximum(levels, self._floor))


def fit_still(
    still: Matrix,
    still_groups: Sequence[str],
    running: Matrix,
    running_groups: Sequence[str],
    rate: int,
) -> tuple[StillFrames | None, str]:
    """Learn to tell frames apart, and refuse what would hide a running machine.

    Args:
        still: Windows of the idle machine and its surroundings, float32 `(n, samples)`.
        still_groups: Recording of each.
        running: Windows of the healthy machine, float32 `(m, samples)`.
        running_groups: Recording of each.
        rate: Samples a second.

    Returns:
        What was learnt, or None when it cannot be trusted, and a note for people in either case.
    """
    bands = BandLevels(rate)
    quiet, quiet_groups = _frames(bands, still, still_groups)
    loud, loud_groups = _frames(bands, running, running_groups)
    floor = np.quantile(quiet, _FLOOR_QUANTILE, axis=0).astype(np.float32)
    quiet, loud = np.maximum(quiet, floor), np.maximum(loud, floor)
    gate, note = fit_gate(quiet, quiet_groups, loud, loud_groups, Space("euclidean"))
    if gate is None:
        why = note.partition(": ")[2]
        return None, f"starts and stops are not placed within a window: by half seconds, {why}"
    words = (
        f"starts and stops are placed within a window: {gate.healthy_as_idle:.2%} of the healthy "
        f"half seconds and {gate.idle_as_idle:.1%} of the idle or noise ones count as still"
    )
    return StillFrames(quiet, loud, gate), words


def _frames(bands: BandLevels, windows: Matrix, groups: Sequence[str]) -> tuple[Matrix, list[str]]:
    """Levels of frames spread evenly over the windows, and the recording of each."""
    each = max(1, windows.shape[1] // bands.frame_samples)
    total = len(windows) * each
    chosen = np.unique(np.linspace(0, total - 1, min(total, _MOST_FRAMES)).round().astype(int))
    frames = np.stack(
        [
            windows[n // each, (n % each) * bands.frame_samples :][: bands.frame_samples]
            for n in chosen
        ]
    )
    return bands.measure(frames), [groups[n // each] for n in chosen]
