"""The page as the agent knows it: imported when the configuration asks for one."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from typing import Protocol

from agent.collect.collector import Collector
from agent.config.agent import AgentConfig
from agent.config.capture import MicrophoneSource
from agent.core.cloud_event import Message
from agent.core.errors import ConfigError
from agent.evidence.ring import Clip
from agent.history.recorder import HistoryRecorder
from agent.machine.days import SoundDays
from agent.publish.live import LiveBoard
from agent.request.audit import AuditTrail
from agent.request.dispatch import Respond
from agent.web.backend import Backend
from agent.web.sound import SoundFeed


class Server(Protocol):
    """Serves the page."""

    @property
    def port(self) -> int | None:
        """The port listened on."""
        ...

    def start(self) -> None:
        """Begin."""
        ...

    def stop(self) -> None:
        """End."""
        ...


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
        self._server: Server | None = None

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

    def start(
        self,
        collector: Collector,
        info: Callable[[], Message],
        health: Callable[[], Message],
        ask: Callable[[str, bytes, Respond, str], None],
        choose: Callable[[str, MicrophoneSource], None],
        audit: AuditTrail,
        days: Callable[[str], SoundDays | None],
        recent: Callable[[str, float], Clip | None],
    ) -> None:
        """Begin to serve; see `Backend`.

        Raises:
            ConfigError: Something is not installed, or the password file cannot be used.
        """
        self.check()
        # Only now: an agent without a page must run without these packages.
        from agent.web.server import WebServer  # noqa: PLC0415

        self._server = WebServer(
            Backend(
                self._config,
                self.live,
                self.history,
                self.sounds,
                collector,
                info,
                health,
                ask,
                choose,
                audit,
                days,
                recent,
            )
        )
        self._server.start()

    def stop(self) -> None:
        """End it. Idempotent."""
        if self._server is not None:
            self._server.stop()
            self._server = None
