"""paho's client, which reads publications many at a time.

paho asks the system for each packet three times or more, and makes four objects of it: at thousands
of messages a second that is most of what one costs. Here what has come is read at once, and
publications are taken from it; every other packet, and all that is sent, is paho's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

_READ = 1 << 18
_PUBLISH, _QOS_2 = 0x30, 0x04


class MalformedError(Exception):
    """Bytes that are no MQTT 5."""


@dataclass(frozen=True, slots=True)
class Incoming:
    """A message from the broker.

    Attributes:
        topic: Where it was published.
        payload: As it came.
        mid: Its number on this connection, to acknowledge it by.
        qos: 0 or 1.
        retained: The broker had kept it.
    """

    topic: str
    payload: bytes
    mid: int
    qos: int
    retained: bool


class Client(paho.Client):
    """A client of MQTT 5 for one connection, served by `read` in place of `loop_read`."""

    _ahead: bytearray | None = None  # read, and no whole packet yet
    _given: int | None = None  # bytes of `_ahead` that paho may read; None where it asks the system
    _together: bytearray | None = None

    def read(self, arrived: list[Incoming]) -> MQTTErrorCode:
        """Read what has come, once.

        Args:
            arrived: Publications are put there.

        Returns:
            `MQTT_ERR_AGAIN` when nothing is there; as `loop_read` else.

        Raises:
            MalformedError: The broker sends what is no packet.
        """
        ahead = self._ahead = bytearray() if self._ahead is None else self._ahead
        try:
            data = super()._sock_recv(_READ)
        except BlockingIOError:
            return MQTTErrorCode.MQTT_ERR_AGAIN
        except OSError:
            data = b""
        if not data:  # paho sees that, too, and does what is to be done
            ahead.clear()
            return self.loop_read()
        ahead += data
        at = 0
        try:
            while (found := _frame(ahead, at)) is not None:
                body, end = found
                head = ahead[at]
                if head & 0xF0 == _PUBLISH and not head & _QOS_2:
                    arrived.append(_publication(ahead, head, body, end))
                    at = end
                    continue
                del ahead[:at]
                self._given, at = end - at, 0
                code = self.loop_read()
                self._given = None
                if code is not MQTTErrorCode.MQTT_ERR_SUCCESS:
                    return code
        except IndexError as fault:
            raise MalformedError("a publication is shorter than it says") from fault
        del ahead[:at]
        return MQTTErrorCode.MQTT_ERR_SUCCESS

    @contextmanager
    def together(self) -> Iterator[bytearray]:
        """What is sent meanwhile is put in one buffer instead; the caller sends that."""
        buffer = self._together = bytearray()
        try:
            yield buffer
        finally:
            self._together = None

    def _sock_recv(self, bufsize: int) -> bytes:
        if self._given is None or self._ahead is None:
            return super()._sock_recv(bufsize)
        if not self._given:
            raise BlockingIOError
        data = bytes(self._ahead[: min(bufsize, self._given)])
        del self._ahead[: len(data)]
        self._given -= len(data)
        return data

    def _sock_send(self, buf: bytes | bytearray) -> int:
        if self._together is None:
            return super()._sock_send(buf)
        self._together += buf
        return len(buf)


def _frame(data: Sequence[int], at: int) -> tuple[int, int] | None:
    """Where the body of the packet at a place begins and ends; None when it is not whole."""
    size, shift, place = 0, 0, at + 1
    while place < len(data):
        byte = data[place]
        place += 1
        size |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return (place, place + size) if place + size <= len(data) else None
        shift += 7
        if shift > 21:
            raise MalformedError("a packet's length has more than four bytes")
    return None


def _publication(data: bytearray, head: int, at: int, end: int) -> Incoming:
    """A publication (MQTT 5, 3.3)."""
    place = at + 2 + (data[at] << 8 | data[at + 1])
    topic = data[at + 2 : place].decode("utf-8", "replace")
    qos, mid = head >> 1 & 3, 0
    if qos:
        mid = data[place] << 8 | data[place + 1]
        place += 2
    # Properties: an agent sends none that is wanted here.
    properties = _frame(data, place - 1)
    if properties is None or properties[1] > end:
        raise MalformedError("a publication is shorter than it says")
    return Incoming(topic, bytes(data[properties[1] : end]), mid, qos, bool(head & 1))
