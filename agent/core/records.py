"""What one stage hands to the next: small frozen records, each with its place in time.

    capture --AudioBlock--> window --Window--> encode --vector--> score --Score--> decide
                                                                                     |
                                                                publish <--Decision--+

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

from agent.core.foreign import ForeignSound
from agent.core.level_change import LevelChange, Points
from agent.core.reasons import Circumstance, Explanation, Reason
from agent.core.scale import Scale

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
    OUT_OF_RANGE = "out_of_range"  # far louder than anything training saw
    TOO_QUIET = "too_quiet"  # far quieter than that, and not called idle
    WARM_UP = "warm_up"  # the microphone was opened just before


class Activity(str, Enum):
    """What the machine does in a window, by its half seconds."""

    RUNNING = "running"  # all of it is settled sound of the running machine
    STILL = "still"  # it stands still
    CHANGING = "changing"  # starts up or stops in it, or has run too little so far


@dataclass(frozen=True, slots=True)
class ChannelFault:
    """Why channels should not be averaged.

    Attributes:
        validity: What becomes of sound averaged with it.
        channels: Which, from 0.
        text: What is wrong, in words.
        cancels: The average has lost what each of them holds.
    """

    validity: Validity
    channels: tuple[int, ...]
    text: str
    cancels: bool = False

    @property
    def ruins_average(self) -> bool:
        """Whether the average is of no use, whatever training had and the machine does."""
        return self.cancels or self.validity is Validity.CLIPPED


@dataclass(frozen=True, slots=True)
class Recorded:
    """How sound came, before it was brought to one channel and another rate.

    Attributes:
        rate: Samples a second.
        channels: How many.
        channel: The one that is used, from 0; None for the average of all.
    """

    rate: int
    channels: int
    channel: int | None = None

    @property
    def averaged(self) -> bool:
        """Whether several channels are averaged."""
        return self.channel is None and self.channels > 1


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
        channel_faults: What was last found wrong with the channels that were averaged.
        recorded: How it came; None where the source doesn't tell.
    """

    samples: Samples
    rate: int
    monotonic: float
    wall: float
    gap_before: bool = False
    origin: str = ""
    settling: bool = False
    channel_faults: tuple[ChannelFault, ...] = ()
    recorded: Recorded | None = None


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
        step: Samples from the window with the index before, had nothing been lost; 0 if unknown.
        position: Samples of the stream before it, without those that were lost.
        activity: What the machine does in it; None where that is not followed. The sound of a
            running window may be joined from the latest runs, its clocks then count back from its
            end.
        run_clock: Its end on a clock that stands still while the machine does, seconds; None where
            that is not followed.
        joined: Its samples are of several runs, so that no stretch of the stream holds them.
        channel_faults: What is wrong with the channels that were averaged; once it is judged,
            only what is to be told though it could be judged.
        recorded: How its last sample came; None where the source doesn't tell.
        level_dbfs: How loud its samples are, dBFS; None where that was not measured.
        called: It is judged before its time because its latest `step` of sound called for it: of
            the sound between it and the window before, it speaks for that step alone.
    """

    samples: Samples
    rate: int
    index: int
    monotonic: float
    wall: float
    validity: Validity = Validity.VALID
    reason: str = ""
    origin: str = ""
    step: int = 0
    position: int = 0
    activity: Activity | None = None
    run_clock: float | None = None
    joined: bool = False
    channel_faults: tuple[ChannelFault, ...] = ()
    recorded: Recorded | None = None
    level_dbfs: float | None = None
    called: bool = False

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

    def moved_from(self, earlier: Window) -> int | None:
        """Samples from the beginning of an earlier window to its own; None where they share none.

        What lies in both has to be the same sound: it may have been altered since, or be of another
        stream.
        """
        moved = self.position - earlier.position
        if not 0 < moved < len(self.samples):
            return None
        same = np.array_equal(earlier.samples[moved:], self.samples[:-moved])
        return moved if same else None


@dataclass(frozen=True, slots=True)
class Score:
    """How unlike the healthy recordings a window is.

    Attributes:
        window: The window judged.
        value: Anomaly score, larger is stranger; None when the window is invalid.
        neighbour: Row of the memory bank that is nearest, None when invalid.
        inference_seconds: What encoding took (0 when invalid).
        p_value: Conformal p-value: how likely a healthy window is to be at least as strange; None
            when invalid, or where the bundle's threshold is not conformal.
        level: The change of level without which it would be healthy; None of one that is healthy,
            or strange by more than its level.
        offset_db: What was taken off the sound before it was judged, dB; `window` holds it as it
            was judged.
        varies: What is strange in a window that exceeds comes and goes within it, more than healthy
            sound does: a vehicle that passes, speech, a door.
        foreign: Sounds from elsewhere that are heard in a window that exceeds.
        level_dbfs: How loud it is, dBFS; None of an idle machine's, or where it was not measured.
        bands_db: What was taken off its bands beside `offset_db`, (Hz, dB).
    """

    window: Window
    value: float | None
    neighbour: int | None = None
    inference_seconds: float = 0.0
    p_value: float | None = None
    level: LevelChange | None = None
    offset_db: float = 0.0
    varies: bool = False
    foreign: tuple[ForeignSound, ...] = ()
    level_dbfs: float | None = None
    bands_db: Points = ()

    @property
    def counted(self) -> float | None:
        """The value that speaks for or against an alarm: a pure change of level is none."""
        return self.value if self.level is None else self.level.value


class Level(str, Enum):
    """Severity of the machine's alarm (ISO 13374: normal, alert, alarm)."""

    NORMAL = "normal"
    ALERT = "alert"
    ALARM = "alarm"

    @property
    def rank(self) -> int:
        """0 for normal, 1 for alert, 2 for alarm."""
        return _RANKS[self.value]


