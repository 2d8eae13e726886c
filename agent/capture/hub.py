"""One stream a device, shared by every machine that listens to it.

Hardware can be opened once. Whoever wants a device that is open already joins its stream; all who
listen to it lose it together, and when the first of them has it again the others join anew.
"""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from typing import Any

from agent.capture import portaudio
from agent.capture.clock import ArrivalClock
from agent.capture.devices import InputDevice, match_device
from agent.config.capture import MicrophoneSource
from agent.core.errors import AudioError
from agent.core.records import Matrix

# How often the driver's buffer is emptied, seconds.
_POLL_SECONDS = 0.1
# Pieces that may wait for a listener: some ten seconds of sound.
_QUEUE = 100

# Guards what follows and every reader's listeners. Never held during a call of PortAudio, which
# may hang.
_guard = threading.Lock()
_serving: dict[str, _Reader] = {}
_expected: list[MicrophoneSource] = []


@dataclass(frozen=True, slots=True)
class Piece:
    """Sound as it came from a device.

    Attributes:
        frames: float32, shape `(n, channels)`.
        rate: The device's rate, Hz.
        monotonic: Monotonic time of its first sample, seconds.
        age: Time since the first sample of this opening, seconds.
        lost: How sound was lost before it (`overruns`, `missing`); empty when none was.
        device: Where it was heard.
    """

    frames: Matrix
    rate: float
    monotonic: float
    age: float
    lost: str
    device: InputDevice


def expect(config: MicrophoneSource) -> None:
    """Say that this source will listen, so that whoever opens its device opens enough of it.

    Raises:
        AudioError: Another source wants the same device at another rate.
    """
    with _guard:
        for other in _expected:
            if other.device == config.device and None not in {other.rate, config.rate}:
                _same_rate(other, config)
        _expected.append(config)


def forget(config: MicrophoneSource) -> None:
    """Take back one `expect`."""
    with _guard:
        if config in _expected:
            _expected.remove(config)


def _same_rate(one: MicrophoneSource, other: MicrophoneSource) -> None:
    if one.rate != other.rate:
        raise AudioError(
            f"is to be opened at {one.rate} Hz for one machine and {other.rate} Hz for another",
            where=one.device,
            remedy="A device has one rate: give both sources the same `rate`, or none.",
        )


class Listener:
    """One machine's ear at a device, for one opening of it.

    Args:
        config: Which device and channel.
        again: It failed before: bring PortAudio's list of devices up to date first.
    """

    def __init__(self, config: MicrophoneSource, *, again: bool = False) -> None:
        self.config = config
        self.again = again
        self.pieces: queue.Queue[Piece | Exception] = queue.Queue(_QUEUE)
        #: Losses so far, by cause.
        self.losses: Counter[str] = Counter()
        self._full = False
        # Who reads for us: our own attempt, until it finds that the device is open already.
        self.reader = _Reader(self)

    def start(self) -> None:
        """Begin to open the device; what comes of it is told through `pieces`."""
        self.reader.start()

    def leave(self, seconds: float, *, broken: bool = False) -> bool:
        """Stop listening.

        Args:
            seconds: How long to wait for the stream to be closed, when nobody needs it any more.
            broken: It is no good to the others either: close it for all.

        Returns:
            False when the driver has not let it be closed in that time.
        """
        with _guard:
            reader = self.reader
            if self in reader.listeners:
                reader.listeners.remove(self)
            if broken or not reader.listeners:
                reader.ended.set()
            if not reader.ended.is_set():
                return True
        reader.join(seconds)
        return not reader.is_alive()

    def put(self, item: Piece | Exception) -> None:
        """Give it a piece, or the fault that ends the stream. Never waits: who is late loses."""
        if isinstance(item, Piece) and self._full:
            item = replace(item, lost="overruns")
        try:
            self.pieces.put_nowait(item)
            self._full = False
        except queue.Full:
            self.losses["overruns"] += 1
            self._full = True


class _Reader(threading.Thread):
    """Everything that calls PortAudio for one opening of a device, where it may hang alone.

    It reads by polling rather than by callback: a callback that fails or stops does so unseen,
    and needs memory that is writable and executable, which a hardened service has not.
    """

    def __init__(self, listener: Listener) -> None:
        super().__init__(name="microphone-reader", daemon=True)
        self.listeners = [listener]
        self.ended = threading.Event()
        self.channels = 0
        self._config, self._again = listener.config, listener.again

    def run(self) -> None:
        fault: Exception = AudioError("it was closed, having given no sound to another machine")
        try:
            self._open_and_read()
        except Exception as caught:  # noqa: BLE001 - told to the supervisors, who decide
            fault = caught
        finally:
            with _guard:
                self.ended.set()
                left, self.listeners = self.listeners, []
            for listener in left:
                listener.put(fault)

    def _open_and_read(self) -> None:
        with portaudio.lock:
            if self._again or portaudio.refresh_wanted():
                portaudio.refresh()
            inputs = portaudio.inputs()
            device = match_device(inputs, self._config.device)
            if self._config.channel is not None and self._config.channel >= device.channels:
                raise AudioError(
                    f"there is no channel {self._config.channel}: the device has {device.channels}",
                    where=device.name,
                    remedy="Change the source's `channel`, which counts from 0.",
                )
            if self._joined(device):
                return
            rate, channels = self._wanted(inputs, device)
            stream = portaudio.open_stream(device, rate=rate, channels=channels)
            self.channels = stream.channels
            with _guard:
                _serving[device.id] = self
        try:
            self._read(stream, device)
        finally:
            portaudio.close_stream(stream)
            with _guard:
                _serving.pop(device.id, None)

    def _joined(self, device: InputDevice) -> bool:
        """Hand our listener to whoever reads this device already."""
        with _guard:
            owner = _serving.get(device.id)
            if owner is None:
                return self.ended.is_set()
            if (self._config.channel or 0) >= owner.channels:
                owner.ended.set()  # opened before this source was expected
            if owner.ended.is_set():
                raise portaudio.PausedError("it is being closed, to be opened again for all")
            for listener in self.listeners:
                listener.reader = owner
            owner.listeners += self.listeners
            self.listeners = []
            return True

    def _wanted(
        self, inputs: list[InputDevice], device: InputDevice
    ) -> tuple[int | None, int | None]:
        """Rate and number of channels that serve all who will listen to this device."""
        with _guard:
            sources = [*_expected, self._config]
        rates, channels = [], []
        for source in sources:
            try:
                if match_device(inputs, source.device).id != device.id:
                    continue
            except AudioError:
                continue
            if source.rate is not None:
                rates.append(source.rate)
            if source.channel is not None and source.channel < device.channels:
                channels.append(source.channel + 1)
        return next(iter(rates), None), max(channels, default=None)

    def _read(self, stream: Any, device: InputDevice) -> None:
        rate = float(stream.samplerate)
        clock, first = ArrivalClock(rate), None
        while not self.ended.wait(_POLL_SECONDS):
            if portaudio.refresh_wanted():
                raise portaudio.PausedError("pausing while another microphone is looked for")
            if (count := stream.read_available) == 0:
                continue
            frames, overflowed = stream.read(count)
            monotonic, late = clock.place(len(frames), time.monotonic())
            # Counted from the first sample: some drivers give none for a while.
            first = monotonic if first is None else first
            lost = "overruns" if overflowed else "missing" if late else ""
            piece = Piece(frames, rate, monotonic, monotonic - first, lost, device)
            with _guard:
                listeners = list(self.listeners)
            for listener in listeners:
                if lost:
                    listener.losses[lost] += 1
                listener.put(piece)
