"""The page as the agent knows it: imported when the configuration asks for one."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import TYPE_CHECKING

from agent.config.agent import AgentConfig
from agent.core.errors import ConfigError
from agent.history.recorder import HistoryRecorder
from agent.publish.live import LiveBoard
from agent.web.backend import Backend
from agent.web.sound import SoundFeed

if TYPE_CHECKING:
    from agent.web.server import WebServer


class Page:
    """What the page needs beside the agent: the present, a history, and an ear at each machine.

    Args:
        config: The agent's; `web.enabled` is true.
    """

    def __init__(self, config: AgentConfig) -> None:
        self._config = config
        #: What was told last.
        self.live = LiveBoard()
        self.history = HistoryRecorder(config.state_path / "history" / "history.db")
        self.sounds: Mapping[str, SoundFeed] = {
            machine.name: SoundFeed() for machine in config.machines
        }
        self._server: WebServer | None = None

    @property
    def port(self) -> int | None:
        """The port listened on; None when there is none."""
        return None if self._server is None else self._server.port

    def check(self) -> None:
        """See that what it needs is installed.

        Raises:
            ConfigError: It isn't.
        """
        missing = [
            name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None
        ]
        if missing:
            raise ConfigError(
                f"web.enabled: {' and '.join(missing)} not installed",
                remedy="Install the page with `pip install 'auscult[web]'`, or set it to false.",
            )

    def start(self, backend: Backend) -> None:
        """Begin to serve.

        Args:
            backend: The agent.

        Raises:
            ConfigError: Something is not installed, or the password file cannot be used.
        """
        self.check()
        # Only now: an agent without a page must run without these packages.
        from agent.web.server import WebServer  # noqa: PLC0415

        self._server = WebServer(backend)
        self._server.start()

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._server is not None:
            self._server.stop()
            self._server = None
