"""Log lines: coloured at a terminal, with priorities in the journal, plain in a file."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections import OrderedDict
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


_NEVER_LEFT_OUT = frozenset({"agent.publish.console"})
# Lines alike that pass at once, and after how long one more does, seconds; kinds remembered.
_AT_ONCE, _EVERY_SECONDS, _ALIKE, _KINDS = 30, 10.0, 80, 512


class RepeatLimit(logging.Filter):
    """Lets so many lines alike pass, then one now and then, which says how many were left out.

    Thousands a second would fill the disk and the processor, and hide what else is told. Alarms are
    never left out.
    """

    def __init__(self) -> None:
        super().__init__()
        # By what is alike: lines that may pass still, when that was counted, lines left out.
        self._kinds: OrderedDict[tuple[str, int, str], tuple[float, float, int]] = OrderedDict()

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a line passes."""
        if record.name in _NEVER_LEFT_OUT:
            return True
        kind = (record.name, record.levelno, str(record.msg)[:_ALIKE])
        now = time.monotonic()
        left, at, out = self._kinds.pop(kind, (float(_AT_ONCE), now, 0))
        left = min(float(_AT_ONCE), left + (now - at) / _EVERY_SECONDS)
        passes = left >= 1.0
        if passes and out:
            record.msg, record.args = f"{record.getMessage()} (and {out} like it, left out)", ()
        self._kinds[kind] = (left - 1.0, now, 0) if passes else (left, now, out + 1)
        while len(self._kinds) > _KINDS:
            self._kinds.popitem(last=False)
        return passes


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
        """The traceback, made safe in the same way."""
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
    handler.addFilter(RepeatLimit())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
