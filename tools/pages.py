"""Generated pages: written, or held against what is there."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path


def write_or_check(pages: Mapping[Path, str]) -> None:
    """Write pages; with `--check` on the command line exit 1 when one is stale instead.

    Args:
        pages: What each file should hold.
    """
    if "--check" in sys.argv[1:]:
        stale = [
            place.name
            for place, text in pages.items()
            if not place.is_file() or place.read_text(encoding="utf-8") != text
        ]
        if stale:
            sys.exit(f"{', '.join(stale)}: stale, run `make docs`")
        return
    for place, text in pages.items():
        place.parent.mkdir(exist_ok=True)
        place.write_text(text, encoding="utf-8")
