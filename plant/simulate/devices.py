"""Simulated devices: each with its own connection and numbers, at a common pace."""

from __future__ import annotations

import json
import selectors
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

from plant.simulate.recorded import Recorded, Stream
from plant.simulate.wire import PING, Wire, publish

# As the agent: sent and not yet acknowledged, at most.
_UNDER_WAY = 20
_PING_SECONDS = 100.0
_CONNACK = 0x20


@dataclass(slots=True)
class Sent:
    """What was sent, and became of it.

    Attributes:
        events: Events offered, each with an id of its own.
        messages: Messages offered, scores and states included.
        acknowledged: Of those of QoS 1, acknowledged by the broker.
        reconnects: Connections lost.
        late: The most that the pace was behind, seconds.
        ids: Of every event.
    """

    events: int = 0
    messages: int = 0
    acknowledged: int = 0
    reconnects: int = 0
    late: float = 0.0
    ids: list[str] = field(default_factory=list)


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
        self._waiting: deque[tuple[str, bytes, bool]] = deque()
        self._under_way: dict[int, tuple[str, bytes, bool]] = {}
        self.ready = False
        self.back_at = 0.0

    @property
    def idle(self) -> bool:
        """Whether everything is acknowledged."""
        return not self._waiting and not self._under_way

    def connect(self) -> None:
        """Connect; what was under way is due again, in its order.

        Raises:
            OSError: The broker is away.
        """
        self._waiting.extendleft(reversed(self._under_way.values()))
        self._under_way.clear()
        self.ready = False
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
        self._waiting.append((f"{self._base}/status", json.dumps(status).encode(), True))

    def _put(
        self, machine: _Machine, one: Recorded, now: str, event_id: str, alarm_id: str
    ) -> None:
        payload = one.filled(self.name, machine.name, now, event_id, self._sequence, alarm_id)
        self._waiting.append(
            (f"{self._base}/{machine.name}/{one.topic}", payload, one.topic != "event")
        )

    def send(self) -> None:
        """Send what waits, as far as may be under way.

        Raises:
            OSError: The connection is lost.
        """
        while self.ready and self._waiting and len(self._under_way) < _UNDER_WAY:
            message = self._waiting.popleft()
            self._mid = self._mid % 65_535 + 1
            self._under_way[self._mid] = message
            topic, payload, retain = message
            self.wire.out += publish(topic, payload, self._mid, retain=retain)
        if self.wire.out:
            self.wire.flush()

    def take(self) -> int:
        """Take what the broker says; how many messages it acknowledged.

        Raises:
            OSError: The connection is lost.
        """
        number = 0
        for kind, value in self.wire.read():
            if kind == _CONNACK:
                if value:
                    raise ConnectionError(f"the broker refuses us (reason {value:#x})")
                self.ready = True
            else:
                number += self._under_way.pop(value, None) is not None
        return number


class Fleet:
    """Many devices, served by one thread.

    Args:
        devices: All of them.
        sent: Counts what was sent.
    """

    def __init__(self, devices: Sequence[Device], sent: Sent) -> None:
        self.devices, self.sent = devices, sent
        self._selector = selectors.DefaultSelector()
        self._pinged = time.monotonic()
        self._events = self._scores = 0
        self._busy: set[Device] = set()  # with something to send
        self._lost: set[Device] = set()

    def start(self) -> None:
        """Connect every device, and let each say that it is online.

        Raises:
            OSError: The broker is away.
        """
        for number, device in enumerate(self.devices):
            self._connect(device)
            device.birth(stamp())
            self._busy.add(device)
            if number % 50 == 49:
                self._turn(0.0)

    def run(self, events: float, scores: float, seconds: float) -> None:
        """Let things happen at a pace, spread over all devices and machines.

        Args:
            events: A second, over all.
            scores: A second, over all.
            seconds: For so long.
        """
        begin = time.monotonic()
        first_event, first_score = self._events, self._scores
        while (now := time.monotonic()) < begin + seconds:
            text, size = stamp(), len(self.devices)
            while self._events < first_event + events * (now - begin):
                device = self.devices[self._events % size]
                device.happen(self._events // size, text, self.sent)
                self._busy.add(device)
                self._events += 1
            while self._scores < first_score + scores * (now - begin):
                device = self.devices[self._scores % size]
                device.score(self._scores // size, text, self.sent)
                self._busy.add(device)
                self._scores += 1
            self._turn(0.005)
            self.sent.late = max(self.sent.late, time.monotonic() - now)

    def finish(self, seconds: float) -> bool:
        """Wait until everything is acknowledged; whether it is."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if all(one.idle for one in self.devices):
                return True
            self._turn(0.01)
        return False

    def stop(self) -> None:
        """Hang up."""
        for device in self.devices:
            device.wire.close()
        self._selector.close()

    def _connect(self, device: Device) -> None:
        device.connect()
        assert device.wire.socket is not None
        self._selector.register(device.wire.socket, selectors.EVENT_READ, device)

    def _lose(self, device: Device) -> None:
        if device.wire.socket is not None:
            with suppress(KeyError, ValueError):
                self._selector.unregister(device.wire.socket)
        device.wire.close()
        device.ready = False
        device.back_at = time.monotonic() + 1.0
        self._busy.discard(device)
        self._lost.add(device)

    def _turn(self, wait: float) -> None:
        now = time.monotonic()
        ping = now - self._pinged > _PING_SECONDS
        if ping:
            self._pinged = now
        for key, _ in self._selector.select(wait):
            self._try(key.data, self._take)
        for device in [one for one in self._lost if now >= one.back_at]:
            self.sent.reconnects += 1
            self._lost.discard(device)
            self._try(device, self._connect)
        if ping:
            for device in self.devices:
                if device.ready:
                    device.wire.out += PING
                    self._busy.add(device)
        for device in list(self._busy):
            self._try(device, self._send)

    def _send(self, device: Device) -> None:
        if device.wire.socket is not None:
            device.send()
        if not device.wire.out:  # what else waits is sent when something is acknowledged
            self._busy.discard(device)

    def _take(self, device: Device) -> None:
        self.sent.acknowledged += device.take()
        self._busy.add(device)

    def _try(self, device: Device, work: Callable[[Device], None]) -> None:
        try:
            work(device)
        except OSError:
            self._lose(device)


def fleet(
    place: tuple[str, int],
    prefix: str,
    streams: Sequence[Stream],
    *,
    devices: int,
    machines: int,
    login: tuple[str | None, str | None] = (None, None),
    name: str = "sim",
) -> Fleet:
    """Devices with machines, each of which tells what one of the recording told."""
    made = []
    for number in range(devices):
        own = [streams[(number + n) % len(streams)] for n in range(machines)]
        made.append(Device(place, prefix, f"{name}-{number:05d}", own, login))
    return Fleet(made, Sent())


def stamp() -> str:
    """Now, as agents write it."""
    now = time.time()
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now))
    return f"{whole}.{int(now % 1 * 1000):03d}Z"
