"""How many events there ever were, kept beside the outbox: tells when some of it has vanished.

What SQLite has committed lies in the write-ahead log until it is moved into the file. Where
somebody deletes or empties that log, the file opens as if nothing had been. A number in a file of
its own, written with each event, says that there was more.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)


class HighMark:
    """The greatest number that an event was given.

    Args:
        path: Its file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._value: int | None = None

    def read(self) -> int:
        """The number; 0 when none was written, or it cannot be read."""
        if self._value is None:
            try:
                self._value = max(0, int(self._path.read_bytes()[:32]))
            except (OSError, ValueError):
                self._value = 0
        return self._value

    def write(self, number: int) -> None:
        """Remember a number, if it is greater; what the disk refuses costs the check alone.

        It is not forced to the disk: after a power cut it may be behind, and then nothing is told.
        """
        if number <= self.read():
            return
        try:
            handle = os.open(self._path, os.O_WRONLY | os.O_CREAT, 0o600)
            try:
                os.pwrite(handle, b"%020d\n" % number, 0)
            finally:
                os.close(handle)
        except OSError as fault:
            log.debug("%s: %s", self._path, fault)
            return
        self._value = number
