"""Serves the page: uvicorn in a thread of its own, begun and ended within a second."""

from __future__ import annotations

import logging
import socket
import threading
import time

import uvicorn

from agent.web.app import build_app
from agent.web.backend import Backend
from agent.web.connections import MOST_OF_CLIENT, Door, affordable, protocol
from agent.web.password import read_passwords

log = logging.getLogger(__name__)

_START_SECONDS = 3.0
_STOP_SECONDS = 1.5
_HEAD_BYTES = 16_384
# Connections that wait to be accepted, which asyncio does in one go, before any is hung up on.
_AT_ONCE = 32


class WebServer:
    """The device's page.

    Args:
        backend: The agent.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        #: The port listened on; None when there is none.
        self.port: int | None = None

    def start(self) -> None:
        """Begin to serve. A port that cannot be had is told, and done without.

        Raises:
            ConfigError: The password file cannot be used.
        """
        config = self._backend.config.web
        passwords = read_passwords(config.password_file)
        try:
            listening = _listen(config.host, config.port)
        except (OSError, OverflowError) as fault:
            # Machines must be listened to whether or not anybody looks at it.
            log.warning("web: cannot listen on %s port %d: %s", config.host, config.port, fault)
            return
        self.port = int(listening.getsockname()[1])
        app = build_app(self._backend, passwords, lambda: self._stopping)
        door = Door(affordable(), None if config.behind_proxy else MOST_OF_CLIENT)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, lifespan="off",
                ws="none", http=protocol(door), loop="asyncio", backlog=_AT_ONCE,
                h11_max_incomplete_event_size=_HEAD_BYTES, timeout_graceful_shutdown=1,
                proxy_headers=config.behind_proxy, log_level=logging.WARNING,
            )
        )  # fmt: skip
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="web", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        host = f"[{config.host}]" if ":" in config.host else config.host
        log.info("web: http://%s:%d/", host, self.port)

    def stop(self) -> None:
        """End it. Idempotent."""
        self._stopping = True
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)
        self._server = self._thread = None


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, place = socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(place)
        listening.listen(64)
        listening.setblocking(False)
    except BaseException:
        listening.close()
        raise
    return listening
