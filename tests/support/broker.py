"""A real mosquitto on a free loopback port, that can be stopped and started."""

from __future__ import annotations

import json
import shutil
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def mosquitto() -> str:
    found = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin")
    if found is None:
        pytest.skip("mosquitto is not installed (apt-get install mosquitto)")
    return found


def _answers(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Broker:
    """Use as a context manager; `stop` and `start` make an outage."""

    def __init__(
        self,
        folder: Path,
        lines: tuple[str, ...] = ("allow_anonymous true",),
        *,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.config = folder / "mosquitto.conf"
        # As root mosquitto would change to a user who may not read the test's files.
        self.config.write_text(
            "\n".join([f"listener {self.port} 127.0.0.1", "user root", "log_type all", *lines])
        )
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        log = (self.folder / "mosquitto.log").open("ab")
        self._process = subprocess.Popen(
            [mosquitto(), "-c", str(self.config)], stderr=log, stdout=log
        )
        deadline = time.monotonic() + 60
        while not _answers(self.port):
            assert self._process.poll() is None, (self.folder / "mosquitto.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)

    def send_signal(self, number: int) -> None:
        """To the broker's process."""
        assert self._process is not None
        self._process.send_signal(number)

    def reload(self) -> None:
        """Read the access rules anew, connections staying."""
        self.send_signal(signal.SIGHUP)

    def stop(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None


def _decode(payload: bytes):
    """None for an empty payload, which removes what was retained, and for what is not JSON."""
    try:
        return json.loads(payload)
    except ValueError:
        return None


class Subscriber:
    """Hears everything below a topic; `messages` are (topic, payload, retain) in order."""

    def __init__(
        self,
        port: int,
        topic: str = "#",
        *,
        prepare=lambda client: None,
        session: str = "",
        raw: bool = False,
    ) -> None:
        """With a `session`, the broker keeps what comes while the connection is away.

        Payloads are read as JSON; `raw` leaves them as bytes.
        """
        self._decode = bytes if raw else _decode
        self.messages: list[tuple[str, dict, bool]] = []
        self._new = threading.Condition()
        self._ready = threading.Event()
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=session, protocol=MQTTProtocolVersion.MQTTv5
        )
        prepare(self.client)
        self.client.reconnect_delay_set(1, 1)
        self.client.on_connect = lambda client, *_: client.subscribe(topic, qos=1)
        self.client.on_subscribe = lambda *_: self._ready.set()
        self.client.on_message = self._on_message
        properties = Properties(PacketTypes.CONNECT)
        if session:
            properties.SessionExpiryInterval = 600
        self.client.connect("127.0.0.1", port, clean_start=not session, properties=properties)

    def _on_message(self, _client, _data, message) -> None:
        with self._new:
            self.messages.append((message.topic, self._decode(message.payload), message.retain))
            self._new.notify_all()

    def __enter__(self):
        self.client.loop_start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def publish(self, topic: str, payload: dict) -> None:
        self.client.publish(topic, json.dumps(payload), qos=1).wait_for_publish(5)

    def of(self, ending: str) -> list[dict]:
        with self._new:
            return [payload for topic, payload, _ in self.messages if topic.endswith(ending)]

    def wait(self, ending: str, wanted=lambda payload: True, seconds: float = 60) -> dict:
        deadline = time.monotonic() + seconds
        with self._new:
            while True:
                for topic, payload, _ in self.messages:
                    if topic.endswith(ending) and wanted(payload):
                        return payload
                left = deadline - time.monotonic()
                if left <= 0:
                    raise AssertionError(f"no such {ending} among {self.messages[-20:]}")
                self._new.wait(left)
