"""A simulated device: its connection, its numbers, and what it keeps of what it told."""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from plant.simulate.recorded import Recorded, Stream
from plant.simulate.wire import Wire, publish, subscribe

# As the agent: sent and not yet acknowledged, at most.
_UNDER_WAY = 20
_CONNACK, _PUBLISH = 0x20, 0x30
_KEPT = 1000  # as an agent keeps, of what was acknowledged


@dataclass(slots=True)
class Sent:
    """What was sent, and became of it.

    Attributes:
        events: Events offered, each with an id of its own.
        messages: Messages offered, scores and states included.
        acknowledged: Of those of QoS 1, acknowledged by the broker.
        reconnects: Connections lost.
        again: Events sent again, as the plant asked for them.
        late: The most that the pace was behind, seconds.
        ids: Of every event.
    """

    events: int = 0
    messages: int = 0
    acknowledged: int = 0
    reconnects: int = 0
    again: int = 0
    late: float = 0.0
    ids: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Out:
    """A message of QoS 1, and of an event its number."""

    topic: str
    payload: bytes
    retain: bool
    sequence: int = 0


@dataclass(slots=True)
class _Machine:
    name: str
    stream: Stream
    at: int = 0
    score_at: int = 0


class Device:
    """One device: what it tells waits until the broker has acknowledged it, over reconnects.

    Args:
        place: Host and port of the broker.
        prefix: First levels of its topics.
        name: Its own.
        streams: What its machines tell, one each.
        login: User name and password.
    """

    def __init__(
        self,
        place: tuple[str, int],
        prefix: str,
        name: str,
        streams: Sequence[Stream],
        login: tuple[str | None, str | None],
    ) -> None:
        self.name, self._login = name, login
        self._base = f"{prefix}/{name}"
        self.wire = Wire(place)
        self.machines = [_Machine(f"machine-{n + 1}", one) for n, one in enumerate(streams)]
        self._sequence = 0
        self._mid = 0
        self._first = b""
        self._waiting: deque[_Out] = deque()
        self._under_way: dict[int, _Out] = {}
        self._kept: deque[tuple[int, str, Callable[[], bytes]]] = deque(maxlen=_KEPT)
        self._again: list[tuple[int, int]] = []
        #: By topic, the latest state, as the device has it.
        self.states: dict[str, bytes] = {}
        self.ready = False
        self.back_at = 0.0

    @property
    def idle(self) -> bool:
        """Whether everything is acknowledged."""
        return not self._waiting and not self._under_way

    def connect(self) -> None:
        """Connect; what was under way is due again, in its order, and the latest of each state.

        Raises:
            OSError: The broker is away.
        """
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()
        self._waiting.extend(_Out(topic, payload, True) for topic, payload in self.states.items())
        self.ready = False
        self._again.clear()
        self.wire.open(f"auscult-{self.name}", *self._login)

    def happen(self, number: int, now: str, sent: Sent) -> None:
        """Something happens to one of the machines: an event, with the states that it brings."""
        machine = self.machines[number % len(self.machines)]
        told = machine.stream.told
        events = 0
        while True:
            one = told[machine.at % len(told)]
            if one.topic == "event" and events:
                return
            events += one.topic == "event"
            # Each time round, other alarms.
            alarm_id = f"{one.alarm}-{self.name}-{machine.at // len(told)}" if one.alarm else ""
            machine.at += 1
            event_id = ""
            if one.topic == "event":
                self._sequence += 1
                event_id = f"{self.name}-{self._sequence}"
                sent.events += 1
                sent.ids.append(event_id)
            self._put(machine, one, now, event_id, alarm_id)
            sent.messages += 1

    def score(self, number: int, now: str, sent: Sent) -> None:
        """A window of one of the machines; dropped while the broker is away, as by an agent."""
        machine = self.machines[number % len(self.machines)]
        scores = machine.stream.scores
        if not self.ready or not any(one.topic == "score" for one in scores[:50]):
            return
        windows = 0
        while True:
            one = scores[machine.score_at % len(scores)]
            if one.topic == "score" and windows:
                return
            windows += one.topic == "score"
            machine.score_at += 1
            sent.messages += 1
            if one.topic != "score":
                self._put(machine, one, now, "", one.alarm and f"{one.alarm}-{self.name}")
                continue
            payload = one.filled(self.name, machine.name, now, "", 0, "")
            self.wire.out += publish(f"{self._base}/{machine.name}/score", payload, 0)

    def birth(self, now: str) -> None:
        """Say that it is online."""
        status = {
            "device": self.name, "status": "online", "time": now, "reason": "",
            "machines": [one.name for one in self.machines], "unjudged": [], "version": "simulated",
        }  # fmt: skip
        self._waiting.append(_Out(f"{self._base}/status", json.dumps(status).encode(), True))
        self._mid = self._mid % 65_535 + 1
        self._first = subscribe(f"{self._base}/request/resend", self._mid)

    @property
    def acknowledged(self) -> int:
        """Up to this number the broker had every event."""
        under_way = (*self._under_way.values(), *self._waiting)
        return (
            min((one.sequence for one in under_way if one.sequence), default=self._sequence + 1) - 1
        )

    def health(self, now: str) -> None:
        """Say up to which number events were acknowledged, as agents do from time to time."""
        if not self.ready:
            return
        told = {"device": self.name, "time": now, "outbox": {"acknowledged": self.acknowledged}}
        payload = json.dumps(told).encode()
        self.wire.out += publish(f"{self._base}/health", payload, 0, retain=True)

    def repeat(self, sent: Sent) -> None:
        """Send again what was asked for, of what is kept."""
        for first, last in self._again:
            for sequence, topic, made in self._kept:
                if first <= sequence <= last:
                    self._waiting.append(_Out(topic, made(), False, sequence))
                    sent.again += 1
        self._again.clear()

    def _put(
        self, machine: _Machine, one: Recorded, now: str, event_id: str, alarm_id: str
    ) -> None:
        topic, sequence = f"{self._base}/{machine.name}/{one.topic}", self._sequence
        made = partial(one.filled, self.name, machine.name, now, event_id, sequence, alarm_id)
        is_event = one.topic == "event"
        payload = made()
        self._waiting.append(_Out(topic, payload, not is_event, sequence if is_event else 0))
        if is_event:
            self._kept.append((sequence, topic, made))
        else:
            self.states[topic] = payload

    def send(self) -> None:
        """Send what waits, as far as may be under way.

        Raises:
            OSError: The connection is lost.
        """
        while self.ready and self._waiting and len(self._under_way) < _UNDER_WAY:
            message = self._waiting.popleft()
            self._mid = self._mid % 65_535 + 1
            self._under_way[self._mid] = message
            self.wire.out += publish(
                message.topic, message.payload, self._mid, retain=message.retain
            )
        if self.wire.out:
            self.wire.flush()

    def take(self) -> int:
        """Take what the broker says; how many messages it acknowledged.

        Raises:
            OSError: The connection is lost.
        """
        number = 0
        for kind, value, payload in self.wire.read():
            if kind == _CONNACK:
                if value:
                    raise ConnectionError(f"the broker refuses us (reason {value:#x})")
                self.ready = True
                self.wire.out += self._first
                self.health(stamp())
            elif kind == _PUBLISH:
                asked = json.loads(payload)
                self._again.append((asked["first"], asked["last"]))
            else:
                number += self._under_way.pop(value, None) is not None
        return number


def stamp() -> str:
    """Now, as agents write it."""
    now = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{whole}.{int(now % 1 * 1000):03d}Z"
