"""Stands between the agent and a real broker, and behaves as bad brokers do."""

from __future__ import annotations

import contextlib
import socket
import threading
import time

CONNECT, CONNACK, PUBLISH, PUBACK = 1, 2, 3, 4


def _packet(sock: socket.socket) -> bytes:
    """One whole MQTT packet; empty when the connection has ended."""

    def exactly(count: int) -> bytes:
        data = b""
        while len(data) < count:
            piece = sock.recv(count - len(data))
            if not piece:
                raise EOFError
            data += piece
        return data

    head = exactly(1)
    length = shift = 0
    while True:
        byte = exactly(1)
        head += byte
        length |= (byte[0] & 0x7F) << shift
        shift += 7
        if not byte[0] & 0x80:
            return head + exactly(length)


class BadBroker:
    """A proxy; its attributes may be changed while it runs.

    Attributes:
        drop_acknowledgements: PUBACKs never arrive.
        largest: A PUBLISH longer than this ends the connection; 0 for none.
        hang_up_on: A PUBLISH whose bytes hold this ends the connection.
        connack_delays: Seconds by which the next CONNACKs come late, one after another.
        blackhole: Nothing arrives any more, either way, and no connection ends.
        take_over: Each connection is told, after a moment, that another took it over (MQTT 5).
        versions: Level of MQTT that each connection asked for.
        published: PUBLISH packets that came through.
    """

    def __init__(self, broker_port: int) -> None:
        self._broker = broker_port
        self.drop_acknowledgements = False
        self.largest = 0
        self.hang_up_on = b""
        self.connack_delays: list[float] = []
        self.blackhole = False
        self.take_over = False
        self.versions: list[int] = []
        self.published: list[bytes] = []
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self._server.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
                broker = socket.create_connection(("127.0.0.1", self._broker))
            except OSError:
                return
            for come, go, sort in (
                (client, broker, self._from_client),
                (broker, client, self._from_broker),
            ):
                threading.Thread(target=self._pump, args=(come, go, sort), daemon=True).start()

    def _pump(self, come, go, sort) -> None:
        with contextlib.suppress(OSError, EOFError):
            while packet := _packet(come):
                if not self.blackhole and sort(packet):
                    go.sendall(packet)
                if self.take_over and packet[0] >> 4 == CONNACK:
                    time.sleep(0.3)
                    go.sendall(b"\xe0\x01\x8e")
                    raise EOFError
        for sock in (come, go):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()

    def _from_client(self, packet: bytes) -> bool:
        kind = packet[0] >> 4
        if kind == CONNECT:
            self.versions.append(packet[packet.index(b"MQTT") + 4])
        if kind == PUBLISH:
            if self.largest and len(packet) > self.largest:
                raise EOFError
            if self.hang_up_on and self.hang_up_on in packet:
                raise EOFError
            self.published.append(packet)
        return True

    def _from_broker(self, packet: bytes) -> bool:
        kind = packet[0] >> 4
        if kind == CONNACK and self.connack_delays:
            time.sleep(self.connack_delays.pop(0))
        return not (kind == PUBACK and self.drop_acknowledgements)
