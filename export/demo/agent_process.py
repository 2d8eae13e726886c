"""The agent as a device runs it: `auscult run --config agent.yaml`, in a process of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from agent.config.agent import AgentConfig
from agent.core.errors import AuscultError

DEVICE = "demo"
PREFIX = "auscult"
_STOP_SECONDS = 8.0


def write_config(
    path: Path, *, machine: str, bundle: Path, stream: Path, host: str, port: int, hop: float
) -> AgentConfig:
    """Write the agent's configuration, paths relative to it, as a user would.

    Returns:
        What was written, validated.
    """
    here = path.absolute().parent
    data: dict[str, Any] = {
        "device": DEVICE,
        "machines": [
            {
                "name": machine,
                "bundle": bundle.absolute().relative_to(here).as_posix(),
                "source": {
                    "kind": "replay",
                    "paths": [stream.absolute().relative_to(here).as_posix()],
                    "speed": "max",
                },
                "hop_seconds": hop,
            }
        ],
        "mqtt": {"host": host, "port": port, "prefix": PREFIX},
        "state_dir": "state",
    }
    path.write_text(
        "# For a real microphone, replace `source` by: microphone\n"
        + yaml.safe_dump(data, sort_keys=False),
        encoding="utf-8",
    )
    return AgentConfig.model_validate(data, context={"base": here})


class AgentProcess:
    """`auscult run`, its messages going to a log file.

    Args:
        config: The configuration file.
        log: Where its messages go.
    """

    def __init__(self, config: Path, log: Path) -> None:
        self._config = config
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                [sys.executable, "-m", "agent.cli", "run", "--config", str(self._config)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def stop(self) -> None:
        """End it when it still runs, gently first."""
        process = self._process
        if process is None or process.poll() is not None:
            return
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def ended(self) -> bool:
        """Whether it has come to its end.

        Raises:
            AuscultError: It failed; with what it said last.
        """
        assert self._process is not None
        code = self._process.poll()
        if code is None:
            return False
        if code != 0:
            said = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            raise AuscultError(
                f"the agent ended with exit status {code}: {' / '.join(said[-3:]) or 'no words'}",
                where=self._log,
            )
        return True
