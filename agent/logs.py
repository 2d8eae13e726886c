"""Log lines: coloured at a terminal, plain in a file or a journal."""

from __future__ import annotations

import logging
import sys
import time


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
