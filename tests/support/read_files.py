"""Reads every file of a folder as the product does, a line of JSON each; a process of its own.

    python -m support.read_files FOLDER

It limits itself: what one damaged file of some kilobytes asks of memory is no more than this.
"""

from __future__ import annotations

import json
import resource
import sys
from pathlib import Path

from agent.capture.files import audio_info, read_audio
from agent.capture.guard import check_decodes
from agent.core.errors import AuscultError

_MEMORY = 2 << 30
_RATE = 16000


def read(path: Path) -> dict[str, object]:
    """What becomes of a file: its samples, or an error in words."""
    try:
        check_decodes(path)
        info = audio_info(path)
        samples = read_audio(path, rate=_RATE)
    except AuscultError as fault:
        return {"error": str(fault)}
    return {"samples": len(samples), "claimed": info.seconds, "note": info.note}


def main() -> None:
    """All of them, in order of name; each is named before it is read."""
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    for path in sorted(Path(sys.argv[1]).iterdir()):
        print(json.dumps({"begun": path.name}), flush=True)
        print(json.dumps({"name": path.name, **read(path)}), flush=True)


if __name__ == "__main__":
    main()
