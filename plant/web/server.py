"""Serves the plant's page: uvicorn in a thread of its own."""

from __future__ import annotations

import logging
import socket
import threading
import time

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from agent.core.errors import ConfigError
from plant.store.database import Database
from plant.watch.file import ServeFile
from plant.watch.ingest import Ingest
from plant.web.app import build_app

log = logging.getLogger(__name__)

_START_SECONDS, _STOP_SECONDS = 10.0, 3.0


class PageServer:
    """The plant's page.

    Args:
        config: PLANT.yaml.
        database: Migrated.
        ingest: Whose counts Prometheus is told; None where another instance listens.
    """

    def __init__(self, config: ServeFile, database: Database, ingest: Ingest | None) -> None:
        self._config, self._database, self._ingest = config, database, ingest
        self._server: uvicorn.Server | None = None
        self._thread: threading.Thread | None = None
        self._stopping = False
        self.port: int | None = None

    def start(self) -> None:
        """Begin to serve.

        Raises:
            ConfigError: The port cannot be had.
        """
        page = self._config.web
        try:
            family, kind, protocol, _, place = socket.getaddrinfo(
                page.host, page.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            listening = socket.socket(family, kind, protocol)
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(place)
            listening.listen(128)
            listening.setblocking(False)
        except OSError as fault:
            raise ConfigError(
                f"the page cannot listen on {page.host} port {page.port} "
                f"({fault.strerror or fault})",
                remedy="Change `web.host` or `web.port`, or give --port or --no-page.",
            ) from fault
        self.port = int(listening.getsockname()[1])
        app = build_app(self._config, self._database, lambda: self._stopping, self._metrics)
        self._server = uvicorn.Server(
            uvicorn.Config(
                app, log_config=None, access_log=False, server_header=False, lifespan="off",
                ws="none", loop="asyncio", proxy_headers=False, timeout_graceful_shutdown=1,
                h11_max_incomplete_event_size=16_384, log_level=logging.WARNING,
            )
        )  # fmt: skip
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listening]}, name="page", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started and self._thread.is_alive():
            if time.monotonic() > deadline:
                break
            time.sleep(0.01)
        host = f"[{page.host}]" if ":" in page.host else page.host
        log.info("page: http://%s:%d/", host, self.port)

    def stop(self) -> None:
        """End it. Idempotent."""
        self._stopping = True
        if self._server is not None and self._thread is not None:
            self._server.should_exit = True
            self._thread.join(_STOP_SECONDS)
        self._server = self._thread = None

    def _metrics(self) -> bytes:
        registry = CollectorRegistry()
        registry.register(self)
        return generate_latest(registry)

    def collect(self) -> list[CounterMetricFamily | GaugeMetricFamily]:
        """What Prometheus is told: of this instance alone, and no names."""
        if self._ingest is None:
            return []
        counts = self._ingest.counts
        rows = [
            ("messages", "Messages taken from the broker", counts.messages),
            ("events", "New events written", counts.events),
            ("refused", "Messages that could not be read", counts.refused),
            ("database_failures", "Times the database did not answer", counts.failures),
            ("connections", "Connections to the broker", counts.connections),
        ]
        found: list[CounterMetricFamily | GaugeMetricFamily] = [
            CounterMetricFamily(f"auscult_plant_{name}", text, value=value)
            for name, text, value in rows
        ]
        found.append(
            GaugeMetricFamily(
                "auscult_plant_connected", "Whether the broker is there",
                value=float(self._ingest.connected),
            )
        )  # fmt: skip
        return found
