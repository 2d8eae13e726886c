"""One file of a session: written under a draft's name until it is whole and on the disk."""

from __future__ import annotations

import errno
from pathlib import Path

import numpy as np
import soundfile

from agent.collect.session import Segment
from agent.core.clock import utc
from agent.core.records import Samples
from agent.core.storage import begin_private, sync

_DRAFT = ".segment.flac"


class SegmentFile:
    """FLAC of 24 bits that grows piece by piece.

    Args:
        folder: The session's.
        rate: Samples a second.
        wall: Wall time of its first sample, seconds since the epoch.

    Raises:
        OSError: The disk is full or gone.
        soundfile.SoundFileError: It cannot be made.
    """

    def __init__(self, folder: Path, rate: int, wall: float) -> None:
        self.wall = wall
        self._folder = folder
        self._rate = rate
        self._frames, self._power = 0, 0.0
        begin_private(folder / _DRAFT)
        self._file = soundfile.SoundFile(
            str(folder / _DRAFT), "w", rate, 1, format="FLAC", subtype="PCM_24"
        )

    @property
    def seconds(self) -> float:
        """Length of the sound written so far."""
        return self._frames / self._rate

    def write(self, piece: Samples) -> None:
        """Add samples, float32 `(n,)`; beyond full scale they are cut.

        Raises:
            OSError: The disk is full or gone.
            soundfile.SoundFileError: They cannot be written.
        """
        self._file.write(np.clip(piece, -1.0, 1.0))
        self._frames += len(piece)
        self._power += float(np.sum(np.square(piece, dtype=np.float64)))

    def keep(self, name: str) -> Segment:
        """Close it, see that it is whole, and give it its name.

        Raises:
            OSError: It was not written in full.
            soundfile.SoundFileError: Nor can it be read again.
        """
        self._file.close()
        draft = self._folder / _DRAFT
        # libsndfile is silent about some short writes.
        if soundfile.info(str(draft)).frames != self._frames:
            draft.unlink()
            raise OSError(errno.ENOSPC, "it was not written in full", str(draft))
        sync(draft)
        draft.replace(self._folder / name)
        level = 10.0 * float(np.log10(max(self._power / self._frames, 1e-20)))
        return Segment(
            file=name,
            start=utc(self.wall),
            seconds=round(self.seconds, 6),
            level_dbfs=round(level, 2),
        )

    def drop(self) -> None:
        """Close and remove it."""
        self._file.close()
        drop_draft(self._folder)


def drop_draft(folder: Path) -> None:
    """Remove what is left of a file that could not be written."""
    (folder / _DRAFT).unlink(missing_ok=True)
