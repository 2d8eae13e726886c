"""What is known of a recording before it is opened."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# Roles of the sound that is learnt from: idle and noise recordings never count as healthy.
HEALTHY = ("normal", "clean")
# Answers of test recordings, and domains of all.
NORMAL = "normal"
ANOMALY = "anomaly"
SOURCE = "source"
TARGET = "target"


@dataclass(frozen=True, slots=True)
class Recording:
    """One audio file of a data set.

    Attributes:
        path: The file.
        machine: Machine (type) it was recorded from.
        role: `normal` (healthy, to learn from), `idle`, `noise`, `clean` (training extras, see the
            DCASE 2025 supplemental data), or `test`.
        label: `normal` or `anomaly` for a test file whose answer is known, else None.
        section: DCASE section number as text (`00`); empty when there is none.
        domain: `source`, `target` or `unknown`.
        attributes: Operating conditions; empty when missing.
    """

    path: Path
    machine: str
    role: str
    label: str | None = None
    section: str = ""
    domain: str = "unknown"
    attributes: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Rejected:
    """A file that could not be used.

    Attributes:
        path: The file.
        reason: What is wrong with it.
        remedy: What to do about it.
    """

    path: Path
    reason: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Machine:
    """Everything recorded from one machine.

    Attributes:
        name: Its name: the DCASE machine type, or the plain folder's name.
        root: The folder it was read from; `Row.source` is relative to it.
        recordings: Files in use, sorted by path.
        rejected: Files left out, with reasons.
    """

    name: str
    root: Path
    recordings: tuple[Recording, ...]
    rejected: tuple[Rejected, ...] = ()

    def of(self, *roles: str) -> tuple[Recording, ...]:
        """The recordings of these roles."""
        return tuple(r for r in self.recordings if r.role in roles)
