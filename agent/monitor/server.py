"""Serves the metrics over HTTP, in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import socket
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

from agent.config.monitor import MetricsConfig

log = logging.getLogger(__name__)

_REQUEST_SECONDS = 5.0  # a client that says nothing is hung up on
_STOP_SECONDS = 1.0
_CLIENTS = 8  # served at once; Prometheus is one. The oldest is hung up on for a ninth


class MetricsServer:
    """Answers `GET /metrics`.

    Args:
        config: Where to listen.
        render: Makes the text, called in the server's threads.
    """

    def __init__(self, config: MetricsConfig, render: Callable[[], str]) -> None:
        self._config = config
        self._render = render
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def port(self) -> int | None:
        """The port listened on; None when there is none."""
        return None if self._server is None else int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to listen. A port that cannot be had is told, and done without.

        Machines must be listened to whether or not anybody counts it.
        """
        place = (self._config.host, self._config.port)
        try:
            self._server = _Server(place, self._render)
        except (OSError, OverflowError) as fault:
            log.warning("metrics: cannot listen on %s port %d: %s", *place, fault)
            return
        log.info("metrics: http://%s:%d/metrics", self._config.host, self.port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.2}, name="metrics",
            daemon=True,
        )  # fmt: skip
        self._thread.start()

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join(_STOP_SECONDS)
            self._server.server_close()
        self._server = self._thread = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    # Ending must not wait for a client.
    block_on_close = False

    def __init__(self, place: tuple[str, int], render: Callable[[], str]) -> None:
        self.render = render
        self._served: OrderedDict[int, socket.socket] = OrderedDict()
        self._lock = threading.Lock()
        if ":" in place[0]:
            self.address_family = socket.AF_INET6
        super().__init__(place, _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        # Whoever takes long makes room for who comes: Prometheus asks and is done in a moment.
        with self._lock:
            while len(self._served) >= _CLIENTS:
                _, slow = self._served.popitem(last=False)
                with contextlib.suppress(OSError):
                    slow.shutdown(socket.SHUT_RDWR)
            self._served[id(request)] = request
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be begun
            self._leave(request)
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._leave(request)

    def _leave(self, request: Any) -> None:
        with self._lock:
            self._served.pop(id(request), None)

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002
        log.debug("metrics: a request failed: %s", sys.exc_info()[1])


class _Handler(BaseHTTPRequestHandler):
    timeout = _REQUEST_SECONDS
    server_version = "auscult"
    sys_version = ""

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != "/metrics":
            self.send_error(HTTPStatus.NOT_FOUND, "only /metrics is here")
            return
        assert isinstance(self.server, _Server)
        try:
            body = self.server.render().encode()
        except Exception:
            log.exception("metrics: cannot be told")
            self.send_error(HTTPStatus.INTERNAL_SERVER_ERROR)
            return
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", CONTENT_TYPE_PLAIN_0_0_4)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        log.debug("metrics: %s", format % args)
