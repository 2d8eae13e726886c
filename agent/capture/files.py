"""Audio files: whatever libsndfile or ffmpeg reads, any rate and channels, to mono at one rate."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import soxr

from agent.capture.header import AGAIN, Header
from agent.capture.headers import RATES, read_header
from agent.capture.phone import PHONE_SUFFIXES, phone_frames, phone_info
from agent.capture.repaired import Repaired
from agent.capture.sniff import what_it_is
from agent.core.errors import AudioError
from agent.core.records import Matrix, Samples

# What a folder of recordings is searched for, in lower case.
AUDIO_SUFFIXES = PHONE_SUFFIXES | frozenset(
    {".wav", ".wave", ".flac", ".ogg", ".oga", ".opus", ".mp3", ".aif", ".aiff", ".aifc", ".w64",
     ".rf64", ".bwf", ".caf", ".au", ".snd"}
)  # fmt: skip

# Samples decoded at a time, of all channels together and after resampling: a day of 8 channels
# never lies in memory.
_BLOCK_FRAMES = 1 << 18
# FLAC written to a pipe has no length in its header; libsndfile then gives 2**63 - 1, and its seek,
# which soundfile does after each read, fails.
_UNKNOWN_FRAMES = 1 << 62
# Lossy decoders state their length only to within a frame or two of the codec.
_SHORTFALL_ALLOWED = 0.01


@dataclass(frozen=True, slots=True)
class AudioInfo:
    """What a file says of itself.

    Attributes:
        seconds: Length.
        rate: Samples a second, as stored.
        channels: Channels, as stored.
        codec: How its samples are written, for example `WAV PCM_16`, `OGG VORBIS`, `aac`.
        note: What its header claimed where something else was there to read; else empty.
    """

    seconds: float
    rate: int
    channels: int
    codec: str = ""
    note: str = ""


def is_audio(path: Path) -> bool:
    """Whether a name is that of a recording: an audio suffix in any case, and not hidden.

    Hidden files are left out because macOS leaves a `._name.wav` beside every `name.wav` that it
    copies to a foreign disk, with no sound in it.
    """
    return path.suffix.lower() in AUDIO_SUFFIXES and not path.name.startswith(".")


def audio_info(path: str | Path) -> AudioInfo:
    """Read a file's header.

    Raises:
        AudioError: The file is missing, a folder, empty, not audio, or its header promises nothing
            or what no recording has.
    """
    path = Path(path)
    if _by_ffmpeg(path):
        _refuse_absent(path)
        seconds, rate, channels, codec = phone_info(path)
        return AudioInfo(seconds, rate, channels, codec)
    with _opened(path) as (file, header):
        seconds = file.frames / file.samplerate
        note = "" if header is None else header.note
        if header is not None and seconds < header.seconds * (1 - _SHORTFALL_ALLOWED):
            note = f"its last page claims {header.seconds:.4g} s; {seconds:.4g} s can be read"
        return AudioInfo(
            seconds, file.samplerate, file.channels, f"{file.format} {file.subtype}", note
        )


def read_frames(
    path: str | Path, *, channel: int | None = None, most: int = _BLOCK_FRAMES
) -> Iterator[Matrix]:
    """Decode a file piece by piece, at the rate it was stored.

    Args:
        path: The file.
        channel: Only this channel, counted from 0; None gives all.
        most: Samples of all channels together that a piece may have.

    Yields:
        float32, shape `(n, channels)`, full scale 1.0. Values are what the file holds: a float file
        may exceed 1.0 and may hold NaN or infinity, which `agent.window.validity.assess` reports.

    Raises:
        AudioError: The file is missing, a folder, not audio, corrupt, cut short, holds no samples,
            or has no such channel.
    """
    path = Path(path)
    if _by_ffmpeg(path):
        _refuse_absent(path)
        for block in phone_frames(path):
            _refuse_channel(path, channel, block.shape[1])
            yield block if channel is None else block[:, channel : channel + 1]
        return
    with _opened(path) as (file, header):
        _refuse_channel(path, channel, file.channels)
        decoded = 0
        count = max(1, most // file.channels)
        while len(block := file.read(count, dtype="float32", always_2d=True)) > 0:
            decoded += len(block)
            yield block if channel is None else block[:, channel : channel + 1]
        repaired = header is not None and header.head
        if decoded < file.frames * (1 - _SHORTFALL_ALLOWED) and not repaired:
            raise AudioError(
                f"is cut short: {decoded} of the {file.frames} frames its header promises",
                where=path,
                remedy=AGAIN,
            )


def _refuse_channel(path: Path, channel: int | None, channels: int) -> None:
    if channel is not None and not 0 <= channel < channels:
        raise AudioError(
            f"there is no channel {channel}: the file has {channels}",
            where=path,
            remedy=f"Choose a channel from 0 to {channels - 1}, or none for the average."
            if channels > 1
            else "Choose none.",
        )


def mix(frames: Matrix) -> Samples:
    """Channels to one: their average, float32 `(n, channels)` to `(n,)`."""
    if frames.shape[1] == 1:
        return np.ascontiguousarray(frames[:, 0])
    with np.errstate(over="ignore", invalid="ignore"):  # a float file may hold what it likes
        mono: Samples = frames.mean(axis=1, dtype=np.float32)
    return mono


def read_audio(
    path: str | Path, *, rate: int, channel: int | None = None, seconds: float | None = None
) -> Samples:
    """Read a whole file, or its beginning, as the encoders want it.

    Args:
        path: The file: WAV, FLAC, OGG or whatever else libsndfile reads.
        rate: Samples a second to give; soxr (high quality) resamples when the file has another.
        channel: Which channel, counted from 0; None averages all.
        seconds: How much of it, from its beginning; None for all, which then lies in memory.

    Returns:
        float32, shape `(n,)`, full scale 1.0. NaN and infinity in the file stay in the result
        (resampling spreads them): ask `agent.window.validity.assess` before judging it.

    Raises:
        AudioError: As `read_frames`.
    """
    most = None if seconds is None else max(1, round(seconds * rate))
    return np.concatenate(list(beginning(stream_audio(path, rate=rate, channel=channel), most)))


def beginning(blocks: Iterable[Samples], most: int | None) -> Iterator[Samples]:
    """Blocks of sound, up to so many samples; all of them for None."""
    left = most
    for block in blocks:
        part = block if left is None else block[:left]
        if len(part):
            yield part
        if left is not None:
            left -= len(part)
            if left <= 0:
                return


def stream_audio(
    path: str | Path,
    *,
    rate: int,
    channel: int | None = None,
    watch: Callable[[Matrix], None] = lambda _: None,
) -> Iterator[Samples]:
    """Read a file as `read_audio` does, piece by piece: memory stays bounded, however long it is.

    Args:
        path: The file.
        rate: As for `read_audio`.
        channel: As for `read_audio`.
        watch: Shown each piece as it was stored, float32 `(n, channels)`.

    Yields:
        float32, shape `(n,)`, n > 0; joined, what `read_audio` gives.

    Raises:
        AudioError: As `read_frames`.
    """
    stored = audio_info(path).rate
    # What a piece becomes at the new rate must not be large either.
    most = max(1, min(_BLOCK_FRAMES, int(_BLOCK_FRAMES * stored / rate)))

    def watched() -> Iterator[Samples]:
        for frames in read_frames(path, channel=channel, most=most):
            watch(frames)
            yield mix(frames)

    blocks = watched()
    given = 0
    if stored == rate:
        for block in blocks:
            given += len(block)
            yield block
        if not given:
            raise AudioError("holds no samples", where=path, remedy=AGAIN)
        return
    resampler = soxr.ResampleStream(stored, rate, 1, dtype="float32", quality="HQ")
    for block in blocks:
        piece = resampler.resample_chunk(block)
        given += len(piece)
        if len(piece):
            yield piece
    tail = resampler.resample_chunk(np.empty(0, dtype=np.float32), last=True)
    if len(tail):
        yield tail
    elif not given:
        raise AudioError(
            f"is too short to be resampled from {stored} to {rate} Hz", where=path, remedy=AGAIN
        )


def read_stretch(
    path: str | Path, start: float, seconds: float, *, rate: int, channel: int | None = None
) -> Samples:
    """Read a part of a file, with no more of it in memory than that.

    Args:
        path: The file.
        start: Where it begins, seconds.
        seconds: How long it is at most: less where the file ends.
        rate: As for `read_audio`.
        channel: As for `read_audio`.

    Returns:
        float32, shape `(n,)`; empty beyond the end.

    Raises:
        AudioError: As `read_frames`.
    """
    skip, want = round(start * rate), round(seconds * rate)
    parts: list[Samples] = []
    for block in stream_audio(path, rate=rate, channel=channel):
        if skip >= len(block):
            skip -= len(block)
            continue
        parts.append(block[skip : skip + want])
        want -= len(parts[-1])
        skip = 0
        if want <= 0:
            break
    return np.concatenate(parts) if parts else np.empty(0, np.float32)


def _by_ffmpeg(path: Path) -> bool:
    """Whether a file is for ffmpeg: by its suffix."""
    return path.suffix.lower() in PHONE_SUFFIXES


def _refuse_absent(path: Path) -> None:
    """Tell what is no file at all in our words, not ffmpeg's.

    Raises:
        AudioError: It is missing, a folder or empty.
    """
    if path.is_dir():
        raise AudioError("is a folder, not a recording", where=path, remedy="Name a file.")
    if not path.exists():
        lost = "is a link to a file that is not there" if path.is_symlink() else "does not exist"
        raise AudioError(lost, where=path, remedy="Check the path.")
    if not path.is_file():  # opening a pipe would wait for its writer for ever
        raise AudioError("is a pipe or a device, not a recording", where=path, remedy=AGAIN)
    if path.stat().st_size == 0:
        raise AudioError("is empty (0 bytes)", where=path, remedy=AGAIN)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[soundfile.SoundFile, Header | None]]:
    """Open, and tell every fault of opening and decoding in the user's words."""
    try:
        _refuse_absent(path)
        with path.open("rb"):
            pass  # libsndfile calls a file it may not open one with a "system error"
        header = read_header(path)
        if header is not None and header.head:
            target: bytes | Repaired = Repaired(path, header.begin, header.head)
        else:
            target = os.fsencode(path)  # a name need not be UTF-8
        with soundfile.SoundFile(target) as file:
            if not RATES[0] <= file.samplerate <= RATES[1]:
                raise AudioError(
                    f"its header claims {file.samplerate} samples a second",
                    where=path,
                    remedy=f"Rates from {RATES[0]} to {RATES[1]} Hz are read.",
                )
            if file.frames == 0:
                raise AudioError("holds no samples", where=path, remedy=AGAIN)
            if header is not None and (missing := header.missing_share) > _SHORTFALL_ALLOWED:
                raise AudioError(
                    f"is cut short: its header promises sound of which {missing:.0%} is not there",
                    where=path,
                    remedy=AGAIN,
                )
            if header is not None and file.frames < header.frames * (1 - _SHORTFALL_ALLOWED):
                raise AudioError(
                    f"its header contradicts itself: sound of {header.frames} samples, of which it "
                    f"claims {file.frames}",
                    where=path,
                    remedy="Rewrite it, for example with `ffmpeg -i IN OUT.wav`.",
                )
            if file.frames >= _UNKNOWN_FRAMES:
                raise AudioError(
                    "has no length in its header, as when written to a pipe",
                    where=path,
                    remedy="Rewrite it, for example with `ffmpeg -i IN.flac OUT.wav`.",
                )
            yield file, header
    except FileNotFoundError as fault:
        raise AudioError("does not exist", where=path, remedy="Check the path.") from fault
    except OSError as fault:
        problem = f"cannot be read: {fault.strerror or fault}"
        raise AudioError(problem, where=path, remedy="Check its permissions and disk.") from fault
    except (soundfile.SoundFileError, RuntimeError, TypeError, ValueError) as fault:
        # TypeError: soundfile asks for the format of a headerless `.raw`.
        why = getattr(fault, "error_string", None) or str(fault)
        what = what_it_is(path)
        if what:
            raise AudioError(f"is {what}", where=path) from fault
        if "does not exist" in why:  # so says libsndfile of an MP3 without sound in it
            why = f"it is no {path.suffix.lower() or 'such'} recording, or a damaged one"
        raise AudioError(
            f"cannot be decoded: {why.strip().rstrip('.')}", where=path, remedy=AGAIN
        ) from fault
