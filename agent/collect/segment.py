"""One file of a session: written under a draft's name until it is whole and on the disk."""

from __future__ import annotations

from pathlib import Path

from agent.capture.flac import FlacDraft
from agent.collect.session import Segment
from agent.core.clock import utc

_DRAFT = ".segment.flac"


class SegmentFile(FlacDraft):
    """A file of a session that grows piece by piece.

    Args:
        folder: The session's.
        rate: Samples a second.
        wall: Wall time of its first sample, seconds since the epoch.

    Raises:
        OSError: The disk is full or gone.
        soundfile.SoundFileError: It cannot be made.
    """

    def __init__(self, folder: Path, rate: int, wall: float) -> None:
        super().__init__(folder / _DRAFT, rate)
        self.wall = wall
        self._folder = folder

    def keep_as(self, name: str) -> Segment:
        """Give it its name, as `keep` does; what is noted of it.

        Raises:
            OSError: It was not written in full.
            soundfile.SoundFileError: Nor can it be read again.
        """
        self.keep(self._folder / name)
        return Segment(
            file=name,
            start=utc(self.wall),
            seconds=round(self.seconds, 6),
            level_dbfs=round(self.level_dbfs, 2),
        )


def drop_draft(folder: Path) -> None:
    """Remove what is left of a file that could not be written."""
    (folder / _DRAFT).unlink(missing_ok=True)
