"""What a running agent says of itself in a file, for other programs on this device."""

from __future__ import annotations

import logging
import time
from pathlib import Path
from typing import Annotated

from pydantic import Field, FiniteFloat, ValidationError

from agent.core.errors import AuscultError
from agent.core.schema import Strict
from agent.core.storage import write_atomic

log = logging.getLogger(__name__)

#: What is said is renewed as often, seconds: what is much older is of an agent that has ended.
RENEWED = 3600.0


class Said(Strict):
    """Something that holds at present; for `auscult doctor`."""

    wall: Annotated[FiniteFloat, Field(description="When it was said, seconds since the epoch")]
    why: Annotated[str, Field(description="What holds, in words")]


class SaidFile:
    """A file that says what holds, since when. Best effort: a full disk must not end listening.

    Args:
        path: Where; None for nowhere.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def say(self, why: str) -> None:
        """Write it."""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            said = Said(wall=time.time(), why=why)
            write_atomic(self._path, said.model_dump_json().encode() + b"\n")
        except (OSError, AuscultError) as fault:
            log.debug("%s: cannot be written: %s", self._path, fault)

    def forget(self) -> None:
        """Remove the file: what it said holds no more."""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as fault:
            log.debug("%s: cannot be removed: %s", self._path, fault)


def read_said(path: Path) -> str:
    """What the running agent said last; empty when it said nothing that still holds."""
    try:
        said = Said.model_validate_json(path.read_bytes())
    except (OSError, ValidationError):
        return ""
    return said.why if abs(time.time() - said.wall) < 2 * RENEWED else ""
