"""What the header of a recording says, read before any library sees the file.

libsndfile believes headers. A recorder that died leaves a length of 0, a pipe a placeholder, a
recorder that appended a stale one, and beyond 4 GB the length of a WAV file wraps; absurd rates and
counts make libraries crash. So the headers of WAV (RIFF, RIFX, RF64), W64, AIFF, AU, CAF, FLAC and
Ogg are read here: rate and channels are held to what sound can have, and a length is held against
what the file holds.
"""

from __future__ import annotations

import errno
import math
import struct
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from agent.capture.header import AGAIN, Header
from agent.capture.ogg import last_page
from agent.core.errors import AudioError

# Slower is no sound; faster, no sound card's or ultrasound recorder's.
RATES = (500, 4_000_000)
CHANNELS = 1024
# What a writer that cannot go back to its header leaves for the length: 0 or a number just below
# 2**31 or 2**32 (arecord, sox, ffmpeg, GStreamer each have their own).
_PLACEHOLDER_REACH = 1 << 16
_CHUNKS = 1000  # more than any file has; a damaged one may seem to have no end of them
# Behind the sound this much is a tag or padding that nobody described, bytes...
_TAIL = 1 << 16
# ...and this share of the sound.
_TAIL_SHARE = 0.01
_W64_RIFF = b"riff\x2e\x91\xcf\x11\xa5\xd6\x28\xdb\x04\xc1\x00\x00"
_W64_TAIL = b"\xf3\xac\xd3\x11\x8c\xd1\x00\xc0\x4f\x8e\xdb\x8a"
_PLAIN = frozenset({1, 0xFFFE})  # formats of plain samples: PCM, EXTENSIBLE
_OGG_HEAD = 4096
_OPUS_RATE = 48000


