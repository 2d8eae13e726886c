"""Every message as a line of JSON in a file: a record that needs no broker."""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from io import BufferedWriter
from pathlib import Path

from agent.config.publish import JsonlConfig
from agent.core.cloud_event import Message, encode
from agent.publish.messages import status_message
from agent.publish.telling import Telling

log = logging.getLogger(__name__)


class JsonlPublisher:
    """Appends messages to a file, each with its `kind`: status, score, alarm, event, sensor or
    drift.

    The file is bounded: at `max_bytes` it is renamed to `<path>.1` (and that to `.2`...). A full
    disk loses lines, which are counted, and writing is tried again with every line.

    Args:
        config: The file and its bounds.
        device: This device's name.
        machines: The machines it listens to.
        unjudged: Tells, whenever asked, those that have no bundle yet.
    """

    def __init__(
        self,
        config: JsonlConfig,
        device: str,
        machines: Sequence[str],
        unjudged: Callable[[], Sequence[str]] = tuple,
    ) -> None:
        self._config = config
        self._device = device
        self._machines = tuple(machines)
        self._unjudged = unjudged
        self._lock = threading.Lock()  # several machines write to one file
        self._file: BufferedWriter | None = None
        self._lost = 0
        self._trouble = ""
        self._running = False

    def start(self) -> None:
        """Begin to write. A file that cannot be written is told, and tried again with each line.

        Machines must be listened to whether or not anybody keeps a record of it.
        """
        self._running = True
        self._write("status", self._status("online"))

    def handle(self, telling: Telling) -> None:
        """Write each message as a line."""
        for kind, message in telling.messages:
            self._write(kind.topic, message)

    def stop(self) -> None:
        """Write `offline` and close the file."""
        if not self._running:
            return
        self._write("status", self._status("offline", "stopped"))
        self._running = False
        with self._lock:
            self._close()

    def state(self) -> str:
        """Lines lost, if any were."""
        if not self._lost:
            return ""
        why = f" ({self._trouble}), and it still cannot be" if self._trouble else ""
        return f"{self._lost} lines not written to {self._config.path}{why}"

    def _status(self, status: str, reason: str = "") -> Message:
        return status_message(
            self._device, status, machines=self._machines, time=time.time(), reason=reason,
            unjudged=self._unjudged(),
        )  # fmt: skip

    def _write(self, kind: str, message: Message) -> None:
        with self._lock:
            try:
                line = encode({"kind": kind, **message}) + b"\n"
                if self._file is None:
                    self._file = self._open()
                if self._file.tell() + len(line) > self._config.max_bytes:
                    self._rotate()
                self._file.write(line)
                self._file.flush()
            except (OSError, ValueError) as fault:
                why = getattr(fault, "strerror", None) or str(fault)
                if why != self._trouble:
                    log.error(  # noqa: TRY400 - said in words, not as a trace
                        "%s: cannot be written: %s; such lines are lost and counted, change "
                        "`jsonl.path` or the folder's permissions",
                        self._config.path, why,
                    )  # fmt: skip
                self._lost, self._trouble = self._lost + 1, why
                # What is left in the buffer would be half a line.
                self._close()
            else:
                if self._trouble:
                    log.info("%s: written again", self._config.path)
                self._trouble = ""

    def _open(self) -> BufferedWriter:
        path = self._config.path
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab")
        try:
            # A line that a full disk or the power cut short must not spoil the next one too.
            if file.tell() and not _ends_with_a_line(path):
                file.write(b"\n")
        except OSError:
            file.close()
            raise
        return file

    def _rotate(self) -> None:
        assert self._file is not None
        self._file.close()
        path = self._config.path
        for number in range(self._config.backups, 0, -1):
            older = Path(f"{path}.{number}")
            newer = Path(f"{path}.{number - 1}") if number > 1 else path
            if newer.exists():
                newer.replace(older)
        self._file = path.open("ab" if self._config.backups else "wb")

    def _close(self) -> None:
        if self._file is None:
            return
        try:
            self._file.close()
        except OSError:
            log.debug("closing %s failed", self._config.path, exc_info=True)
        self._file = None


def _ends_with_a_line(path: Path) -> bool:
    with path.open("rb") as file:
        file.seek(-1, os.SEEK_END)
        return file.read(1) == b"\n"
