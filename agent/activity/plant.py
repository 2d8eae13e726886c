"""What the plant says: does the machine run? A controller's bit or speed, by an MQTT topic."""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from agent.config.running import RunningConfig

log = logging.getLogger(__name__)

_TRUE = frozenset({"true", "on", "yes", "run", "running", "started"})
_FALSE = frozenset({"false", "off", "no", "stop", "stopped", "idle", "standing"})
# Nothing that a bit or a number needs.
_MOST_BYTES = 65_536


class PlantSignal:
    """The latest that was said of one machine. Any thread.

    Args:
        machine: The machine, for the log.
        config: Where it is said, and how it is read.
    """

    def __init__(self, machine: str, config: RunningConfig) -> None:
        self.machine, self.config = machine, config
        self._lock = threading.Lock()
        self._value: bool | None = None
        self._said = 0.0  # monotonic
        self._begun = time.monotonic()
        self._told_stale = False
        self._told_odd = False

    @property
    def topic(self) -> str:
        """Where it is said."""
        return self.config.topic

    def take(self, payload: bytes) -> None:
        """Take a message; one that cannot be understood says nothing, and is logged once."""
        value = read_running(payload, self.config.field, self.config.above, self.config.up_to)
        with self._lock:
            if value is None:
                if not self._told_odd:
                    log.warning(
                        "%s: %s says %r, which is neither a bit nor a number%s",
                        self.machine, self.topic, payload[:60],
                        f" at `{self.config.field}`" if self.config.field else "",
                    )  # fmt: skip
                self._told_odd = True
                return
            self._value, self._said, self._told_odd = value, time.monotonic(), False
            if self._told_stale:
                log.info("%s: %s says again whether it runs", self.machine, self.topic)
            self._told_stale = False

    def running(self) -> bool | None:
        """Whether it runs, in the state that is asked for; None when that isn't said any more.

        Where a speed picks among states, not to know it is not to be in this one.
        """
        with self._lock:
            limit = self.config.stale_seconds
            age = time.monotonic() - (self._begun if self._value is None else self._said)
            stale = limit is not None and age > limit
            if stale and not self._told_stale:
                self._told_stale = True
                log.warning("%s: %s: %s", self.machine, self._words(age), self._then)
            if self.config.up_to is not None and (stale or self._value is None):
                return False  # by ear nobody knows which state it is in
            return None if stale else self._value

    def trouble(self) -> str:
        """What is amiss, for people; empty when all is well."""
        self.running()
        with self._lock:
            if self._told_odd:
                return f"{self.topic} says nothing that can be understood"
            if not self._told_stale:
                return ""
            age = time.monotonic() - (self._begun if self._value is None else self._said)
            return self._words(age)

    @property
    def _then(self) -> str:
        """What becomes of a machine of which nothing is said any more."""
        return "by ear from now on" if self.config.up_to is None else "nothing is judged until then"

    def _words(self, age: float) -> str:
        return f"{self.topic} has not said for {age / 60:.0f} minutes whether it runs"


def signals_of(asked: Mapping[str, RunningConfig | None]) -> dict[str, PlantSignal]:
    """By machine, what the plant says of it; of those of which it says anything."""
    return {name: PlantSignal(name, one) for name, one in asked.items() if one is not None}


def read_running(
    payload: bytes, field: str, above: float, up_to: float | None = None
) -> bool | None:
    """Whether a message says that the machine runs; None when it cannot be understood.

    Args:
        payload: The message.
        field: Member of a JSON object, members of members parted by dots; empty for the whole.
        above: A number above this is running...
        up_to: ...if it is not above this; None for no limit.
    """
    if len(payload) > _MOST_BYTES:
        return None
    try:
        text = payload.decode().strip()
    except UnicodeDecodeError:
        return None
    value: Any = text
    with suppress(ValueError, RecursionError):  # a bare word
        value = json.loads(text)
    for name in field.split(".") if field else ():
        value = value.get(name) if isinstance(value, dict) else None
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        word = value.strip().lower()
        if word in _TRUE or word in _FALSE:
            return word in _TRUE
        try:
            value = float(word)
        except ValueError:
            return None
    if isinstance(value, int | float):
        # Compared as it is: an integer may be beyond any float.
        if isinstance(value, float) and math.isnan(value):
            return None
        return value > above and (up_to is None or value <= up_to)
    return None
