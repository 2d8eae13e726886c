"""What a check of the agent's surroundings found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from agent.core.errors import AuscultError
from agent.core.secret_file import open_to_all
from agent.core.text import redacted, visible


class Grade(str, Enum):
    """How grave it is."""

    OK = "ok"
    WARN = "warn"  # the agent runs, but not as it should
    FAIL = "fail"  # the agent does not do its work


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        name: What: `microphone of pump-1`.
        grade: How it is.
        text: What was found.
        remedy: What to do about it; empty when nothing need be.
    """

    name: str
    grade: Grade
    text: str
    remedy: str = ""

    def __post_init__(self) -> None:
        """Take out passwords, and what acts upon a terminal: all of it is printed."""
        for name in ("name", "text", "remedy"):
            object.__setattr__(self, name, visible(redacted(getattr(self, name)), keep="\n"))

    @classmethod
    def failed(cls, name: str, fault: AuscultError) -> Finding:
        """What a fault says."""
        where = f"{fault.where}: " if fault.where else ""
        return cls(name, Grade.FAIL, f"{where}{fault.problem}", fault.remedy)

    @classmethod
    def of_secret(cls, name: str, path: Path, text: str, remedy: str = "") -> Finding:
        """A file that is read, with what else to say of it where not everybody can read it."""
        if open_to_all(path):
            text, remedy = "every user of this device can read it", f"chmod 600 {path}"
            return cls(name, Grade.WARN, f"{path}: {text}", remedy)
        return cls(name, Grade.OK, f"{path}: {text}", remedy)
