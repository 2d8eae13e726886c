"""Sound as 24-bit FLAC, under a draft's name until it is whole and on the disk."""

from __future__ import annotations

import errno
from contextlib import suppress
from pathlib import Path

import numpy as np
import soundfile

from agent.core.records import Samples
from agent.core.storage import begin_private, sync


class FlacDraft:
    """A file of one channel that grows piece by piece, readable by its owner alone.

    24 bits: what no microphone exceeds; FLAC stores 16 as small as 16.

    Args:
        draft: Its name until it is whole.
        rate: Samples a second.

    Raises:
        OSError: The disk is full or gone.
        soundfile.SoundFileError: It cannot be made.
    """

    def __init__(self, draft: Path, rate: int) -> None:
        self.frames = 0
        self._draft = draft
        self._rate = rate
        self._power, self._peak = 0.0, 0.0
        begin_private(draft)
        self._file = soundfile.SoundFile(draft, "w", rate, 1, format="FLAC", subtype="PCM_24")

    @property
    def seconds(self) -> float:
        """Length of the sound written so far."""
        return self.frames / self._rate

    @property
    def level_dbfs(self) -> float:
        """RMS level of all of it, dBFS."""
        return 10.0 * float(np.log10(max(self._power / max(self.frames, 1), 1e-20)))

    @property
    def peak_dbfs(self) -> float:
        """Its largest sample, dBFS."""
        return 20.0 * float(np.log10(max(self._peak, 1e-10)))

    def write(self, samples: Samples) -> None:
        """Add samples, float32 `(n,)`; beyond full scale they are cut.

        Raises:
            OSError: The disk is full or gone.
            soundfile.SoundFileError: They cannot be written.
        """
        self._file.write(np.clip(samples, -1.0, 1.0))
        self.frames += len(samples)
        self._power += float(np.sum(np.square(samples, dtype=np.float64)))
        self._peak = max(self._peak, float(np.abs(samples).max(initial=0.0)))

    def keep(self, path: Path) -> None:
        """Close it, see that it is whole, force it to the disk, and give it its name.

        Raises:
            OSError: It was not written in full.
            soundfile.SoundFileError: Nor can it be read again.
        """
        self._file.close()
        # libsndfile is silent about some short writes.
        if soundfile.info(self._draft).frames != self.frames:
            self._draft.unlink()
            raise OSError(errno.ENOSPC, "it was not written in full", str(self._draft))
        sync(self._draft)
        self._draft.replace(path)

    def drop(self) -> None:
        """Leave nothing of it."""
        with suppress(soundfile.SoundFileError):  # of a full disk
            self._file.close()
        self._draft.unlink(missing_ok=True)
