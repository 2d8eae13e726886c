"""How this installation of auscult is called, for what a person is to type next."""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path


def program() -> str:
    """`auscult` where that is this very one on PATH; else with the path of its environment."""
    script = Path(sys.prefix) / "bin" / "auscult"
    found = shutil.which("auscult")
    if not script.is_file() or (found is not None and Path(found).samefile(script)):
        return "auscult"
    return shlex.quote(str(script))


def next_command(*words: object) -> str:
    """A line that says what to type next, as a shell takes it.

    Args:
        words: The command and its arguments; those in capitals are for the reader to fill in.
    """
    return " ".join(["next:", program(), *(shlex.quote(str(word)) for word in words)])
