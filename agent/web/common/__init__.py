"""Scripts that the device's page and the plant's have in common."""

from __future__ import annotations

from pathlib import Path

#: What a browser gets, as `/static/common`.
FOLDER = Path(__file__).parent / "static"
