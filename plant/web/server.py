"""Serves the plant's page: uvicorn in a thread of its own."""

from __future__ import annotations

import logging

import uvicorn
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from agent.core.errors import ConfigError
from agent.core.server_thread import ServerThread, listening_socket
from plant.store.database import Database
from plant.watch.file import ServeFile
from plant.watch.ingest import Ingest
from plant.web.app import build_app

log = logging.getLogger(__name__)


class PageServer:
    """The plant's page.

    Args:
        config: PLANT.yaml.
        database: Migrated.
        ingest: Whose counts Prometheus is told; None where another instance listens.
    """

    def __init__(self, config: ServeFile, database: Database, ingest: Ingest | None) -> None:
        self._config, self._database, self._ingest = config, database, ingest
        self._thread: ServerThread | None = None
        self._stopping = False
        self.port: int | None = None

    def start(self) -> None:
        """Begin to serve.

        Raises:
            ConfigError: The port cannot be had.
        """
        page = self._config.web
        try:
            listening = listening_socket(page.host, page.port, backlog=128)
        except OSError as fault:
            raise ConfigError(
                f"the page cannot listen on {page.host} port {page.port} "
                f"({fault.strerror or fault})",
                remedy="Change `web.host` or `web.port`, or give --port or --no-page.",
            ) from fault
        self.port = int(listening.getsockname()[1])
        app = build_app(self._config, self._database, lambda: self._stopping, self._metrics)
        settings = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, lifespan="off",
            ws="none", loop="asyncio", proxy_headers=False, timeout_graceful_shutdown=1,
            h11_max_incomplete_event_size=16_384, log_level=logging.WARNING,
        )  # fmt: skip
        self._thread = ServerThread(settings, listening, "page")
        self._thread.start()
        host = f"[{page.host}]" if ":" in page.host else page.host
        log.info("page: http://%s:%d/", host, self.port)

    def stop(self) -> None:
        """End it. Idempotent."""
        self._stopping = True
        if self._thread is not None:
            self._thread.stop()
            self._thread = None

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
