"""A short listen: does this source give sound, and how loud?"""

from __future__ import annotations

import queue
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.capture.devices import InputDevice
from agent.capture.files import read_audio
from agent.capture.hub import Listener
from agent.capture.level import Level, measure_channels
from agent.capture.program import describe
from agent.capture.replay import find_recordings
from agent.capture.source import open_source
from agent.config.capture import AnySource, MicrophoneSource, PipeSource, ReplaySource
from agent.core.errors import AudioError
from agent.core.text import plural
from agent.window.validity import SILENT_DBFS

# A device that is there gives its first sound within this, seconds.
PATIENCE_SECONDS = 5.0
_CLOSE_SECONDS = 2.0
_ANY_RATE = 16000
# Of a recording so much is decoded to see that it can be.
_HEARD_SECONDS = 10.0
# Largest sample of nothing but zeros, of a converter that is driven too far, and a level that is
# hardly more than a 16 bit converter's own noise (-98 dBFS), dBFS.
_ZEROS, CLIPPED_DBFS, QUIET_DBFS = -199.0, -0.1, -90.0
_BUSY = "Check that nothing else uses it (fuser -v /dev/snd/*), and its switch and cable."


@dataclass(frozen=True, slots=True)
class Probe:
    """What was heard.

    Attributes:
        device: Where.
        rate: Rate it was opened at, Hz.
        levels: One a channel.
    """

    device: InputDevice
    rate: float
    levels: tuple[Level, ...]


def probe(config: MicrophoneSource, seconds: float = 0.3) -> Probe:
    """Open a microphone once and listen.

    Args:
        config: Which.
        seconds: Sound to listen to.

    Raises:
        AudioError: It is not there, cannot be opened, or gives nothing.
    """
    listener = Listener(config)
    listener.start()
    frames, deadline = [], time.monotonic() + PATIENCE_SECONDS + seconds
    try:
        while True:
            try:
                piece = listener.pieces.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AudioError(
                    "gives no sound", where=config.device or "default microphone", remedy=_BUSY
                ) from None
            if isinstance(piece, Exception):
                if isinstance(piece, AudioError):
                    raise piece
                raise AudioError(f"failed: {piece}", where=config.device, remedy=_BUSY) from piece
            frames.append(piece.frames)
            if sum(map(len, frames)) >= seconds * piece.rate:
                heard = np.concatenate(frames)
                return Probe(piece.device, piece.rate, measure_channels(heard))
    finally:
        listener.leave(_CLOSE_SECONDS)


def check_paths(config: AnySource) -> None:
    """See whether the files that a source plays are there; reads none of them.

    Args:
        config: A machine's `source`.

    Raises:
        AudioError: One of the paths matches nothing.
    """
    if isinstance(config, ReplaySource):
        find_recordings(config.paths)


@dataclass(frozen=True, slots=True)
class Checked:
    """What a source was found to give.

    Attributes:
        text: In a few words.
        doubt: Why its sound may not be fit to judge by; empty when nothing speaks against it.
        remedy: What to do about that.
    """

    text: str
    doubt: str = ""
    remedy: str = ""


def check_source(config: AnySource) -> Checked:
    """See whether a source gives sound now; for `auscult run --check` and `auscult doctor`.

    Args:
        config: A machine's `source`. Standard input is not read.

    Raises:
        AudioError: It gives none, or nothing but silence; says why and what there is instead.
    """
    if isinstance(config, ReplaySource):
        return Checked(_first_readable(find_recordings(config.paths), config.channel))
    if isinstance(config, MicrophoneSource):
        found = probe(config)
        channel = max(found.levels, key=lambda level: level.rms)
        if config.channel is not None:
            channel = found.levels[config.channel]
        return _judged(f"{found.device} at {found.rate:g} Hz", channel)
    # Not live, a program that cannot begin says why and is not tried again.
    source = open_source(config.model_copy(update={"live": False}), _ANY_RATE)
    source.start()
    if isinstance(config, PipeSource) and config.path is not None:
        return Checked("a pipe, not read")
    for block in source.blocks():
        return Checked(f"sound from {block.origin}")
    raise AudioError(
        "gives no sound", where=describe(config), remedy="Check the source's input or command."
    )


def _judged(what: str, level: Level) -> Checked:
    """A microphone's level, held to what a window of sound must be.

    Raises:
        AudioError: It is silent: every window would be invalid.
    """
    if level.rms < SILENT_DBFS:
        shown = "not one sample moves" if level.peak <= _ZEROS else f"level {level.rms:.0f} dBFS"
        raise AudioError(
            f"gives nothing but silence ({shown}), which is never judged",
            where=what,
            remedy="Check its mute switch, its gain (`alsamixer`), the cable and `channel`; "
            "`auscult devices` shows the levels of all inputs.",
        )
    text = f"{what}, level {level.rms:.0f} dBFS"
    if level.peak >= CLIPPED_DBFS:
        return Checked(
            text,
            f"its peaks reach full scale ({level.peak:.1f} dBFS): clipped sound is never judged",
            "Lower its gain (`alsamixer`), or move it away from the machine",
        )
    if level.rms < QUIET_DBFS:
        return Checked(
            text,
            "hardly more than the noise of a converter: a machine that runs is louder",
            "Raise its gain (`alsamixer`) or move it nearer, unless all is still there now",
        )
    return Checked(text)


def _first_readable(recordings: Sequence[Path], channel: int | None) -> str:
    """How many recordings there are, once one of them could be read."""
    failures = []
    for place in recordings:
        try:
            read_audio(place, rate=_ANY_RATE, channel=channel, seconds=_HEARD_SECONDS)
        except AudioError as fault:
            failures.append(str(fault))
            continue
        return plural(len(recordings), "recording")
    raise AudioError(
        f"none of the {len(recordings)} recordings could be read: {failures[0]}",
        remedy="Give WAV or FLAC files that play elsewhere.",
    )
