"""Serves the page: uvicorn in a thread of its own, begun and ended within a second."""

from __future__ import annotations

import logging

import uvicorn

from agent.core.server_thread import ServerThread, listening_socket
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
        self._server: ServerThread | None = None
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
            listening = listening_socket(config.host, config.port)
        except (OSError, OverflowError) as fault:
            # Machines must be listened to whether or not anybody looks at it.
            log.warning("web: cannot listen on %s port %d: %s", config.host, config.port, fault)
            return
        self.port = int(listening.getsockname()[1])
        app = build_app(self._backend, passwords, lambda: self._stopping)
        door = Door(affordable(), None if config.behind_proxy else MOST_OF_CLIENT)
        settings = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="off",
            ws="none", http=protocol(door), loop="asyncio", backlog=_AT_ONCE,
            h11_max_incomplete_event_size=_HEAD_BYTES, timeout_graceful_shutdown=1,
            proxy_headers=config.behind_proxy, log_level=logging.WARNING,
        )  # fmt: skip
        self._server = ServerThread(
            settings, listening, "web", start_seconds=_START_SECONDS, stop_seconds=_STOP_SECONDS
        )
        self._server.start()
        host = f"[{config.host}]" if ":" in config.host else config.host
        log.info("web: http://%s:%d/", host, self.port)

    def stop(self) -> None:
        """End it. Idempotent."""
        self._stopping = True
        if self._server is not None:
            self._server.stop()
        self._server = None
