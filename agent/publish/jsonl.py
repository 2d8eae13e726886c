"""Every message as a line of JSON in a file: a record that needs no broker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from io import BufferedWriter
from pathlib import Path

from agent.drift.events import DriftEvent, DriftStatus
from agent.errors import ConfigError
from agent.frames import AlarmEvent, AlarmStatus, Decision
from agent.health.clock import WALL_CLOCK
from agent.publish.config import JsonlConfig
from agent.publish.drift import drift_event_message, drift_status_message
from agent.publish.messages import (
    Message,
    alarm_message,
    encode,
    event_message,
    score_message,
    sensor_message,
    status_message,
    status_of,
)
from agent.publish.news import AlarmNews
from agent.window.condition import SensorCondition

log = logging.getLogger(__name__)


class JsonlPublisher:
    """Appends messages to a file, each with its `kind`: status, score, alarm, event, sensor or
    drift.

    The file is bounded: at `max_bytes` it is renamed to `<path>.1` (and that to `.2`...). A full
    disk loses lines, which are counted, and writing is tried again with every line.

    Args:
        config: The file and its bounds.
        device: This device's name.
        machines: The machines it listens to.
    """

    def __init__(self, config: JsonlConfig, device: str, machines: Sequence[str]) -> None:
        self._config = config
        self._device = device
        self._machines = tuple(machines)
        self._lock = threading.Lock()  # several machines write to one file
        self._file: BufferedWriter | None = None
        self._news = AlarmNews()
        self._lost = 0
        self._running = False

    def start(self) -> None:
        """Open the file.

        Raises:
            ConfigError: It cannot be written.
        """
        try:
            self._config.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._config.path.open("ab")
        except OSError as fault:
            raise ConfigError(
                f"cannot be written: {fault.strerror}",
                where=self._config.path,
                remedy="Change `jsonl.path` or the folder's permissions.",
            ) from fault
        self._running = True
        self._write("status", self._status("online"))

    def publish(self, machine: str, decision: Decision, *, first: bool) -> None:
        """Write the window's score, and the alarm's state when that is new."""
        self._write(
            "score", score_message(self._device, machine, decision, clock=WALL_CLOCK.quality)
        )
        status = status_of(decision)
        if self._news.note(machine, status) or first:
            moment, score = decision.score.window.end_wall, decision.score.value
            self._write_alarm(machine, status, moment, score, decision.threshold)

    def tell(self, machine: str, event: AlarmEvent) -> None:
        """Write an alarm's event, and the state it led to."""
        self._news.note(machine, event.status)
        self._write_alarm(machine, event.status, event.wall, event.score, event.threshold)
        self._write("event", event_message(self._device, machine, event, clock=WALL_CLOCK.quality))

    def sensor(self, machine: str, condition: SensorCondition) -> None:
        """Write the condition of a machine's microphone."""
        message = sensor_message(self._device, machine, condition, time=time.time())
        self._write("sensor", message)

    def drift(self, machine: str, status: DriftStatus) -> None:
        """Write how a machine's drift stands."""
        self._write("drift", drift_status_message(self._device, machine, status))

    def tell_drift(self, machine: str, event: DriftEvent) -> None:
        """Write a drift warning's event."""
        message = drift_event_message(self._device, machine, event, clock=WALL_CLOCK.quality)
        self._write("event", message)

    def stop(self) -> None:
        """Write `offline` and close the file."""
        if not self._running:
            return
        self._write("status", self._status("offline", "stopped"))
        self._running = False
        with self._lock:
            self._close()

    def state(self) -> str:
        """Lines lost, if any were."""
        return f"{self._lost} lines not written to {self._config.path}" if self._lost else ""

    def _write_alarm(
        self,
        machine: str,
        status: AlarmStatus,
        moment: float,
        score: float | None,
        threshold: float,
    ) -> None:
        message = alarm_message(
            self._device, machine, status, time=moment, score=score, threshold=threshold
        )
        self._write("alarm", message)

    def _status(self, status: str, reason: str = "") -> Message:
        return status_message(
            self._device, status, machines=self._machines, time=time.time(), reason=reason
        )

    def _write(self, kind: str, message: Message) -> None:
        with self._lock:
            try:
                line = encode({"kind": kind, **message}) + b"\n"
                if self._file is None:
                    self._file = self._config.path.open("ab")
                if self._file.tell() + len(line) > self._config.max_bytes:
                    self._rotate()
                self._file.write(line)
                self._file.flush()
            except (OSError, ValueError) as fault:
                if self._lost == 0:
                    log.warning(
                        "%s: a line could not be written (%s); such lines are lost and counted",
                        self._config.path, fault,
                    )  # fmt: skip
                self._lost += 1
                # What is left in the buffer would be half a line.
                self._close()

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        path = self._config.path
        for number in range(self._config.backups, 0, -1):
            older = Path(f"{path}.{number}")
            newer = Path(f"{path}.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(older)
        self._file = path.open("ab" if self._config.backups else "wb")

    def _close(self) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError:
            log.debug("closing %s failed", self._config.path, exc_info=True)
        self._file = None
