"""MQTT 5 of a simulated device, no more than it needs: connect, publish, be acknowledged and asked.

A thousand clients of a full library in one process would be what is measured; these cost next to
nothing, so that broker, server and database are. Not used where messages matter.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

_CONNECT, _CONNACK, _PUBLISH, _PUBACK, _SUBSCRIBE = 0x10, 0x20, 0x30, 0x40, 0x82
_PINGREQ, _DISCONNECT = 0xC0, 0xE0
_READ = 65_536


def length(number: int) -> bytes:
    """A length as MQTT writes it: seven bits a byte, the lowest first."""
    found = bytearray()
    while True:
        number, rest = divmod(number, 128)
        found.append(rest | (0x80 if number else 0))
        if not number:
            return bytes(found)


def text(value: str) -> bytes:
    """Text with its length before it."""
    data = value.encode()
    return struct.pack(">H", len(data)) + data


def connect(client_id: str, keepalive: int, username: str | None, password: str | None) -> bytes:
    """A request to connect, without a session."""
    flags = 0x02 | (0x80 if username else 0) | (0x40 if password else 0)
    body = text("MQTT") + bytes((5, flags)) + struct.pack(">H", keepalive) + b"\x00"
    body += text(client_id)
    body += text(username) if username else b""
    body += text(password) if password else b""
    return bytes((_CONNECT,)) + length(len(body)) + body


def publish(topic: str, payload: bytes, mid: int, *, retain: bool = False) -> bytes:
    """A message; of QoS 1 with its number, of QoS 0 where that is 0."""
    head = _PUBLISH | (0x02 if mid else 0) | (0x01 if retain else 0)
    number = struct.pack(">H", mid) if mid else b""
    body = text(topic) + number + b"\x00" + payload
    return bytes((head,)) + length(len(body)) + body


def subscribe(topics: str, mid: int) -> bytes:
    """A wish to hear what is published to a topic filter, with QoS 0."""
    body = struct.pack(">H", mid) + b"\x00" + text(topics) + b"\x00"
    return bytes((_SUBSCRIBE,)) + length(len(body)) + body


PING = bytes((_PINGREQ, 0))
GOODBYE = bytes((_DISCONNECT, 0))


class Wire:
    """One client's socket, which does not block.

    Args:
        place: Host and port of the broker.
    """

    def __init__(self, place: tuple[str, int]) -> None:
        self._place = place
        self.socket: socket.socket | None = None
        self._in = bytearray()
        self.out = bytearray()

    def open(self, client_id: str, username: str | None, password: str | None) -> None:
        """Connect; the answer comes by `read`.

        Raises:
            OSError: The broker is away.
        """
        self._in.clear()
        self.out.clear()
        self.socket = socket.create_connection(self._place, timeout=10)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(connect(client_id, 300, username, password))
        self.socket.setblocking(False)

    def flush(self) -> None:
        """Send what waits, as far as the socket takes it.

        Raises:
            OSError: The connection is lost.
        """
        assert self.socket is not None
        while self.out:
            try:
                sent = self.socket.send(self.out)
            except BlockingIOError:
                return
            del self.out[:sent]

    def read(self) -> Iterator[tuple[int, int, bytes]]:
        """What has come: its kind, its number, its payload.

        `(0x40, number, b"")` of an acknowledged message, `(0x20, reason, b"")` at first, and
        `(0x30, 0, payload)` of a message.

        Raises:
            OSError: The connection is lost.
        """
        assert self.socket is not None
        try:
            data = self.socket.recv(_READ)
        except BlockingIOError:
            return
        if not data:
            raise ConnectionError("the broker hung up")
        self._in += data
        while len(self._in) >= 2:
            size, shift, at = 0, 0, 1
            while True:
                if at >= len(self._in):
                    return
                byte = self._in[at]
                size |= (byte & 0x7F) << shift
                shift, at = shift + 7, at + 1
                if not byte & 0x80:
                    break
            if len(self._in) < at + size:
                return
            kind, body = self._in[0] & 0xF0, bytes(self._in[at : at + size])
            del self._in[: at + size]
            if kind == _PUBACK:
                yield kind, struct.unpack(">H", body[:2])[0], b""
            elif kind == _CONNACK:
                yield kind, body[1], b""
            elif kind == _PUBLISH:  # of QoS 0, as was asked for
                place = 2 + struct.unpack(">H", body[:2])[0]
                yield kind, 0, body[place + 1 + body[place] :]

    def close(self) -> None:
        """Hang up. Idempotent."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None
