"""Log lines: coloured at a terminal, with priorities in the journal, plain in a file."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import TextIO

# syslog's severities, as systemd reads them at the beginning of a line (sd-daemon(3)).
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)


class JournalFormatter(logging.Formatter):
    """Every line with its priority; the time is the journal's own."""

    def __init__(self) -> None:
        super().__init__("%(message)s")

    def format(self, record: logging.LogRecord) -> str:
        """The record; also the later lines of a traceback have its priority."""
        number = next(number for level, number in _PRIORITIES if record.levelno >= level)
        lines = super().format(record).splitlines() or [""]
        return "\n".join(f"<{number}>{line}" for line in lines)


def to_journal(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether a stream is the journal's, by `JOURNAL_STREAM` (systemd.exec(5)).

    A child that was given a file or a terminal for its stderr inherits the variable as well, so
    the stream itself is compared.
    """
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def start_logging(level: str = "info") -> None:
    """Send the log to stderr.

    Args:
        level: `debug`, `info`, `warning` or `error`.
    """
    handler: logging.Handler
    if sys.stderr.isatty():
        # Imported for people only.
        from rich.console import Console  # noqa: PLC0415
        from rich.logging import RichHandler  # noqa: PLC0415

        handler = RichHandler(console=Console(stderr=True), show_path=False, rich_tracebacks=False)
        handler.setFormatter(logging.Formatter("%(message)s", datefmt="[%X]"))
    elif to_journal(sys.stderr):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JournalFormatter())
    else:
        handler = logging.StreamHandler(sys.stderr)
        formatter = logging.Formatter(
            "%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
        )
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
