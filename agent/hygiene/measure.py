"""One pass over a recording, from which everything about its fitness is told."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from agent.capture.files import AudioInfo, audio_info, mix, read_frames
from agent.chain.stream import StreamMeter
from agent.core.finite import silenced
from agent.core.records import ChannelFault, Matrix
from agent.hygiene.fingerprint import FingerprintMeter, Words
from agent.hygiene.shape import ShapeMeter
from agent.window.channels import ChannelMeter

_BLOCK_SECONDS = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """What was measured of a recording.

    Attributes:
        path: The file.
        seconds: Length of its sound.
        rate: As stored, Hz.
        channels: As stored.
        codec: How it is written.
        note: What its header wrongly claimed; else empty.
        digest: SHA-256 of the decoded sound of the channels in use: the same for a copy, under
            another name or in another lossless format.
        words: Its fingerprint.
        shape: Spectra of its pieces, float32 `(pieces, 2 * BINS)`, dB.
        levels_dbfs: RMS level of each piece.
        offset: Constant part (DC), share of full scale.
        bandwidth_hz: Frequency up to which it holds sound; None when it can't be told.
        channel_levels_dbfs: RMS level of each channel that is in use.
        channel_faults: What is wrong with averaging them.
    """

    path: Path
    seconds: float
    rate: int
    channels: int
    codec: str
    note: str
    digest: str
    words: Words
    shape: Matrix
    levels_dbfs: tuple[float, ...]
    offset: float
    bandwidth_hz: float | None
    channel_levels_dbfs: tuple[float, ...]
    channel_faults: tuple[ChannelFault, ...]


def measure(path: Path, channel: int | None = None) -> Measured:
    """Decode a recording once, piece by piece, and measure it.

    Args:
        path: The file.
        channel: Channel that will be used, from 0; None averages all.

    Raises:
        AudioError: It cannot be read.
    """
    return measure_sound(path, audio_info(path), read_frames(path, channel=channel))


def measure_sound(path: Path, info: AudioInfo, blocks: Iterable[Matrix]) -> Measured:
    """Measure the decoded sound of a recording.

    Args:
        path: The file.
        info: What its header says.
        blocks: Its sound as stored, float32 `(n, channels)` each.
    """
    digest = hashlib.sha256(f"{info.rate}\n".encode())
    sound, channels = StreamMeter(info.rate), ChannelMeter(info.rate)
    words, shape = FingerprintMeter(info.rate), ShapeMeter(info.rate)
    count, total = 0, 0.0
    for frames in blocks:
        digest.update(np.ascontiguousarray(frames, dtype="<f4").tobytes())
        mono = silenced(mix(frames))
        sound.push(mono)
        # One channel has only its level, for which no pieces are needed.
        step = len(frames) if frames.shape[1] == 1 else max(1, round(_BLOCK_SECONDS * info.rate))
        for start in range(0, len(frames), max(1, step)):
            channels.push(frames[start : start + step])
        words.push(mono)
        shape.push(mono)
        count += len(mono)
        total += float(mono.sum(dtype=np.float64))
    facts = sound.facts()
    return Measured(
        path=path,
        seconds=count / info.rate,
        rate=info.rate,
        channels=info.channels,
        codec=info.codec,
        note=info.note,
        digest=digest.hexdigest(),
        words=words.words(),
        shape=shape.rows(),
        levels_dbfs=tuple(shape.levels_dbfs),
        offset=total / max(1, count),
        bandwidth_hz=None if facts is None else facts.bandwidth_hz,
        channel_levels_dbfs=channels.levels_dbfs,
        channel_faults=channels.faults(),
    )
