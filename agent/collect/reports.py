"""Where the reports of what was learnt on this device are kept."""

from __future__ import annotations

from pathlib import Path

PAGE = "report.html"


def report_folder(state: Path, machine: str) -> Path:
    """Folder of a machine's reports, in the agent's state directory."""
    return state / "reports" / machine
