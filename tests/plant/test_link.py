"""What comes over a connection is taken whole, however the network cuts it."""

from __future__ import annotations

import socket
import threading

import pytest

from agent.core.broker import BrokerConfig
from agent.core.errors import DeliveryError
from plant.simulate.wire import publish
from plant.watch.link import Link

CONNACK = bytes((0x20, 3, 0, 0, 0))
SUBACK = bytes((0x90, 4, 0, 1, 0, 1))


class Peer:
    """A broker that says what it is told to."""

    def __init__(self) -> None:
        self._server = socket.create_server(("127.0.0.1", 0))
        self.link = Link(
            BrokerConfig(host="127.0.0.1", port=self._server.getsockname()[1]), "me",
            session_seconds=10, ahead=100,
        )  # fmt: skip
        thread = threading.Thread(target=self._accept)
        thread.start()
        self.link.open()
        thread.join()

    def _accept(self) -> None:
        self.socket, _ = self._server.accept()
        self.socket.recv(4096)
        self.socket.sendall(CONNACK)

    def read(self, number):
        found = []
        for _ in range(200):
            found += self.link.turn(0.05)
            if len(found) >= number:
                break
        return found

    def close(self) -> None:
        self.link.close()
        self.socket.close()
        self._server.close()


@pytest.fixture
def peer():
    peer = Peer()
    yield peer
    peer.close()


def messages(number):
    return [
        publish(f"auscult/dev/pump{n}/event", b"x" * (n * 37 % 400), n, retain=n % 2 == 1)
        for n in range(1, number)
    ]


@pytest.mark.parametrize("step", [1, 3, 97, 100_000])
def test_publications_come_whole_and_in_order(peer, step):
    # Another packet between publications, as the answer to a subscription comes.
    sent = [*messages(20), SUBACK, *messages(20)]
    peer.link.subscribe(["#"], qos=1, retained=False)
    data = b"".join(sent)

    def send():
        for at in range(0, len(data), step):
            peer.socket.sendall(data[at : at + step])

    thread = threading.Thread(target=send)
    thread.start()
    found = peer.read(38)
    thread.join()
    assert [(one.topic, len(one.payload), one.mid, one.retained) for one in found] == 2 * [
        (f"auscult/dev/pump{n}/event", n * 37 % 400, n, n % 2 == 1) for n in range(1, 20)
    ]
    assert {one.qos for one in found} == {1}
    assert peer.link.subscribed


def test_properties_and_qos_0_are_read(peer):
    body = b"\x00\x03a/b" + b"\x05\x02\x00\x00\x00\x3c" + b"{}"  # expires in a minute
    peer.socket.sendall(bytes((0x30, len(body))) + body)
    (one,) = peer.read(1)
    assert (one.topic, one.payload, one.qos, one.mid) == ("a/b", b"{}", 0, 0)


def test_what_is_written_is_acknowledged_at_once(peer):
    peer.socket.sendall(b"".join(messages(50)))
    found = peer.read(49)
    peer.link.acknowledge(found)
    wanted = b"".join(bytes((0x40, 2, 0, n)) for n in range(1, 50))
    got = b""
    while len(got) < len(wanted):
        got += peer.socket.recv(4096)
    assert got == wanted


@pytest.mark.parametrize(
    "data",
    [
        bytes((0x32, 4, 0, 200)) + b"ab",  # a topic beyond the packet
        bytes((0x32, 0xFF, 0xFF, 0xFF, 0xFF, 0x01)),  # a length of five bytes
        bytes((0x30, 6, 0, 1)) + b"a" + bytes((0xFF, 0x7F, 0)),  # properties beyond the packet
    ],
)
def test_what_is_no_packet_ends_the_connection(peer, data):
    peer.socket.sendall(data)
    with pytest.raises(DeliveryError, match="protocol error"):
        peer.read(1)


def test_a_broker_that_hangs_up_is_noticed(peer):
    peer.socket.sendall(messages(2)[0][:5])
    peer.socket.close()
    with pytest.raises(DeliveryError, match="lost"):
        peer.read(1)
