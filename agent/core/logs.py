"""Log lines: coloured at a terminal, with priorities in the journal, plain in a file."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Mapping
from typing import Any, TextIO

from agent.core.text import redacted, visible

# syslog's severities, as systemd reads them at the beginning of a line (sd-daemon(3)).
_PRIORITIES = (
    (logging.CRITICAL, 2),
    (logging.ERROR, 3),
    (logging.WARNING, 4),
    (logging.INFO, 6),
    (logging.NOTSET, 7),
)


class SafeFormatter(logging.Formatter):
    """Lines in which nothing a stranger sent acts upon a terminal, or stands for another line.

    Control characters are escaped, later lines of a message are indented, and addresses have no
    passwords.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's
        """The line, its message made safe."""
        text = visible(redacted(record.message), keep="\n\t")
        record.message = text.replace("\n", "\n    ")
        return super().formatMessage(record)

    def formatException(self, ei: Any) -> str:  # noqa: N802 - the base class's
        """The traceback, made safe likewise."""
        return visible(redacted(super().formatException(ei)), keep="\n\t")


class JournalFormatter(SafeFormatter):
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
        handler.setFormatter(SafeFormatter("%(message)s", datefmt="[%X]"))
    elif to_journal(sys.stderr):
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(JournalFormatter())
    else:
        handler = logging.StreamHandler(sys.stderr)
        formatter = SafeFormatter(
            "%(asctime)s %(levelname)-7s %(message)s", datefmt="%Y-%m-%dT%H:%M:%SZ"
        )
        formatter.converter = time.gmtime
        handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