def read_header(path: Path) -> Header | None:
    """Read and check a header.

    Returns:
        What it says; None for a format that has no header known here, or one too damaged to be
        read (the decoder then says what is wrong).

    Raises:
        AudioError: It gives a rate or a number of channels that no sound has.
        OSError: The file cannot be read.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        try:
            found = _find(file, size)
        except (struct.error, OverflowError):
            return None
        except OSError as fault:
            if fault.errno != errno.EINVAL:  # a place that no file has
                raise
            return None
    if found is not None:
        _check(found, path)
    return found


def _find(file: BinaryIO, size: int) -> Header | None:
    head = file.read(40)
    kind, form = head[:4], head[8:12]
    if kind in {b"RIFF", b"RF64", b"RIFX"} and form == b"WAVE":
        return _wav(file, size, ">" if kind == b"RIFX" else "<")
    if kind == b"FORM" and form in {b"AIFF", b"AIFC"}:
        return _aiff(file, size)
    if kind in {b".snd", b"dns."}:
        return _au(head, size, ">" if kind == b".snd" else "<")
    if kind == b"caff":
        return _caf(file, size)
    if head[:16] == _W64_RIFF:
        return _w64(file, size)
    if kind == b"fLaC":
        return _flac(head)
    if kind == b"OggS":
        found = _ogg(head + file.read(_OGG_HEAD))
        if found is None:
            return None
        last = last_page(file, size)
        return replace(
            found,
            remark="" if last.ends else "its end is missing; what is there is read",
            seconds=last.samples / (found.rate or _OPUS_RATE) if last.ends else 0.0,
        )
    return None


def _check(header: Header, path: Path) -> None:
    rate, channels = header.rate, header.channels
    if rate is not None and not (math.isfinite(rate) and RATES[0] <= rate <= RATES[1]):
        raise AudioError(
            f"its header claims {rate:g} samples a second, which no recording has",
            where=path,
            remedy=f"Rates from {RATES[0]} to {RATES[1]} Hz are read: correct the header (for "
            "example `ffmpeg -f s16le -ar RATE -ac CHANNELS -i IN OUT.wav`), or record it again.",
        )
    if channels is not None and not 1 <= channels <= CHANNELS:
        raise AudioError(f"its header claims {channels} channels", where=path, remedy=AGAIN)


def _placeholder(length: int) -> bool:
    return length == 0 or any(
        top - _PLACEHOLDER_REACH <= length <= top for top in (1 << 31, (1 << 32) - 1, (1 << 63) - 1)
    )


def _chunks(
    file: BinaryIO, at: int, layout: str, *, pad: int, counted: int = 0
) -> Iterator[tuple[bytes, int]]:
    """Name and length of each chunk of a file, which is at its body then.

    Args:
        file: The file.
        at: Where the first begins.
        layout: Of a chunk's head, as `struct` writes it.
        pad: Chunks begin at multiples of so many bytes.
        counted: Bytes of the head that the length counts, too.
    """
    head = struct.Struct(layout)
    for _ in range(_CHUNKS):
        file.seek(at)
        data = file.read(head.size)
        if len(data) < head.size:
            return
        name, length = head.unpack(data)
        yield name, length
        if length < counted:
            return
        at += head.size + length - counted + -length % pad


def _wav(file: BinaryIO, size: int, order: str) -> Header | None:
    large = 0  # RF64 states the length apart, in 64 bits
    form, form_at = b"", 0
    for name, length in _chunks(file, 12, order + "4sI", pad=2):
        if name == b"data":
            break
        if name == b"ds64" and length >= 16:
            body = file.read(16)
            if len(body) == 16:
                (large,) = struct.unpack("<Q", body[8:])
        elif name == b"fmt ":
            form_at = file.tell()
            form = file.read(min(length, 64))
    else:
        return None
    if len(form) < 16:
        return None
    kind, channels, rate, _, frame, bits = struct.unpack(order + "HHIIHH", form[:16])
    begin = file.tell()
    promised = large if length == 0xFFFFFFFF and large else length
    claimed, present, true = _extent(file, size, begin, promised, order)
    found = Header(rate, channels, begin, claimed, present, frame)
    held = 8 * frame // channels if channels and frame % channels == 0 else bits
    if kind in _PLAIN and (bits + 7) // 8 * 8 < held <= 32 and (true or found.missing_share):
        # libsndfile would read 24 bits that lie in 32 as three bytes each.
        file.seek(0)
        old = bytearray(file.read(begin))
        old[form_at + 14 : form_at + 16] = struct.pack(order + "H", held)
        return replace(found, head=bytes(old), remark=f"{bits} bits a sample, each in {held}")
    if true or found.missing_share:
        return found
    file.seek(0)
    return replace(found, head=_wav_head(file.read(begin), form, size, present, order))


def _wav_head(old: bytes, form: bytes, size: int, present: int, order: str) -> bytes:
    """A header with the length that is there."""
    if present + 1024 < 1 << 32 and old[:4] != b"RF64":
        length = struct.pack(order + "I", present)
        riff = struct.pack(order + "I", min(size - 8, 0xFFFFFFFF))
        return old[:4] + riff + old[8:-4] + length
    if order == ">":
        return b""  # RIFX knows no 64 bits, and nobody writes it so long
    body = b"fmt " + struct.pack("<I", len(form)) + form
    head = 12 + 8 + 28 + len(body) + 8
    large = struct.pack("<QQQI", head + present - 8, present, 0, 0)
    start = b"RF64\xff\xff\xff\xffWAVEds64" + struct.pack("<I", 28)
    return start + large + body + b"data\xff\xff\xff\xff"


def _extent(
    file: BinaryIO, size: int, begin: int, promised: int, order: str
) -> tuple[int | None, int, bool]:
    """What a chunk claims, how much sound is there, and whether the claim may be believed."""
    there = max(0, size - begin)
    if promised > there:
        if _placeholder(promised):
            return None, there, False
        return promised, there, True  # cut short: what is missing is told of
    if _followed(file, size, begin + promised + promised % 2, order):
        return promised, promised, True
    rest = there - promised
    if promised and (rest <= min(_TAIL, _TAIL_SHARE * promised) or _blank(file, size, rest)):
        return promised, promised, True
    return (promised or None), there, False


def _followed(file: BinaryIO, size: int, at: int, order: str) -> bool:
    """Whether nothing but chunks (or a tag) follows, up to the file's end."""
    if at >= size:
        return at - size <= 1
    for _ in range(_CHUNKS):
        file.seek(at)
        head = file.read(8)
        if len(head) < 8 or head[:3] in {b"ID3", b"TAG"}:
            return True
        (length,) = struct.unpack(order + "I", head[4:])
        if not all(32 <= byte < 127 for byte in head[:4]) or at + 8 + length > size:
            return False
        at += 8 + length + length % 2
    return False


