"""Recordings played as the stream they would have been."""

from __future__ import annotations

import glob
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import soxr

from agent.capture.files import audio_info, is_audio, mix, read_frames
from agent.config.capture import ReplaySource
from agent.core.errors import AudioError
from agent.core.records import AudioBlock, ChannelFault, Recorded, Samples
from agent.core.text import shown
from agent.window.channel_watch import ChannelWatch

log = logging.getLogger(__name__)

# Length of a block, seconds: what a sound card would deliver in one go, generously.
_BLOCK_SECONDS = 0.25


def find_recordings(paths: tuple[str, ...]) -> list[Path]:
    """The files that a list of files, folders and globs means, in order.

    A folder means the recordings anywhere in it, sorted by path; so does a glob.

    Raises:
        AudioError: One of them matches nothing.
    """
    found: list[Path] = []
    for path in paths:
        place = Path(path)
        if place.is_dir():
            matches = sorted(file for file in place.rglob("*") if is_audio(file) and file.is_file())
        elif place.exists():
            matches = [place]
        else:
            matches = sorted(map(Path, glob.glob(path, recursive=True)))  # noqa: PTH207 - absolute patterns
            matches = [match for match in matches if match.is_file()]
        if not matches:
            raise AudioError(
                "there is no recording here", where=path, remedy="Check the source's `paths`."
            )
        found += matches
    return found


class Replay:
    """Plays files in order, spliced to one stream.

    Clocks are those of the stream: its start plus the position in it, at any speed. A file that
    cannot be read is reported and skipped, and leaves a gap.

    Args:
        config: Files, speed, and what to do between files and at the end.
        rate: Rate of the blocks, Hz.
    """

    def __init__(self, config: ReplaySource, rate: int) -> None:
        self._config = config
        self._rate = rate
        self._files: list[Path] = []
        self._stop = threading.Event()
        self._faults: Counter[str] = Counter()
        self._monotonic = 0.0
        self._wall = 0.0
        self._position = 0  # samples given so far

    @property
    def live(self) -> bool:
        """Replay at real time behaves as a microphone does: it does not wait."""
        return self._config.speed == "realtime"

    def start(self) -> None:
        """Find the files.

        Raises:
            AudioError: A path matches nothing.
        """
        self._files = find_recordings(self._config.paths)

    def blocks(self) -> Iterator[AudioBlock]:
        """The stream.

        Raises:
            AudioError: Not one of the files could be read.
        """
        self._monotonic, self._wall, self._position = time.monotonic(), time.time(), 0
        gap = False
        while not self._stop.is_set():
            readable = 0
            for file in self._files:
                gap = gap or (self._config.gap_between_files and self._position > 0)
                try:
                    for samples, faults, recorded in self._play(file):
                        block = self._block(samples, gap=gap, origin=shown(file.name))
                        block = replace(block, channel_faults=faults, recorded=recorded)
                        if self._stop.is_set():
                            return
                        yield block
                        gap = False
                except AudioError as fault:
                    self._faults["bad_files"] += 1
                    gap = True
                    log.warning("skipped: %s", fault)
                else:
                    readable += 1
            if readable == 0:
                raise AudioError(
                    f"none of the {len(self._files)} recordings could be read",
                    where=", ".join(self._config.paths),
                    remedy="Check the source's `paths`.",
                )
            if not self._config.loop:
                return

    def _block(self, samples: Samples, *, gap: bool, origin: str) -> AudioBlock:
        """The next block of the stream, at real time not before its last sample is due."""
        offset = self._position / self._rate
        self._position += len(samples)
        if self.live:
            due = self._monotonic + self._position / self._rate
            self._stop.wait(max(0.0, due - time.monotonic()))
        return AudioBlock(
            samples=samples,
            rate=self._rate,
            monotonic=self._monotonic + offset,
            wall=self._wall + offset,
            gap_before=gap,
            origin=origin,
        )

    def _play(self, file: Path) -> Iterator[tuple[Samples, tuple[ChannelFault, ...], Recorded]]:
        """One file at the stream's rate, in short pieces; never whole in memory.

        Yields:
            Samples, what is wrong with the channels that were averaged, and how it was stored.
        """
        info = audio_info(file)
        stored = info.rate
        recorded = Recorded(stored, info.channels, self._config.channel)
        step = max(1, round(_BLOCK_SECONDS * stored))
        resampler = soxr.ResampleStream(stored, self._rate, 1, dtype="float32", quality="HQ")
        channels = ChannelWatch(stored)
        # At real time a piece lies in memory for as long as it lasts.
        most = info.channels * step * (1 if self.live else 16)
        for frames in read_frames(file, channel=self._config.channel, most=most):
            block = mix(frames)
            for start in range(0, len(block), step):
                faults = channels.push(frames[start : start + step])
                piece: Samples = block[start : start + step]
                if stored != self._rate:
                    piece = resampler.resample_chunk(piece)
                if len(piece):
                    yield piece, faults, recorded
        if stored != self._rate:
            tail = resampler.resample_chunk(np.empty(0, np.float32), last=True)
            if len(tail):
                yield tail, channels.faults, recorded

    def stop(self) -> None:
        """End the stream."""
        self._stop.set()

    def faults(self) -> Mapping[str, int]:
        """`bad_files`: files (plays of one, when looping) that could not be read to their end."""
        return dict(self._faults)

    @property
    def attempts(self) -> int:
        """Always 0: recordings are not waited for."""
        return 0
