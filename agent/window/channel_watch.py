"""What is wrong with the channels of a stream that is averaged, judged stretch by stretch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from agent.bundle.facts import ConditionsInfo
from agent.core.records import ChannelFault, Matrix, Validity
from agent.window.channels import QUIETER_DB, ChannelMeter

# A verdict is found over so much sound, and holds until the next one, seconds.
STRETCH_SECONDS = 5.0
_PIECE_SECONDS = 1.0


class ChannelWatch:
    """Judges the channels of sound that never ends, every five seconds.

    Args:
        rate: Samples a second.
    """

    def __init__(self, rate: float) -> None:
        self._rate = round(rate)
        self._held: list[Matrix] = []
        self._length = 0
        self._pieces = 0
        self._meter = ChannelMeter(self._rate)
        self.faults: tuple[ChannelFault, ...] = ()

    def push(self, frames: Matrix) -> tuple[ChannelFault, ...]:
        """Take a piece of any length, float32 `(n, channels)`.

        Returns:
            What was wrong in the latest stretch; nothing before the first one is over, or of one
            channel.
        """
        if frames.shape[1] < 2:
            return ()
        self._held.append(frames)
        self._length += len(frames)
        size = max(1, round(_PIECE_SECONDS * self._rate))
        if self._length >= size:
            joined = np.concatenate(self._held)
            whole = len(joined) // size * size
            for start in range(0, whole, size):
                self._meter.push(joined[start : start + size])
                self._pieces += 1
                if self._pieces * _PIECE_SECONDS >= STRETCH_SECONDS:
                    self.faults = self._meter.faults()
                    self._meter, self._pieces = ChannelMeter(self._rate), 0
            self._held, self._length = [joined[whole:].copy()], len(joined) - whole
        return self.faults


def channel_verdict(
    faults: Sequence[ChannelFault], trained: ConditionsInfo | None, *, live: bool
) -> tuple[tuple[ChannelFault, ...], tuple[ChannelFault, ...]]:
    """Sorts faults of channels into those that make averaged sound unfit, and those only told.

    What cancels or clips is unfit. A channel that is dead, far quieter or hums takes its part of
    an average that was learnt of several channels, so that is unfit too; where training had one
    channel, its recordings may have been averaged by the device that is heard now, and it is told.

    Args:
        faults: From `ChannelWatch`.
        trained: The bundle's conditions; None, of older ones, makes nothing unfit.
        live: It comes from a microphone; in a recording every fault makes it unfit.

    Returns:
        Those that make it unfit, and the others; without those that were so in training.
    """
    usual = () if trained is None else trained.channel_levels_db
    news = [fault for fault in faults if not _was_so(fault, usual)]
    if trained is None:
        return (), tuple(news)
    all_of_them = not live or any(count > 1 for count in trained.channels)
    unfit = [fault for fault in news if all_of_them or fault.ruins_average]
    return tuple(unfit), tuple(fault for fault in news if fault not in unfit)


def _was_so(fault: ChannelFault, usual: Sequence[float]) -> bool:
    if fault.validity is not Validity.SILENT or fault.cancels:
        return False
    return max(fault.channels) < len(usual) and all(
        usual[channel] <= -QUIETER_DB for channel in fault.channels
    )