def _blank(file: BinaryIO, size: int, rest: int) -> bool:
    """Whether the file's last bytes are zeros, by a few looks: space kept in reserve."""
    for at in (size - rest, size - rest // 2, size - min(rest, 4096)):
        file.seek(at)
        if any(file.read(4096)):
            return False
    return True


def _aiff(file: BinaryIO, size: int) -> Header | None:
    form, at_frames = b"", 0
    for name, length in _chunks(file, 12, ">4sI", pad=2):
        if name == b"COMM":
            at_frames = file.tell() + 2
            form = file.read(min(length, 32))
        if name == b"SSND":
            break
    else:
        return None
    if len(form) < 18:
        return None
    channels, _, bits, exponent, mantissa = struct.unpack(">hIhHQ", form[:18])
    try:
        rate = math.ldexp(mantissa, (exponent & 0x7FFF) - 16383 - 63)
    except OverflowError:
        rate = math.inf
    body = file.read(8)
    (offset,) = struct.unpack(">I", body[:4])
    begin = file.tell() + offset
    plain = form[18:22] in {b"", b"NONE", b"sowt", b"twos", b"fl32", b"FL32", b"fl64", b"FL64"}
    frame = max(0, channels) * ((bits + 7) // 8) if plain else 0
    promised = max(0, length - 8 - offset) if length else 0
    claimed, present, true = _extent(file, size, begin, promised, ">")
    found = Header(rate, channels, begin, claimed, present, frame)
    if true or found.missing_share or not frame or present >= 1 << 32 or begin > 1 << 20:
        return found
    file.seek(0)
    old = bytearray(file.read(begin))
    old[4:8] = struct.pack(">I", min(size - 8, 0xFFFFFFFF))
    old[at_frames : at_frames + 4] = struct.pack(">I", present // frame)
    place = begin - offset - 12
    old[place : place + 4] = struct.pack(">I", min(present + 8 + offset, 0xFFFFFFFF))
    return replace(found, head=bytes(old))


_AU_BYTES = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4, 6: 4, 7: 8, 27: 1}


def _au(head: bytes, size: int, order: str) -> Header:
    begin, length, coding, rate, channels = struct.unpack(order + "IIIII", head[4:24])
    there = max(0, size - begin)
    frame = _AU_BYTES.get(coding, 0) * channels
    found = Header(rate, channels, begin, length, there, frame)
    if length == 0xFFFFFFFF:  # "unknown", which decoders know of
        return Header(rate, channels, begin, None, there, frame)
    if there and (length < there or _placeholder(length)):
        # Nothing may follow the sound here: all that is there is sound.
        claim = None if _placeholder(length) else length
        if begin <= 1 << 16:
            head = head[:8] + b"\xff\xff\xff\xff" + head[12:24] + bytes(max(0, begin - 24))
            return Header(rate, channels, begin, claim, there, frame, head)
    return found


def _caf(file: BinaryIO, size: int) -> Header | None:
    rate, channels, frame = None, None, 0
    for name, length in _chunks(file, 8, ">4sq", pad=1):
        if name == b"desc":
            rate, _, _, frame, _, channels, _ = struct.unpack(">d4sIIIII", file.read(32))
        elif name == b"data":
            sound = length
            break
    else:
        return None
    begin = file.tell() + 4  # an edit count stands before the sound
    there = max(0, size - begin)
    if sound == -1:
        return Header(rate, channels, begin, None, there, frame)
    promised = max(0, sound - 4)
    if promised and (promised >= there or not _placeholder(promised)):
        return Header(rate, channels, begin, promised, min(there, promised), frame)
    file.seek(0)
    old = file.read(begin) if begin <= 1 << 20 else b""
    head = old[:-12] + struct.pack(">q", there + 4) + old[-4:] if old else b""
    return Header(rate, channels, begin, None, there, frame, head)


def _w64(file: BinaryIO, size: int) -> Header | None:
    form = b""
    for name, length in _chunks(file, 40, "<16sQ", pad=8, counted=24):
        if name == b"data" + _W64_TAIL:
            sound = length
            break
        if name == b"fmt " + _W64_TAIL:
            form = file.read(16)
    else:
        return None
    if len(form) < 16:
        return None
    _, channels, rate, _, frame, _ = struct.unpack("<HHIIHH", form)
    begin, promised = file.tell(), max(0, sound - 24)
    there = max(0, size - begin)
    if promised and not (promised > there and _placeholder(promised)):
        return Header(rate, channels, begin, promised, min(promised, there), frame)
    file.seek(0)
    old = file.read(begin) if begin <= 1 << 20 else b""
    head = old[:16] + struct.pack("<Q", size) + old[24:-8] + struct.pack("<Q", there + 24)
    return Header(rate, channels, begin, None, there, frame, head if old else b"")


def _flac(head: bytes) -> Header | None:
    if head[4] & 0x7F or len(head) < 26:  # the first block is always the stream's own
        return None
    (packed,) = struct.unpack(">Q", head[18:26])
    return Header(packed >> 44, (packed >> 41 & 7) + 1)


def _ogg(head: bytes) -> Header | None:
    if (at := head.find(b"\x01vorbis")) >= 0:
        channels, rate = struct.unpack("<BI", head[at + 11 : at + 16])
        return Header(rate, channels)
    if (at := head.find(b"OpusHead")) >= 0:
        return Header(None, head[at + 9])
    if (at := head.find(b"\x7fFLAC")) >= 0:
        return _flac(head[at + 9 :])
    return None
