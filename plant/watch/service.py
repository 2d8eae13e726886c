"""`auscult plant serve`: listens, keeps, and shows, until it is stopped."""

from __future__ import annotations

import logging
import re
import signal
import socket
import threading
import time
from collections.abc import Callable

from agent.core.errors import ConfigError
from plant.store.database import Database, wait_for
from plant.store.migrate import migrate
from plant.watch.file import ServeFile, open_settings
from plant.watch.ingest import Ingest
from plant.watch.keeper import Keeper
from plant.web.server import PageServer

log = logging.getLogger(__name__)

_STOP_SECONDS = 10.0
_INSTANCE = re.compile(r"[A-Za-z0-9._-]{1,60}")


def open_database(config: ServeFile) -> Database:
    """The plant's database, at this version's schema.

    Raises:
        StoreError: It does not answer, or a newer auscult has written it.
        ConfigError: Its password file cannot be read.
    """
    database = Database(config.database.url, open_settings(config))
    wait_for(database, config.database.wait_seconds)
    migrate(database)
    return database


class PlantServer:
    """One instance: ingest, chores and page.

    Args:
        config: PLANT.yaml.
        instance: Its name among those of the plant, the same at each start; None for the host's.
        listen: Whether it listens to devices; else it only has the page.

    Raises:
        ConfigError: That is no name.
    """

    def __init__(
        self, config: ServeFile, instance: str | None = None, *, listen: bool = True
    ) -> None:
        instance = instance or socket.gethostname()
        if not _INSTANCE.fullmatch(instance):
            raise ConfigError(
                f"{instance!r} cannot be an instance's name",
                remedy="Give --instance with letters, digits, '.', '_' and '-'.",
            )
        self._config = config
        self._listen = listen
        self._client_id = f"{config.watch.group}-{instance}"
        self._stopping = threading.Event()
        self._alive = time.monotonic()
        self.failed = False
        self._threads: list[threading.Thread] = []
        self._page: PageServer | None = None
        self._database: Database | None = None
        self.ingest: Ingest | None = None

    @property
    def port(self) -> int | None:
        """The page's port; None without one."""
        return None if self._page is None else self._page.port

    def start(self) -> None:
        """Open the database, migrate it, and begin.

        Raises:
            AuscultError: Something that the configuration names cannot be used.
        """
        config = self._config
        self._database = open_database(config)
        log.info("database: %s", self._database)
        work: list[tuple[str, Callable[[], None]]] = []
        if self._listen:
            ingest = self.ingest = Ingest(
                config.broker, config.watch, self._database, self._client_id,
                stopping=self._stopping, beat=self._beat,
            )  # fmt: skip
            keeper = Keeper(
                config.broker, config.watch, config.database, self._database, self._client_id,
                alive=lambda: self._alive, listening=self._listening,
                behind_at=lambda: ingest.behind_at, stopping=self._stopping,
            )  # fmt: skip
            work = [("ingest", self.ingest.run), ("keeper", keeper.run)]
        if config.web.enabled:
            self._page = PageServer(config, self._database, self.ingest)
            self._page.start()
        for name, run in work:
            thread = threading.Thread(target=self._run, args=(run,), name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def wait(self) -> None:
        """Wait until SIGINT or SIGTERM, or until something fails that should not."""
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: self._stopping.set())
        while not self._stopping.wait(1.0):
            pass

    def stop(self) -> None:
        """End it: what has come is written first. Idempotent."""
        self._stopping.set()
        if self._page is not None:
            self._page.stop()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)
        if self._database is not None:
            self._database.close()

    def _beat(self) -> None:
        self._alive = time.monotonic()

    def _listening(self) -> bool:
        return self.ingest is not None and self.ingest.connected

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception:
            # Better begun anew by the service manager than half alive; nothing is acknowledged
            # that was not written.
            log.exception("%s failed", threading.current_thread().name)
            self.failed = True
            self._stopping.set()
