"""A short recording in every container that is read, and what chance makes of its bytes."""

from __future__ import annotations

import io
import shutil
import struct
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import soundfile

RATE, SECONDS = 16000, 1.5
# By libsndfile: name, format, subtype, channels, endian.
_LIBRARY = (
    ("pcm16.wav", "WAV", "PCM_16", 1, "FILE"),
    ("u8.wav", "WAV", "PCM_U8", 1, "FILE"),
    ("float.wav", "WAV", "FLOAT", 2, "FILE"),
    ("adpcm.wav", "WAV", "IMA_ADPCM", 1, "FILE"),
    ("ms.wav", "WAV", "MS_ADPCM", 1, "FILE"),
    ("mulaw.wav", "WAV", "ULAW", 1, "FILE"),
    ("gsm.wav", "WAV", "GSM610", 1, "FILE"),
    ("rifx.wav", "WAV", "PCM_24", 1, "BIG"),
    ("extensible.wav", "WAVEX", "PCM_24", 2, "FILE"),
    ("large.rf64", "RF64", "PCM_16", 1, "FILE"),
    ("wave64.w64", "W64", "PCM_16", 2, "FILE"),
    ("core.caf", "CAF", "PCM_24", 1, "FILE"),
    ("lossless.caf", "CAF", "ALAC_16", 1, "FILE"),
    ("pcm.aiff", "AIFF", "PCM_16", 2, "FILE"),
    ("float.aifc", "AIFF", "FLOAT", 1, "FILE"),
    ("sun.au", "AU", "PCM_16", 1, "FILE"),
    ("next.snd", "AU", "ULAW", 1, "LITTLE"),
    ("whole.flac", "FLAC", "PCM_24", 2, "FILE"),
    ("vorbis.ogg", "OGG", "VORBIS", 1, "FILE"),
    ("opus.opus", "OGG", "OPUS", 1, "FILE"),
    ("layer3.mp3", "MP3", "MPEG_LAYER_III", 1, "FILE"),
)
# By ffmpeg: name and what it is asked to write.
_FFMPEG = (
    ("phone.m4a", ("-c:a", "aac")),
    ("begun.m4a", ("-c:a", "aac", "-movflags", "faststart")),
    ("stream.aac", ("-c:a", "aac")),
    ("video.mp4", ("-c:a", "aac")),
    ("page.webm", ("-c:a", "libopus")),
    ("box.mka", ("-c:a", "flac")),
    ("old.wma", ("-c:a", "wmav2")),
    ("dvd.ac3", ("-c:a", "ac3")),
    ("radio.mp2", ("-c:a", "mp2")),
    ("pack.wv", ("-c:a", "wavpack")),
    ("true.tta", ("-c:a", "tta")),
)
# What makes readers stumble: lengths, rates and counts at their limits, and chunks' names.
_NUMBERS = (
    b"\0" * 4, b"\xff" * 4, b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\x01\0\0\0", b"\0\0\0\x01",
    struct.pack("<I", 2**31 - 8), struct.pack(">I", 10**9), b"\xff" * 8, b"\x80" + b"\0" * 7,
    b"RIFF", b"LIST", b"data", b"fmt ", b"moov", b"OggS",
)  # fmt: skip
_HEAD = 128  # bytes: the header is where little does much


def sound(channels: int) -> np.ndarray:
    """Noise and a hum, float32 `(n, channels)`."""
    random = np.random.default_rng(channels)
    times = np.arange(round(SECONDS * RATE)) / RATE
    noise = 0.05 * random.normal(size=(len(times), channels))
    return (noise + 0.1 * np.sin(2 * np.pi * 120 * times)[:, None]).astype(np.float32)


def containers() -> dict[str, bytes]:
    """Every container, by a name that has its suffix; those of ffmpeg where it is installed."""
    found = {}
    for name, form, subtype, channels, endian in _LIBRARY:
        file = io.BytesIO()
        soundfile.write(file, sound(channels), RATE, format=form, subtype=subtype, endian=endian)
        found[name] = file.getvalue()
    if shutil.which("ffmpeg"):
        with tempfile.TemporaryDirectory() as folder:
            plain = Path(folder) / "plain.wav"
            plain.write_bytes(found["pcm16.wav"])
            for name, how in _FFMPEG:
                made = Path(folder) / name
                done = subprocess.run(
                    ["ffmpeg", "-v", "error", "-i", str(plain), *how, str(made)],
                    check=False, capture_output=True,
                )  # fmt: skip
                if done.returncode == 0:  # not every build writes every codec
                    found[name] = made.read_bytes()
    return found


def damaged(whole: dict[str, bytes], count: int, seed: int) -> Iterator[tuple[str, bytes, str]]:
    """Files that chance has altered: (name of the container, bytes, what was done).

    Args:
        whole: From `containers`.
        count: How many.
        seed: Of chance.
    """
    random = np.random.default_rng(seed)
    names = sorted(whole)
    for n in range(count):
        name = names[n % len(names)]
        data = bytearray(whole[name])
        done = []
        for _ in range(int(random.integers(1, 4))):
            head = min(_HEAD, len(data)) if random.random() < 0.7 else len(data)
            if not data:
                break
            at = int(random.integers(0, head))
            kind = ("byte", "bit", "number", "cut", "remove", "insert", "other")[
                int(random.choice(7, p=(0.2, 0.2, 0.2, 0.15, 0.1, 0.1, 0.05)))
            ]
            if kind == "byte":
                data[at] = int(random.integers(0, 256))
            elif kind == "bit":
                data[at] ^= 1 << int(random.integers(0, 8))
            elif kind == "number":
                new = _NUMBERS[int(random.integers(len(_NUMBERS)))]
                data[at : at + len(new)] = new
            elif kind == "cut":
                at = int(random.integers(0, len(data)))  # anywhere
                del data[at:]
            elif kind == "remove":
                del data[at : at + int(random.integers(1, 9))]
            elif kind == "insert":
                data[at:at] = random.bytes(int(random.integers(1, 9)))
            else:  # the content of another container under this one's name
                data = bytearray(whole[names[int(random.integers(len(names)))]])
            done.append(f"{kind} at {at}")
        yield name, bytes(data), ", ".join(done)
