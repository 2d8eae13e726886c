"""What a microphone hears right now, as levels and spectrum columns, while somebody watches."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import numpy as np

from agent.bundle.manifest import Row
from agent.capture.level import measure
from agent.core.records import AudioBlock, Decision, Samples

COLUMN_SECONDS = 0.1
BANDS = 96
# A byte is half a decibel above this, dBFS; a full-scale sine is at 0.
FLOOR_DB, STEPS_PER_DB = -120.0, 2.0
_PENDING_SECONDS = 4.0
_KEPT = 64
# Who listens to one machine at once, and blocks that one may be behind: some seconds.
_EARS, _EAR_BLOCKS = 3, 64


@dataclass(frozen=True, slots=True)
class Column:
    """A tenth of a second.

    Attributes:
        number: Counts from 1.
        wall: Its first sample, seconds since the epoch.
        rate: Samples a second: the highest band ends at half of that.
        rms: Level, dBFS.
        peak: Largest sample, dBFS.
        bands: The loudest of each band of equal width from 0 Hz up, a byte each.
    """

    number: int
    wall: float
    rate: int
    rms: float
    peak: float
    bands: bytes


class SoundFeed:
    """A tap that costs a comparison a block while nobody watches, and is computed once for all.

    Args:
        kept: Columns remembered.
    """

    def __init__(self, kept: int = _KEPT) -> None:
        self._lock = threading.Lock()
        self.watchers = 0
        self.pending: deque[AudioBlock] = deque()
        self._held = 0.0
        self._rest: Samples = np.empty(0, np.float32)
        self._columns: deque[Column] = deque(maxlen=kept)
        self._ears: list[deque[bytes]] = []
        #: Samples a second of what was heard last; 0 before.
        self.rate = 0
        #: Of the latest column.
        self.number = 0

    @property
    def listeners(self) -> int:
        """How many listen at present."""
        return len(self._ears)

    def hear(self, block: AudioBlock) -> None:
        """Take a captured block, when somebody watches."""
        self.rate = block.rate
        if self._ears:
            self._play(block)
        if not self.watchers or len(block.samples) == 0:
            return
        kept = AudioBlock(
            np.array(block.samples, dtype=np.float32), block.rate, block.monotonic, block.wall,
            block.gap_before,
        )  # fmt: skip
        with self._lock:
            self.pending.append(kept)
            self._held += len(kept.samples) / kept.rate
            while self._held > _PENDING_SECONDS and len(self.pending) > 1:
                old = self.pending.popleft()
                self._held -= len(old.samples) / old.rate

    def _play(self, block: AudioBlock) -> None:
        """Hand a block on to who listens; of one that is too slow the oldest goes."""
        whole = np.clip(np.nan_to_num(block.samples), -1.0, 1.0) * 32767.0
        data = whole.astype("<i2").tobytes()
        with self._lock:
            for ear in self._ears:
                ear.append(data)

    @contextmanager
    def listen(self) -> Iterator[deque[bytes]]:
        """Somebody listens: blocks of 16-bit samples (little endian), to be taken from the left.

        Raises:
            BlockingIOError: As many as may listen do.
        """
        ear: deque[bytes] = deque(maxlen=_EAR_BLOCKS)
        with self._lock:
            if len(self._ears) >= _EARS:
                raise BlockingIOError
            self._ears.append(ear)
        try:
            yield ear
        finally:
            with self._lock:
                self._ears = [one for one in self._ears if one is not ear]

    def judged(self, decision: Decision, rows: Sequence[Row]) -> str:  # noqa: ARG002
        """Decisions are no matter of sound."""
        return ""

    def close(self) -> None:
        """The pipeline has ended; another may begin."""

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Somebody watches."""
        with self._lock:
            self.watchers += 1
        try:
            yield
        finally:
            with self._lock:
                self.watchers -= 1
                if not self.watchers:
                    self.pending.clear()
                    self._held, self._rest = 0.0, np.empty(0, np.float32)

    def after(self, number: int) -> list[Column]:
        """The columns after a number, as far as they are held."""
        with self._lock:
            while self.pending:
                block = self.pending.popleft()
                self._held -= len(block.samples) / block.rate
                self._compute(block)
            return [column for column in self._columns if column.number > number]

    def _compute(self, block: AudioBlock) -> None:
        if block.gap_before:
            self._rest = np.empty(0, np.float32)
        size = max(2 * BANDS, round(COLUMN_SECONDS * block.rate))
        samples = np.concatenate([self._rest, block.samples])
        wall = block.wall - len(self._rest) / block.rate
        whole = len(samples) // size
        for n in range(whole):
            piece: Samples = np.nan_to_num(samples[n * size : (n + 1) * size])
            level = measure(piece)
            self.number += 1
            self._columns.append(
                Column(
                    self.number,
                    wall + n * size / block.rate,
                    block.rate,
                    round(max(level.rms, -200.0), 1),
                    round(level.peak, 1),
                    band_bytes(piece),
                )
            )
        self._rest = samples[whole * size :]


def columns_of(samples: Samples, rate: int, wall: float) -> list[Column]:
    """The columns of a stretch of sound, as `SoundFeed` makes them; all have the number 0.

    Args:
        samples: float32, shape `(n,)`, full scale 1.0.
        rate: Samples a second.
        wall: Of the first sample, seconds since the epoch.
    """
    feed = SoundFeed(kept=len(samples))
    with feed.watch():
        feed.hear(AudioBlock(samples, rate, 0.0, wall))
        return [replace(column, number=0) for column in feed.after(0)]


def band_bytes(samples: Samples) -> bytes:
    """Spectrum of a short stretch, `BANDS` bytes from 0 Hz to half the rate.

    Args:
        samples: float32, shape `(n,)`, n at least twice `BANDS`, full scale 1.0.
    """
    window = np.hanning(len(samples))
    power = np.abs(np.fft.rfft((samples - samples.mean()) * window)) ** 2
    power *= (2.0 / window.sum()) ** 2
    starts = np.arange(BANDS) * len(power) // BANDS
    decibels = 10.0 * np.log10(np.maximum(np.maximum.reduceat(power, starts), 1e-20))
    steps = np.clip((decibels - FLOOR_DB) * STEPS_PER_DB, 0, 255)
    found: bytes = steps.astype(np.uint8).tobytes()
    return found
