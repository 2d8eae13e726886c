"""What the subscriber's messages say about the detector: pure functions of what was received."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from agent.core.text import plural
from export.demo.stream import Stream


@dataclass(frozen=True, slots=True)
class Heard:
    """One window as published.

    Attributes:
        index: The window's number in the stream, from 0.
        start: Where it begins in the stream, seconds.
        end: Where it ends in the stream, seconds.
        score: Anomaly score; None when the window could not be judged.
        threshold: The score above which it counts as anomalous.
        exceeded: Whether it did.
        level: The machine's alarm after it.
    """

    index: int
    start: float
    end: float
    score: float | None
    threshold: float
    exceeded: bool
    level: str


@dataclass(slots=True)
class Record:
    """Everything received in one listening.

    Attributes:
        hop: Step between windows, seconds.
        window_seconds: Length of a window.
        windows: Windows, in order of arrival.
        raised: Ends of the windows that raised the alarm, seconds in the stream.
        cleared: The same for clearing it.
    """

    hop: float
    window_seconds: float
    windows: list[Heard] = field(default_factory=list)
    raised: list[float] = field(default_factory=list)
    cleared: list[float] = field(default_factory=list)

    def take(self, topic: str, message: dict[str, Any]) -> Heard | str | None:
        """Take a message in.

        Returns:
            The window, what became of the alarm (`raised`, `cleared`), or None for the rest.
        """
        kind = topic.rsplit("/", 1)[-1]
        if kind == "score":
            start = message["window"] * self.hop
            heard = Heard(
                message["window"],
                start,
                start + message["seconds"],
                message["score"],
                message["threshold"],
                message["exceeded"],
                message["level"],
            )
            self.windows.append(heard)
            return heard
        if kind == "event" and message["type"].startswith("auscult.alarm."):
            data = message["data"]
            end = data["window"] * self.hop + data["seconds"]
            if data["event"] == "raised":
                self.raised.append(end)
                return "raised"
            # It may fall to an alert first; an alert that comes and goes was no alarm.
            if data["event"] in ("lowered", "cleared") and len(self.raised) > len(self.cleared):
                self.cleared.append(end)
                return "cleared"
        return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the detector did on a stream.

    Attributes:
        alarm: When the alarm for the fault was raised, seconds in the stream; None if it wasn't.
        delay_seconds: From the fault's onset to that.
        delay_windows: The same in windows.
        false_alarms: Alarms raised before the onset.
        healthy_windows: Windows judged that hold no faulty sound.
        healthy_exceeded: Those above the threshold.
        faulty_windows: Windows judged that hold nothing but faulty sound.
        faulty_exceeded: Those above the threshold.
        missing: Windows of the stream that never arrived.
        standing: Whether a false alarm still stood at the onset, hiding the real one.
    """

    alarm: float | None
    delay_seconds: float | None
    delay_windows: int | None
    false_alarms: int
    healthy_windows: int
    healthy_exceeded: int
    faulty_windows: int
    faulty_exceeded: int
    missing: int
    standing: bool

    @property
    def detected(self) -> bool:
        """Whether the alarm was raised after the onset."""
        return self.alarm is not None

    def verdict(self) -> str:
        """In one sentence."""
        if self.alarm is not None:
            text = (
                f"The alarm was raised {self.delay_seconds:.0f} s "
                f"({plural(self.delay_windows or 0, 'window')}) "
                "after the fault began"
            )
        elif self.standing:
            text = "A false alarm stood when the fault began, so nothing new was raised"
        else:
            text = "The fault was not detected: no alarm was raised after it began"
        if self.false_alarms:
            before = "was" if self.false_alarms == 1 else "were"
            return f"{text}; before it there {before} {plural(self.false_alarms, 'false alarm')}."
        return f"{text}; there was no false alarm before it."


def judge(record: Record, stream: Stream) -> Outcome:
    """Compare what was received with where the fault truly began."""
    onset = stream.onset
    raised = sorted(record.raised)
    after = [end for end in raised if end > onset]
    before = [end for end in raised if end <= onset]
    alarm = after[0] if after else None
    valid = [w for w in record.windows if w.score is not None]
    healthy = [w for w in valid if w.end <= onset]
    faulty = [w for w in valid if w.start >= onset]
    last = (stream.seconds - record.window_seconds) / record.hop
    expected = max(0, math.floor(last + 1e-6) + 1)
    return Outcome(
        alarm=alarm,
        delay_seconds=None if alarm is None else alarm - onset,
        delay_windows=None if alarm is None else math.ceil((alarm - onset) / record.hop - 1e-6),
        false_alarms=len(before),
        healthy_windows=len(healthy),
        healthy_exceeded=sum(w.exceeded for w in healthy),
        faulty_windows=len(faulty),
        faulty_exceeded=sum(w.exceeded for w in faulty),
        missing=expected - len({w.index for w in record.windows}),
        standing=alarm is None and len(before) > sum(1 for end in record.cleared if end <= onset),
    )
