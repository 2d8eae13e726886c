"""A microphone that is listened to for years: supervised by the arrival of its sound."""

from __future__ import annotations

import logging
import queue
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from agent.capture import hub, portaudio
from agent.capture.convert import Converter
from agent.capture.hub import Listener, Piece
from agent.capture.supervise import Supervised
from agent.config.capture import MicrophoneSource
from agent.core.errors import AudioError
from agent.core.records import AudioBlock

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.1
# A driver call that takes longer than this never returns, seconds.
_HUNG_SECONDS = 5.0
# The first sound may take so long, seconds: PortAudio is initialised, the device started, and a
# sound server fills its buffers first.
_FIRST_SECONDS = 5.0


class AudioHungError(AudioError):
    """A call into the sound driver does not return; only a new process can mend that."""


class Microphone(Supervised):
    """A microphone, opened by what identifies it at its own rate, and resampled.

    A stream that cannot be opened, fails, or gives no sound for `stall_seconds` is closed and
    opened again, with growing waits, for ever. The first block after that, or after the driver
    lost sound, has `gap_before`. Sources of one device share one stream.

    Args:
        config: Which device and channel, and how patient to be.
        rate: Rate of the blocks, Hz; None for the device's own.
    """

    def __init__(self, config: MicrophoneSource, rate: int | None) -> None:
        super().__init__(config.device or "default microphone", config.reopen_max_seconds)
        self._config = config
        self._rate = rate

    @property
    def live(self) -> bool:
        """True: sound doesn't wait."""
        return True

    def start(self) -> None:
        """Load PortAudio. That the device is absent is no error: it may yet come.

        Raises:
            AudioError: PortAudio is not installed, or another source wants the device otherwise.
        """
        portaudio.load()
        hub.expect(self._config)

    def blocks(self) -> Iterator[AudioBlock]:
        """Sound as it comes, until stopped.

        Raises:
            AudioHungError: The audio system hangs in a way that only a new process can mend.
        """
        try:
            yield from self._supervised()
        finally:
            hub.forget(self._config)

    def _supervised(self) -> Iterator[AudioBlock]:
        backoff = self._backoff
        again = False
        while not self._stop.is_set():
            try:
                yield from backoff.joined(self.listen(again=again), self._faults)
            except portaudio.PausedError as pause:
                backoff.pause(str(pause))
            except AudioHungError:
                raise
            except AudioError as fault:
                backoff.failed(str(fault))
            else:
                return
            again = True

    def listen(self, *, again: bool = False) -> Iterator[AudioBlock]:
        """One opening of the device; returns when stopped.

        Args:
            again: It failed before: bring PortAudio's list of devices up to date first.

        Raises:
            AudioError: It cannot be opened, failed or went silent.
            AudioHungError: The audio system hangs.
        """
        listener = Listener(self._config, again=again)
        listener.start()
        broken = False
        try:
            convert = Converter(self._config.channel, self._rate, self._name)
            for piece in self._pieces(listener):
                block = convert(piece.frames, piece.rate, piece.monotonic, lost=bool(piece.lost))
                if len(block.samples):
                    settling = piece.age < self._config.warm_up_seconds
                    yield replace(block, settling=settling)
        except _StalledError:
            broken = True
            raise
        finally:
            seconds = 1.0 if self._stop.is_set() else _HUNG_SECONDS
            if not listener.leave(seconds, broken=broken) and not self._stop.is_set():
                raise AudioHungError(
                    f"the audio system has not answered for {_HUNG_SECONDS:g} s",
                    where=self._name,
                    remedy="The agent ends, for its service manager to start it anew.",
                )

    def _pieces(self, listener: Listener) -> Iterator[Piece]:
        counted, heard = Counter[str](), time.monotonic()
        patience = max(self._config.stall_seconds, _FIRST_SECONDS)
        while not self._stop.is_set():
            try:
                piece = listener.pieces.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                if time.monotonic() - heard > patience:
                    raise _StalledError(f"no sound came for {patience:g} s") from None
                continue
            finally:
                self._faults += listener.losses - counted
                counted = Counter(listener.losses)
            if isinstance(piece, AudioError):
                raise piece
            if isinstance(piece, Exception):
                raise AudioError(f"the device failed: {piece}") from piece
            heard, patience = time.monotonic(), self._config.stall_seconds
            yield piece


class _StalledError(AudioError):
    """The stream says that it is active, and gives nothing."""
