"""What a check of the agent's surroundings found."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

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
