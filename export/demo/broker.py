"""An MQTT broker inside this process, for a computer that has none."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading

from amqtt.broker import Broker

from agent.core.errors import DeliveryError

_START_SECONDS = 10.0


class EmbeddedBroker:
    """amqtt on a free port of the loopback device, open to this computer only.

    It speaks MQTT 3.1.1; a client that tries 5 first is refused once and comes back.
    """

    def __init__(self) -> None:
        self.host = "127.0.0.1"
        self.port = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._broker: Broker | None = None

    def start(self) -> None:
        """Start it.

        Raises:
            DeliveryError: It does not start.
        """
        # It logs each refused protocol version and each client that leaves: noise here.
        for name in ("amqtt", "transitions"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="broker", daemon=True)
        self._thread.start()
        # Another process may take a free port before we bind it: then choose again.
        for attempt in range(3):
            self.port = _free_port(self.host)
            start = asyncio.run_coroutine_threadsafe(self._start(), self._loop)
            try:
                self._broker = start.result(_START_SECONDS)
            except Exception as fault:
                if attempt < 2:
                    continue
                self._end_loop()
                raise DeliveryError(
                    f"the embedded broker does not start: {fault}",
                    where=f"{self.host}:{self.port}",
                    remedy="Is something keeping local ports closed?",
                ) from fault
            break

    def stop(self) -> None:
        """Stop it; what it says while going is of no interest."""
        if self._loop is not None and self._broker is not None:
            stop = asyncio.run_coroutine_threadsafe(self._broker.shutdown(), self._loop)
            try:
                stop.result(5.0)
            except Exception:  # it is going away either way
                logging.getLogger(__name__).debug("broker shutdown", exc_info=True)
            self._broker = None
        self._end_loop()

    async def _start(self) -> Broker:
        broker = Broker(
            {
                "listeners": {"default": {"type": "tcp", "bind": f"{self.host}:{self.port}"}},
                "plugins": {
                    "amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}
                },
            }
        )
        await broker.start()
        return broker

    def _end_loop(self) -> None:
        if self._loop is not None and self._thread is not None:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5.0)
            self._loop = self._thread = None


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])
