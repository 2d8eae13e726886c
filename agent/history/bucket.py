"""A stretch of a machine's past in a few numbers, and how two of them are joined."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from agent.core.cloud_event import Message
from agent.core.records import Level, MachineState, Validity

# Steps kept, seconds: how finely the latest hour, the latest month and the years are kept.
STEPS = (1, 60, 3600)


@dataclass(slots=True)
class Bucket:
    """What was told of a machine in one step. Joining two, in any order, gives one of both.

    Attributes:
        windows: Windows decided on.
        scored: Those that could be judged.
        score_sum: Of their scores, on the scale whose 1.0 is the threshold.
        score_min: The least; None without one.
        score_max: The largest; None without one.
        threshold: Of them, always 1.0; None before.
        exceeded: Windows above it.
        drift: Largest drift distance, nats; None when none was evaluated.
        drift_threshold: What counted as drift; None likewise.
        level: Highest alarm level, by rank.
        running: Windows in which the machine ran.
        idle: Windows in which it stood idle.
        invalid: Why windows could not be judged, the latest reason; empty when all could.
        estimated: 1 when an earlier version kept raw scores, which were put on the scale since.
    """

    windows: int = 0
    scored: int = 0
    score_sum: float = 0.0
    score_min: float | None = None
    score_max: float | None = None
    threshold: float | None = None
    exceeded: int = 0
    drift: float | None = None
    drift_threshold: float | None = None
    level: int = 0
    running: int = 0
    idle: int = 0
    invalid: str = ""
    estimated: int = 0

    def join(self, other: Bucket) -> None:
        """Take another one in, told later than this."""
        self.windows += other.windows
        self.scored += other.scored
        self.score_sum += other.score_sum
        self.score_min = _least(self.score_min, other.score_min)
        self.score_max = _most(self.score_max, other.score_max)
        self.threshold = self.threshold if other.threshold is None else other.threshold
        self.exceeded += other.exceeded
        self.drift = _most(self.drift, other.drift)
        if other.drift_threshold is not None:
            self.drift_threshold = other.drift_threshold
        self.level = max(self.level, other.level)
        self.running += other.running
        self.idle += other.idle
        self.invalid = other.invalid or self.invalid
        self.estimated = max(self.estimated, other.estimated)


def bucket_of(kind: str, message: Message) -> Bucket | None:
    """A message's part in its step; None when it has none.

    Args:
        kind: Of the message, as `LiveBoard` has it.
        message: The payload, as on MQTT.
    """
    if kind == "score":
        score, state = message["score"], message["state"]
        valid = message["validity"] == Validity.VALID.value
        # What was held back says nothing of the machine; messages kept by older versions lack it.
        held = message.get("held", "")
        score = None if held else score
        return Bucket(
            windows=1,
            scored=int(score is not None),
            score_sum=score or 0.0,
            score_min=score,
            score_max=score,
            threshold=message["threshold"],
            exceeded=int(message["exceeded"]),
            level=Level(message["level"]).rank,
            running=int(state == MachineState.RUNNING.value),
            idle=int(state == MachineState.IDLE.value),
            invalid=held or ("" if valid else message["validity"]),
        )
    if kind == "drift":
        return Bucket(drift=message["distance"], drift_threshold=message["threshold"])
    return None


def second_of(time: str) -> int:
    """A message's time as whole seconds since the epoch."""
    return int(datetime.fromisoformat(time.replace("Z", "+00:00")).timestamp())


def _least(one: float | None, other: float | None) -> float | None:
    return min((value for value in (one, other) if value is not None), default=None)


def _most(one: float | None, other: float | None) -> float | None:
    return max((value for value in (one, other) if value is not None), default=None)
