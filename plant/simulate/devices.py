"""Simulated devices at a common pace, served by one thread."""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from plant.simulate.device import Device, Sent, stamp
from plant.simulate.recorded import Stream
from plant.simulate.wire import PING

_PING_SECONDS = 100.0
_HEALTH_SECONDS = 30.0


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
        self._healths = 0  # devices told of, in turn
        self._health_at = time.monotonic()
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
        due = (now - self._health_at) / _HEALTH_SECONDS * len(self.devices)
        while self._healths < due:
            device = self.devices[self._healths % len(self.devices)]
            device.health(stamp())
            self._busy.add(device)
            self._healths += 1
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
        device.repeat(self.sent)
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