_RANKS = {"normal": 0, "alert": 1, "alarm": 2}


class MachineState(str, Enum):
    """What the machine does, as far as its sound tells."""

    RUNNING = "running"
    IDLE = "idle"  # like the idle or noise recordings, or far quieter than it ever ran
    CHANGING = "changing"  # starts up or stops
    UNKNOWN = "unknown"  # the sound could not be judged


class Shelving(str, Enum):
    """Whether an operator has taken the alarm out of view (OPC UA Part 9, ShelvedStateMachine)."""

    UNSHELVED = "unshelved"
    TIMED = "timed"
    ONE_SHOT = "one_shot"  # until the present alarm has ended


class EventKind(str, Enum):
    """What happened to an alarm."""

    ALERT = "alert"  # risen from normal to alert
    RAISED = "raised"  # risen to alarm, from normal or alert
    LOWERED = "lowered"  # fallen from alarm to alert
    CLEARED = "cleared"  # back to normal
    REALARM = "realarm"  # told again: not acknowledged, for another reason, or for too long
    ACKNOWLEDGED = "acknowledged"
    SHELVED = "shelved"
    UNSHELVED = "unshelved"  # by an operator, or because its time was up
    MUTED = "muted"  # the machine is being worked on: nothing counts as evidence
    UNMUTED = "unmuted"
    LEVEL = "level"  # healthy sound at another level: no alarm, told once
    LEVEL_RETURNED = "level_returned"  # as loud as before again
    LEVEL_BASELINE = "level_baseline"  # an operator: it is the microphone; its level is taken anew
    LEVEL_UNDONE = "level_undone"  # an operator has taken that back


