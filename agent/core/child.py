"""Child processes that run our own code: wherever they are begun, it is ours that they import."""

from __future__ import annotations

import sys
from pathlib import Path


def running(module: str, function: str) -> list[str]:
    """The command line of a process that runs a function of ours, whose result is its exit code.

    Python looks for modules in the working folder first when it is told `-m` or `-c`: with a folder
    `agent` beside recordings, theirs would be imported. So that place is left out; where this very
    package came from is looked in last.

    Args:
        module: Where the function is.
        function: Its name; it takes nothing.
    """
    root = str(Path(__file__).resolve().parents[2])
    code = (
        f"import sys; sys.path[:] = [one for one in sys.path if one] + [{root!r}]; "
        f"from {module} import {function}; sys.exit({function}())"
    )
    return [sys.executable, "-c", code]
