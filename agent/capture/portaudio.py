"""PortAudio, shared by every microphone of the process.

Its list of devices is frozen when it is initialised: a microphone that was unplugged and returned
is seen only after a new initialisation, for which every stream of the process must be closed.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from agent.capture.config import MicrophoneSource
from agent.errors import AudioError

# Sound held by the driver while we are late, seconds: a busy device must not lose any.
_BUFFER_SECONDS = 1.0
# ALSA's plugins claim 32 channels or more where there is one; no microphone array has so many.
_MOST_CHANNELS = 8
# While other microphones are listening they are interrupted no oftener than this for the sake of
# one that is missing, seconds (at once when the list of sound cards changes).
_REFRESH_SECONDS = 600.0
_CARDS = Path("/proc/asound/cards")

_lock = threading.RLock()
_open_streams = 0
_refresh_wanted = False
_refreshed = 0.0
_cards = ""


def load() -> Any:
    """The `sounddevice` module, imported only by those who listen.

    Raises:
        AudioError: The PortAudio library is not installed.
    """
    try:
        import sounddevice  # noqa: PLC0415 - absent PortAudio must not stop a replay
    except OSError as fault:
        raise AudioError(
            f"the PortAudio library cannot be loaded ({fault})",
            remedy="Install it: apt install libportaudio2",
        ) from fault
    return sounddevice


def refresh_wanted() -> bool:
    """Shall open streams be closed for a moment, so that a returned device can be found?"""
    return _refresh_wanted


@contextmanager
def opened(config: MicrophoneSource, *, again: bool) -> Iterator[Any]:
    """An open, started input stream, closed at the end.

    Args:
        config: Which device, channel and rate.
        again: It failed before: bring the list of devices up to date first, if possible.

    Yields:
        A `sounddevice.InputStream` for blocking reads of float32.

    Raises:
        AudioError: There is no such device, or it cannot be opened.
    """
    global _open_streams  # noqa: PLW0603 - PortAudio's state is the process's
    sd = load()
    with _lock:
        if again or _refresh_wanted:
            _refresh(sd)
        stream = _open(sd, config)
        _open_streams += 1
    try:
        yield stream
    finally:
        with _lock:
            _open_streams -= 1
            # Not `stop`: that waits for a device which may be gone.
            stream.abort(ignore_errors=True)
            stream.close(ignore_errors=True)


def _refresh(sd: Any) -> None:
    global _refresh_wanted, _refreshed, _cards  # noqa: PLW0603 - PortAudio's state is the process's
    try:
        cards = _CARDS.read_text()
    except OSError:
        cards = ""
    if _open_streams:
        due = cards != _cards or time.monotonic() - _refreshed > _REFRESH_SECONDS
        _refresh_wanted = _refresh_wanted or due
        if not due:
            return
        raise AudioError("waiting for the other microphones to pause, to look for it again")
    sd._terminate()  # noqa: SLF001 - the library offers no public way
    sd._initialize()  # noqa: SLF001
    _refresh_wanted, _refreshed, _cards = False, time.monotonic(), cards


def _open(sd: Any, config: MicrophoneSource) -> Any:
    index, device = find_device(sd, config.device)
    offered = int(device["max_input_channels"])
    if config.channel is not None and config.channel >= offered:
        raise AudioError(
            f"there is no channel {config.channel}: the device has {offered}",
            where=device["name"],
            remedy="Change the source's `channel`.",
        )
    if config.channel is not None:
        wanted = config.channel + 1
    else:
        wanted = offered if offered <= _MOST_CHANNELS else 1
    fault: Exception | None = None
    # Some hardware can only be opened with all of its channels.
    for channels in dict.fromkeys((wanted, min(offered, _MOST_CHANNELS))):
        try:
            stream = sd.InputStream(
                device=index,
                channels=max(channels, wanted),
                samplerate=config.rate or device["default_samplerate"],
                dtype="float32",
                latency=_BUFFER_SECONDS,
            )
        except (sd.PortAudioError, ValueError) as error:
            fault = error
            continue
        try:
            stream.start()
        except sd.PortAudioError as error:
            stream.close(ignore_errors=True)
            fault = error
            continue
        return stream
    raise AudioError(
        f"cannot be opened: {fault}",
        where=device["name"],
        remedy="Check that nothing else uses it, and the source's `rate` and `channel`.",
    ) from fault


def find_device(sd: Any, name: str | None) -> tuple[int, dict[str, Any]]:
    """The input device that a part of its name means.

    Args:
        sd: The `sounddevice` module (or anything with its `query_devices` and `default`).
        name: Part of the name, any case; None for the default device.

    Returns:
        PortAudio's index of it, valid until the next initialisation, and what PortAudio knows.

    Raises:
        AudioError: None or several match.
    """
    inputs = [
        (index, device)
        for index, device in enumerate(sd.query_devices())
        if device["max_input_channels"] > 0
    ]
    names = ", ".join(f"'{device['name']}'" for _, device in inputs) or "none"
    if name is None:
        default = sd.default.device[0]
        found = [item for item in inputs if item[0] == default] or inputs[:1]
    else:
        wanted = name.casefold()
        found = [item for item in inputs if item[1]["name"].casefold() == wanted]
        found = found or [item for item in inputs if wanted in item[1]["name"].casefold()]
    if len(found) == 1:
        return found[0]
    if not found:
        raise AudioError(
            "there is no such microphone" if name else "there is no microphone",
            where=name,
            remedy=f"Found: {names}. Check the cable and the source's `device`.",
        )
    raise AudioError(
        "several devices match: " + ", ".join(f"'{device['name']}'" for _, device in found),
        where=name,
        remedy="Give more of the name in the source's `device`.",
    )
