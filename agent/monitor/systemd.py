"""What systemd is told: ready, alive, stopping (sd_notify(3), in plain sockets)."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

log = logging.getLogger(__name__)

_MICRO = 1_000_000


class Notifier:
    """Tells the service manager of this process; says nothing where there is none.

    Args:
        environment: Holds `NOTIFY_SOCKET` and `WATCHDOG_USEC` under systemd.
    """

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self._address = environment.get("NOTIFY_SOCKET", "")
        self._told = False
        #: Without a sign of life for so long we are restarted, seconds; None where nobody watches.
        self.watchdog_seconds = self._watchdog(environment) if self._address else None

    def ready(self, status: str) -> None:
        """The service does its work from now on."""
        self._send(f"READY=1\nSTATUS={_line(status)}")

    def alive(self, status: str) -> None:
        """Work was done: the watchdog begins to count anew."""
        self._send(f"WATCHDOG=1\nSTATUS={_line(status)}")

    def stopping(self) -> None:
        """The service is about to end."""
        self._send("STOPPING=1\nSTATUS=ending")

    def be_patient(self, seconds: float) -> None:
        """Have the watchdog wait for so long, where the unit's `WatchdogSec` is too short."""
        self.watchdog_seconds = seconds
        self._send(f"WATCHDOG_USEC={round(seconds * _MICRO)}")

    @staticmethod
    def _watchdog(environment: Mapping[str, str]) -> float | None:
        # Inherited by a child of the watched process, both are somebody else's.
        if environment.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
            return None
        try:
            seconds = int(environment.get("WATCHDOG_USEC", "0")) / _MICRO
        except ValueError:
            return None
        return seconds if seconds > 0 else None

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # A name that begins with '@' lives in the abstract namespace, where it begins with NUL.
        address = self._address
        if address.startswith("@"):
            address = "\0" + address[1:]
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as wire:
                # A manager that does not read must not hold the agent up.
                wire.settimeout(1.0)
                wire.sendto(message.encode(), address)
        except OSError as fault:
            if not self._told:
                log.warning("%s: the service manager cannot be told: %s", self._address, fault)
            self._told = True
        else:
            self._told = False


def _line(text: str) -> str:
    """One line: a line break would begin another assignment."""
    return " ".join(text.split())
