"""Audio files: any format libsndfile reads, any rate and channel count, to mono at one rate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from agent.capture.declared import missing_share
from agent.errors import AudioError
from agent.frames import Matrix, Samples

# What a folder of recordings is searched for, in lower case.
AUDIO_SUFFIXES = frozenset(
    {".wav", ".flac", ".ogg", ".opus", ".mp3", ".aif", ".aiff", ".w64", ".rf64", ".caf", ".au"}
)

# Frames decoded at a time: an hour of 8 channels never lies in memory as 8 channels.
_BLOCK_FRAMES = 1 << 18
# FLAC written to a pipe has no length in its header; libsndfile then gives 2**63 - 1, and its seek,
# which soundfile does after each read, fails.
_UNKNOWN_FRAMES = 1 << 62
# Lossy decoders state their length only to within a frame or two of the codec.
_SHORTFALL_ALLOWED = 0.01

_AGAIN = "Record or copy it again, or take it out of the data."


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file's header says.

    Attributes:
        seconds: Length.
        rate: Samples a second, as stored.
        channels: Channels, as stored.
    """

    seconds: float
    rate: int
    channels: int


def is_audio(path: Path) -> bool:
    """Whether a name is that of a recording: an audio suffix in any case, and not hidden.

    Hidden files are left out because macOS leaves a `._name.wav` beside every `name.wav` that it
    copies to a foreign disk, with no sound in it.
    """
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def audio_info(path: str | Path) -> AudioInfo:
    """Read a file's header.

    Raises:
        AudioError: The file is missing, a folder, empty, not audio, or its header promises nothing.
    """
    with _opened(Path(path)) as file:
        return AudioInfo(file.frames / file.samplerate, file.samplerate, file.channels)


def read_frames(path: str | Path, *, channel: int | None = None) -> Iterator[Matrix]:
    """Decode a file piece by piece, at the rate it was stored.

    Args:
        path: The file.
        channel: Only this channel, counted from 0; None gives all.

    Yields:
        float32, shape `(n, channels)`, full scale 1.0, `n` at most 2**18. Values are what the file
        holds: a float file may exceed 1.0 and may hold NaN or infinity, which
        `agent.window.validity.assess` reports.

    Raises:
        AudioError: The file is missing, a folder, not audio, corrupt, cut short, holds no samples,
            or has no such channel.
    """
    path = Path(path)
    with _opened(path) as file:
        if channel is not None and not 0 <= channel < file.channels:
            raise AudioError(
                f"there is no channel {channel}: the file has {file.channels}",
                where=path,
                remedy=f"Choose a channel from 0 to {file.channels - 1}, or none for the average."
                if file.channels > 1
                else "Choose none.",
            )
        decoded = 0
        while len(block := file.read(_BLOCK_FRAMES, dtype="float32", always_2d=True)) > 0:
            decoded += len(block)
            yield block if channel is None else block[:, channel : channel + 1]
        if decoded < file.frames * (1 - _SHORTFALL_ALLOWED):
            raise AudioError(
                f"is cut short: {decoded} of the {file.frames} frames its header promises",
                where=path,
                remedy=_AGAIN,
            )


def mix(frames: Matrix) -> Samples:
    """Channels to one: their average, float32 `(n, channels)` to `(n,)`."""
    if frames.shape[1] == 1:
        return np.ascontiguousarray(frames[:, 0])
    mono: Samples = frames.mean(axis=1, dtype=np.float32)
    return mono


def read_audio(path: str | Path, *, rate: int, channel: int | None = None) -> Samples:
    """Read a whole file as the encoders want it.

    Args:
        path: The file: WAV, FLAC, OGG or whatever else libsndfile reads.
        rate: Samples a second to give; soxr (high quality) resamples when the file has another.
        channel: Which channel, counted from 0; None averages all.

    Returns:
        float32, shape `(n,)`, full scale 1.0. NaN and infinity in the file stay in the result
        (resampling spreads them): ask `agent.window.validity.assess` before judging it.

    Raises:
        AudioError: As `read_frames`.
    """
    stored = audio_info(path).rate
    blocks = map(mix, read_frames(path, channel=channel))
    if stored == rate:
        return np.concatenate(list(blocks))
    resampler = soxr.ResampleStream(stored, rate, 1, dtype="float32", quality="HQ")
    pieces = [resampler.resample_chunk(block) for block in blocks]
    pieces.append(resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True))
    samples: Samples = np.concatenate(pieces)
    if len(samples) == 0:
        raise AudioError(
            f"is too short to be resampled from {stored} to {rate} Hz", where=path, remedy=_AGAIN
        )
    return samples


@contextmanager
def _opened(path: Path) -> Iterator[soundfile.SoundFile]:
    """Open, and tell every fault of opening and decoding in the user's words."""
    try:
        if path.is_dir():
            raise AudioError("is a folder, not a recording", where=path, remedy="Name a file.")
        if path.stat().st_size == 0:
            raise AudioError("is empty (0 bytes)", where=path, remedy=_AGAIN)
        with path.open("rb"):
            pass  # libsndfile calls a file it may not open one with a "system error"
        with soundfile.SoundFile(path) as file:
            if file.frames == 0:
                raise AudioError("holds no samples", where=path, remedy=_AGAIN)
            if (missing := missing_share(path)) > _SHORTFALL_ALLOWED:
                raise AudioError(
                    f"is cut short: its header promises sound of which {missing:.0%} is not there",
                    where=path,
                    remedy=_AGAIN,
                )
            if file.frames >= _UNKNOWN_FRAMES:
                raise AudioError(
                    "has no length in its header, as when written to a pipe",
                    where=path,
                    remedy="Rewrite it, for example with `ffmpeg -i IN.flac OUT.wav`.",
                )
            yield file
    except FileNotFoundError as fault:
        raise AudioError("does not exist", where=path, remedy="Check the path.") from fault
    except OSError as fault:
        problem = f"cannot be read: {fault.strerror or fault}"
        raise AudioError(problem, where=path, remedy="Check its permissions and disk.") from fault
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as fault:
        # TypeError: soundfile asks for the format of a headerless `.raw`.
        why = getattr(fault, "error_string", None) or str(fault)
        if "does not exist" in why:  # so says libsndfile of an MP3 without sound in it
            why = f"it is no {path.suffix.lower() or 'such'} recording, or a damaged one"
        raise AudioError(
            f"cannot be decoded: {why.strip().rstrip('.')}", where=path, remedy=_AGAIN
        ) from fault