@dataclass(frozen=True, slots=True)
class AlarmStatus:
    """The alarm of a machine as it stands.

    Attributes:
        level: Its severity, whether or not it is shelved.
        since_wall: When that level began, seconds since the epoch.
        alarm_id: Id of the present alarm, from leaving normal to coming back; empty when normal.
        acknowledged: An operator has seen it; True when normal.
        latched: The machine sounds healthy again, but the alarm waits to be acknowledged.
        shelving: Whether it is out of view; a shelved alarm raises nothing.
        shelved_until_wall: When that ends at the latest, seconds since the epoch; None unshelved.
        muted_until_wall: Until when the machine is being worked on, seconds since the epoch: till
            then no window counts as evidence; None when it isn't.
        level_change_db: How much louder the machine is heard for good than healthy sound of its
            kind, dB, while nothing else has changed; None when it isn't.
        reason: What the present alarm is about, as told last; None when normal, or not known.
        planned: Name of the planned maintenance that mutes it; empty when none does.
    """

    level: Level
    since_wall: float
    alarm_id: str = ""
    acknowledged: bool = True
    latched: bool = False
    shelving: Shelving = Shelving.UNSHELVED
    shelved_until_wall: float | None = None
    muted_until_wall: float | None = None
    level_change_db: float | None = None
    reason: Reason | None = None
    planned: str = ""


@dataclass(frozen=True, slots=True)
class AlarmEvent:
    """Something that happened to an alarm, whole in itself: it can be told again after a restart.

    Attributes:
        id: The same however often it is told.
        kind: What happened.
        alarm_id: The alarm; empty for a shelving while all is normal.
        wall: When, seconds since the epoch.
        status: The alarm afterwards.
        previous: Level before it.
        threshold: The score above which a window counts as anomalous.
        score: Score of the latest window; None when it could not be judged, or there is none.
        window: Its index; None before the first.
        window_wall: Wall time of its first sample, seconds since the epoch.
        window_seconds: Its length, seconds.
        origin: File or device it was heard from.
        operator: Who asked for it; empty when nobody did.
        note: What they said.
        evidence: Where the sound of the alarm is kept; empty when it isn't.
        explanation: Why the window was judged so, of an event that raises; None when not known.
        p_value: Conformal p-value of the score; None without one.
        scale: Turns score and threshold into what people see; None when decided on by a version
            that knew none, or before the first window.
        level_change_db: Of an event about level: the change, or what is taken off from now on, dB;
            None of others.
        context: What else was so at that time, of an event that raises or reminds.
    """

    id: str
    kind: EventKind
    alarm_id: str
    wall: float
    status: AlarmStatus
    previous: Level
    threshold: float
    score: float | None = None
    window: int | None = None
    window_wall: float = 0.0
    window_seconds: float = 0.0
    origin: str = ""
    operator: str = ""
    note: str = ""
    evidence: str = ""
    explanation: Explanation | None = None
    p_value: float | None = None
    scale: Scale | None = None
    level_change_db: float | None = None
    context: tuple[Circumstance, ...] = ()


@dataclass(frozen=True, slots=True)
class Decision:
    """What a score means for the machine's alarm.

    Attributes:
        score: The score decided on.
        threshold: The score above which a window counts as anomalous.
        exceeded: Whether this window did (never while the machine is idle and that suppresses).
        level: Alarm level after this window.
        changed: True on the window that raised or cleared the alarm before the world's eyes: never
            while it is shelved.
        since_wall: Wall time at which the present level began, seconds since the epoch.
        alarm_id: Stable id of the present alarm; empty when normal and unchanged.
        state: What the machine does.
        alert_threshold: The score above which a window speaks for an alert; None without alerts.
        status: The alarm in full; None only from those who do not know it.
        events: What this window did to it, in order.
        evidence: Where the sound of the alarm is kept; empty when it isn't.
        held: Why the window counts neither for nor against an alarm though it was judged: a sound
            from elsewhere that is to be ignored; empty when it counts.
        scale: Turns scores and thresholds, which are raw here, into what people see; None from
            those who do not know it.
    """

    score: Score
    threshold: float
    exceeded: bool
    level: Level
    changed: bool
    since_wall: float
    alarm_id: str = ""
    state: MachineState = MachineState.UNKNOWN
    alert_threshold: float | None = None
    status: AlarmStatus | None = None
    events: tuple[AlarmEvent, ...] = ()
    evidence: str = ""
    held: str = ""
    scale: Scale | None = None
