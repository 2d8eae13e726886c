"""What one stage hands to the next: small frozen records, each with its place in time.

    capture --AudioBlock--> window --Window--> encode --Embedding--> score --Score--> decide
                                                                                        |
                                                                publish <--Decision-----+

Two clocks travel with the sound. `monotonic` never jumps and measures durations; `wall` is what a
person reads on an alarm. Both are seconds (float), both refer to the **first** sample of the
record. A replayed file has the clocks its stream would have had: the start of the replay plus the
position in the stream, whether it is played at real time or as fast as possible.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Samples: TypeAlias = npt.NDArray[np.float32]
Matrix: TypeAlias = npt.NDArray[np.float32]


class Validity(str, Enum):
    """May this sound be judged? Anything but VALID is neither normal nor anomalous."""

    VALID = "valid"
    GAP = "gap"  # samples were lost inside the window
    SILENT = "silent"  # digital silence or a constant: a dead or muted microphone
    CLIPPED = "clipped"  # the converter saturates
    NOT_FINITE = "not_finite"  # NaN or infinity in the samples
    TOO_SHORT = "too_short"  # less sound than can be judged
    OUT_OF_RANGE = "out_of_range"  # far louder or quieter than anything training saw
    WARM_UP = "warm_up"  # the microphone was opened just before


@dataclass(frozen=True, slots=True)
class AudioBlock:
    """Samples as captured: one channel (chosen or averaged), at the rate asked of the source.

    Attributes:
        samples: float32, shape `(n,)`, full scale 1.0.
        rate: Samples a second.
        monotonic: Monotonic time of the first sample, seconds.
        wall: Wall time of the first sample, seconds since the epoch.
        gap_before: True when sound was lost between the previous block and this one.
        origin: Where it came from: a file's name or a device's.
        settling: Heard so soon after the device was opened that it may not be judged.
    """

    samples: Samples
    rate: int
    monotonic: float
    wall: float
    gap_before: bool = False
    origin: str = ""
    settling: bool = False


@dataclass(frozen=True, slots=True)
class Window:
    """A stretch of sound of the encoder's length, ready to be judged (or not, and why).

    Attributes:
        samples: float32, shape `(window_samples,)`, at the encoder's rate.
        rate: Samples a second.
        index: Counts windows of the stream from 0, invalid ones included.
        monotonic: Monotonic time of the first sample, seconds.
        wall: Wall time of the first sample, seconds since the epoch.
        validity: Whether it may be judged.
        reason: Why not, in words a technician understands; empty when valid.
        origin: File or device of its last sample.
    """

    samples: Samples
    rate: int
    index: int
    monotonic: float
    wall: float
    validity: Validity = Validity.VALID
    reason: str = ""
    origin: str = ""

    @property
    def seconds(self) -> float:
        """Length, seconds."""
        return len(self.samples) / self.rate

    @property
    def end_wall(self) -> float:
        """Wall time just after the last sample, seconds since the epoch."""
        return self.wall + self.seconds

    @property
    def end_monotonic(self) -> float:
        """Monotonic time just after the last sample, seconds."""
        return self.monotonic + self.seconds


@dataclass(frozen=True, slots=True)
class Embedding:
    """A valid window as a vector.

    Attributes:
        window: The window it was made from.
        vector: float32, shape `(dim,)`.
        inference_seconds: What the encoder took.
    """

    window: Window
    vector: npt.NDArray[np.float32]
    inference_seconds: float


@dataclass(frozen=True, slots=True)
class Score:
    """How unlike the healthy recordings a window is.

    Attributes:
        window: The window judged.
        value: Anomaly score, larger is stranger; None when the window is invalid.
        neighbour: Row of the memory bank that is nearest, None when invalid.
        inference_seconds: What encoding took (0 when invalid).
    """

    window: Window
    value: float | None
    neighbour: int | None = None
    inference_seconds: float = 0.0


class Level(str, Enum):
    """State of the machine's alarm (vocabulary of OPC UA Part 9 and ISO 13374)."""

    NORMAL = "normal"
    ALARM = "alarm"


@dataclass(frozen=True, slots=True)
class Decision:
    """What a score means for the machine's alarm.

    Attributes:
        score: The score decided on.
        threshold: The score above which a window counts as anomalous.
        exceeded: Whether this window did.
        level: Alarm level after this window.
        changed: True on the window that raised or cleared the alarm.
        since_wall: Wall time at which the present level began, seconds since the epoch.
        alarm_id: Stable id of the present alarm; empty when normal and unchanged.
    """

    score: Score
    threshold: float
    exceeded: bool
    level: Level
    changed: bool
    since_wall: float
    alarm_id: str = ""
