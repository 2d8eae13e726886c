"""PortAudio, shared by every microphone of the process.

Its list of devices is frozen when it is initialised: a microphone that was unplugged and returned
is seen only after a new initialisation, for which every stream of the process must be closed.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from agent.capture import devices
from agent.capture.devices import InputDevice
from agent.core.errors import AudioError

# Sound held by the driver while we are late, seconds: a busy device must not lose any.
_BUFFER_SECONDS = 1.0
# ALSA's plugins claim 32 channels or more where there is one; no microphone array has so many.
_MOST_CHANNELS = 8
# PortAudio is initialised anew when the kernel's list of sound cards changed. For what that list
# doesn't show (a card that was busy when PortAudio looked) also after so long without a change, and
# after twice as long each further time, seconds. Not at every attempt: the other microphones are
# interrupted for it, and each time leaks 12 KB in the libraries below.
_REFRESH_SECONDS = (60.0, 3600.0)

# Every call but the reading of an open stream is made under this lock.
lock = threading.RLock()


class PausedError(AudioError):
    """Not a fault: streams are closed for a moment, and can be opened again at once."""


class _State:
    """What PortAudio is for the process: one, as it is."""

    streams = 0
    refresh_wanted = False
    refreshed = 0.0
    patience = _REFRESH_SECONDS[0]
    cards: str | None = None


def load() -> Any:
    """The `sounddevice` module, imported only by those who listen.

    Raises:
        AudioError: The PortAudio library is not installed.
    """
    with lock:
        if _State.cards is None:
            # Before PortAudio looks: a card that comes at this instant is then a change.
            _State.cards, _State.refreshed = _cards(), time.monotonic()
    try:
        import sounddevice  # noqa: PLC0415 - absent PortAudio must not stop a replay
    except OSError as fault:
        raise AudioError(
            f"the PortAudio library cannot be loaded ({fault})",
            remedy="Install it: apt install libportaudio2",
        ) from fault
    return sounddevice


def in_use() -> bool:
    """Whether any stream is open."""
    return _State.streams > 0


def refresh_wanted() -> bool:
    """Shall open streams be closed for a moment, so that a returned device can be found?"""
    return _State.refresh_wanted


def refresh() -> None:
    """Bring the list of devices up to date if that is due; open streams are asked to close first.

    Raises:
        PausedError: Other streams have been asked to close; try again in a moment.
    """
    sd = load()
    with lock:
        cards = _cards()
        changed = cards != _State.cards
        waited = time.monotonic() - _State.refreshed
        if not (changed or _State.refresh_wanted or waited > _State.patience):
            return
        if _State.streams:
            _State.refresh_wanted = True
            raise PausedError("waiting for the other microphones to pause, to look for it again")
        first, most = _REFRESH_SECONDS
        _State.patience = first if changed else min(2 * _State.patience, most)
        sd._terminate()  # noqa: SLF001 - the library offers no public way
        sd._initialize()  # noqa: SLF001
        _State.refresh_wanted, _State.refreshed, _State.cards = False, time.monotonic(), cards


def inputs() -> list[InputDevice]:
    """What can be listened to, as of the latest refresh.

    Raises:
        AudioError: PortAudio is not installed.
    """
    sd = load()
    with lock:
        return devices.list_inputs(sd)


def open_stream(device: InputDevice, *, rate: int | None, channels: int | None) -> Any:
    """Open and start a stream; `close_stream` ends it.

    Args:
        device: Which, as `inputs` gave it since the latest refresh.
        rate: Hz; None for the device's own.
        channels: How many must be heard; None for whatever there are.

    Returns:
        A `sounddevice.InputStream` for blocking reads of float32, of as many channels or more.

    Raises:
        AudioError: It cannot be opened.
    """
    sd = load()
    most = min(device.channels, _MOST_CHANNELS)
    # A plugin that offers dozens makes them up: then only those that are asked for.
    wanted = channels or 1 if device.channels > _MOST_CHANNELS else most
    fault: Exception | None = None
    with lock:
        # Some hardware can be opened only with all of its channels, some not with all of them.
        for count in dict.fromkeys((max(wanted, channels or 1), most, channels or most)):
            stream = None
            try:
                stream = sd.InputStream(
                    device=device.index,
                    channels=count,
                    samplerate=rate or device.rate,
                    dtype="float32",
                    latency=_BUFFER_SECONDS,
                )
                stream.start()
            except (sd.PortAudioError, ValueError) as error:
                if stream is not None:
                    stream.close(ignore_errors=True)
                fault = error
                continue
            _State.streams += 1
            return stream
    raise AudioError(
        f"cannot be opened: {fault}",
        where=device.name,
        remedy="Check that nothing else uses it, and the source's `rate` and `channel`.",
    ) from fault


def close_stream(stream: Any) -> None:
    """Close what `open_stream` opened."""
    with lock:
        _State.streams -= 1
        # Not `stop`: that waits for a device which may be gone.
        stream.abort(ignore_errors=True)
        stream.close(ignore_errors=True)


def _cards() -> str:
    try:
        return devices.PROC_CARDS.read_text()
    except OSError:
        return ""
