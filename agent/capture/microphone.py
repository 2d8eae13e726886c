"""A microphone that is listened to for years: supervised by the arrival of its sound."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import soxr

from agent.capture import portaudio
from agent.capture.clock import ArrivalClock
from agent.capture.config import MicrophoneSource
from agent.errors import AudioError
from agent.frames import AudioBlock, Samples

log = logging.getLogger(__name__)

# How often the driver's buffer is emptied, seconds.
_POLL_SECONDS = 0.1
# Pieces that may wait for the pipeline: some ten seconds of sound.
_QUEUE = 100
# A driver call that takes longer than this never returns, seconds.
_HUNG_SECONDS = 5.0
_FIRST_WAIT_SECONDS = 1.0


class AudioHungError(AudioError):
    """A call into the sound driver does not return; only a new process can mend that."""


@dataclass(frozen=True, slots=True)
class _Piece:
    """Samples as they came, at the device's rate.

    Attributes:
        samples: float32, shape `(n,)`.
        rate: The device's rate, Hz.
        arrived: Monotonic time at which they were in hand, seconds.
        lossy: The driver or we lost sound before them.
    """

    samples: Samples
    rate: float
    arrived: float
    lossy: bool


class _Reader(threading.Thread):
    """Everything that calls PortAudio for one opening of the device, where it may hang alone.

    It reads by polling rather than by callback: a callback that fails or stops does so unseen,
    and needs memory that is writable and executable, which a hardened service has not.
    """

    def __init__(self, config: MicrophoneSource, *, again: bool) -> None:
        super().__init__(name="microphone-reader", daemon=True)
        self.pieces: queue.Queue[_Piece | Exception] = queue.Queue(_QUEUE)
        self.ended = threading.Event()
        self.overruns = 0
        self._config = config
        self._again = again

    def run(self) -> None:
        try:
            self._read()
        except Exception as fault:  # noqa: BLE001 - told to the supervisor, which decides
            self._put(fault)

    def _read(self) -> None:
        with portaudio.opened(self._config, again=self._again) as stream:
            channel = self._config.channel
            lossy = False
            while not self.ended.wait(_POLL_SECONDS):
                if portaudio.refresh_wanted():
                    raise AudioError("pausing while another microphone is looked for")
                if (frames := stream.read_available) == 0:
                    continue
                data, overflowed = stream.read(frames)
                if overflowed:
                    self.overruns += 1
                mono = data.mean(axis=1) if channel is None else data[:, channel]
                piece = _Piece(
                    samples=np.ascontiguousarray(mono, dtype=np.float32),
                    rate=float(stream.samplerate),
                    arrived=time.monotonic(),
                    lossy=lossy or overflowed,
                )
                lossy = not self._put(piece)

    def _put(self, item: _Piece | Exception) -> bool:
        try:
            self.pieces.put_nowait(item)
        except queue.Full:
            self.overruns += 1
            return False
        return True


class Microphone:
    """A microphone, opened by name at its own rate and resampled.

    A stream that cannot be opened, fails, or gives no sound for `stall_seconds` is closed and
    opened again, with growing waits, for ever. The first block after that, or after the driver
    lost sound, has `gap_before`.

    Args:
        config: Which device, and how patient to be.
        rate: Rate of the blocks, Hz.
    """

    def __init__(self, config: MicrophoneSource, rate: int) -> None:
        self._config = config
        self._rate = rate
        self._stop = threading.Event()
        self._faults: Counter[str] = Counter()
        self._name = config.device or "default microphone"

    @property
    def live(self) -> bool:
        """True: sound doesn't wait."""
        return True

    def start(self) -> None:
        """Load PortAudio. That the device is absent is no error: it may yet come.

        Raises:
            AudioError: PortAudio is not installed.
        """
        portaudio.load()

    def blocks(self) -> Iterator[AudioBlock]:
        """Sound as it comes, until stopped.

        Raises:
            AudioHungError: The audio system hangs in a way that only a new process can mend.
        """
        wait, again, gap = _FIRST_WAIT_SECONDS, False, False
        away_since = time.monotonic()
        while not self._stop.is_set():
            reader = _Reader(self._config, again=again)
            reader.start()
            heard = False
            try:
                for block in self._listen(reader):
                    if not heard:
                        heard, wait = True, _FIRST_WAIT_SECONDS
                        away = time.monotonic() - away_since
                        log.info("%s: listening%s", self._name, f" after {away:.0f} s" * again)
                        yield replace(block, gap_before=gap or block.gap_before)
                        gap = True
                    else:
                        yield block
            except AudioError as fault:
                problem = str(fault)
            else:
                return
            finally:
                self._end(reader)
            if heard or not again:
                away_since = time.monotonic()
            again = True
            self._faults["reopened"] += 1
            # Once a step: at the longest wait only the first time.
            level = logging.WARNING if wait < self._config.reopen_max_seconds else logging.DEBUG
            log.log(level, "%s: %s; opening it again in %.0f s", self._name, problem, wait)
            self._stop.wait(wait)
            wait = min(2 * wait, self._config.reopen_max_seconds)

    def _listen(self, reader: _Reader) -> Iterator[AudioBlock]:
        """Blocks of one opening; returns when stopped.

        Raises:
            AudioError: It failed or went silent.
        """
        clock: ArrivalClock | None = None
        resampler: soxr.ResampleStream | None = None
        gap, overruns = False, 0
        heard = time.monotonic()
        while not self._stop.is_set():
            try:
                piece = reader.pieces.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if time.monotonic() - heard > self._config.stall_seconds:
                    raise AudioError(
                        f"no sound came for {self._config.stall_seconds:g} s"
                    ) from None
                continue
            finally:
                self._faults["overruns"] += reader.overruns - overruns
                overruns = reader.overruns
            if isinstance(piece, AudioError):
                raise piece
            if isinstance(piece, Exception):
                raise AudioError(f"the device failed: {piece}") from piece
            heard = time.monotonic()
            clock = clock or ArrivalClock(piece.rate)
            monotonic, lost = clock.place(len(piece.samples), piece.arrived)
            if lost:
                self._faults["overruns"] += 1
            gap = gap or lost or piece.lossy
            samples = piece.samples
            if piece.rate != self._rate:
                if resampler is None or gap:
                    # Also after lost sound: a filter must not smear what came before over it.
                    resampler = soxr.ResampleStream(
                        piece.rate, self._rate, 1, dtype="float32", quality="HQ"
                    )
                # What it holds back was heard before this piece.
                monotonic -= resampler.delay() / self._rate
                samples = resampler.resample_chunk(samples)
            if len(samples) == 0:
                continue
            yield AudioBlock(
                samples=samples,
                rate=self._rate,
                monotonic=monotonic,
                wall=time.time() - (time.monotonic() - monotonic),
                gap_before=gap,
                origin=self._name,
            )
            gap = False

    def _end(self, reader: _Reader) -> None:
        reader.ended.set()
        reader.join(_HUNG_SECONDS if not self._stop.is_set() else 1.0)
        if reader.is_alive() and not self._stop.is_set():
            raise AudioHungError(
                f"the audio system has not answered for {_HUNG_SECONDS:g} s",
                where=self._name,
                remedy="The agent ends, for its service manager to start it anew.",
            )

    def stop(self) -> None:
        """End the stream."""
        self._stop.set()

    def faults(self) -> Mapping[str, int]:
        """`overruns`: times that sound was lost; `reopened`: times that the stream was."""
        return {name: count for name, count in self._faults.items() if count}
