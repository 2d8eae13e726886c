"""Writes the units of the package, as `auscult install-service` would for /opt/auscult.

Usage: python units.py FOLDER VERSION_OF_SYSTEMD
"""

from __future__ import annotations

import sys
from pathlib import Path

from agent.doctor.unit import PLAIN, TEMPLATE, Installation, render

_COMMAND = ("/opt/auscult/bin/auscult",)
_CONFIG = {PLAIN: "agent.yaml", TEMPLATE: "%i.yaml"}


def main(folder: Path, systemd: int) -> None:
    """Write both.

    Args:
        folder: Where debhelper looks for them: `debian`.
        systemd: Version of the distribution's systemd.
    """
    for name, config in _CONFIG.items():
        text = render(name, Installation(_COMMAND, Path("/etc/auscult", config), None, systemd))
        # The first line says that `install-service` may replace it, which is dpkg's to do.
        (folder / name).write_text(text.partition("\n")[2], encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
