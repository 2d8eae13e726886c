"""Recordings that libsndfile does not read, as phones and video recorders write them, by ffmpeg."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from agent.capture.header import AGAIN
from agent.capture.pcm import PcmFormat, decode, read_au_header
from agent.core.errors import AudioError
from agent.core.records import Matrix

PHONE_SUFFIXES = frozenset(
    {".m4a", ".m4b", ".aac", ".mp4", ".mov", ".3gp", ".3g2", ".amr", ".awb", ".wma", ".webm",
     ".mka", ".mkv", ".mpga", ".mp2", ".ac3", ".ape", ".wv", ".tta"}
)  # fmt: skip
_FFMPEG = "ffmpeg"
_READ_BYTES = 1 << 20
_HEAD_BYTES = 24
_CODEC = re.compile(rb"Audio: ([A-Za-z0-9_]+)")
# Where a header gives no length, ffmpeg says so and guesses.
_ESTIMATED = b"Estimating duration from bitrate"
# A codec gives this much less than claimed: frames that only begin or end it, as a share and s.
_SHORTFALL, _DELAY_SECONDS = 0.01, 0.1
_LENGTH = re.compile(rb"Duration: (\d+):(\d+):(\d+(?:\.\d+)?)")


def converting(path: Path) -> str:
    """The command that makes a WAV file of a recording."""
    return f"ffmpeg -i {shlex.quote(path.name)} {shlex.quote(path.stem + '.wav')}"


def refuse_without_ffmpeg(path: Path) -> None:
    """See that there is an ffmpeg.

    Raises:
        AudioError: There is none.
    """
    if shutil.which(_FFMPEG) is None:
        raise AudioError(
            f"{path.suffix.lower() or 'this format'} is read by ffmpeg, which is not installed",
            where=path,
            remedy=f"Install it (apt install ffmpeg), or convert it elsewhere: {converting(path)}",
        )


def phone_info(path: Path) -> tuple[float, int, int, str]:
    """Length in seconds, rate, channels and codec.

    Raises:
        AudioError: It is missing, no recording, or there is no ffmpeg.
    """
    refuse_without_ffmpeg(path)
    asked = _ask(path)
    with _running(path) as (stream, _):
        form, _ = _form(stream, path)
    codec = _CODEC.search(asked)
    seconds = _claimed(asked)
    if seconds is None:
        seconds = sum(len(part) for part in phone_frames(path)) / form.rate
    return seconds, form.rate, form.channels, codec[1].decode() if codec else ""


def _ask(path: Path) -> bytes:
    """What ffmpeg says of a file's header."""
    return subprocess.run(  # noqa: S603 - fixed arguments and a file's name
        [_FFMPEG, "-hide_banner", "-nostdin", "-i", f"file:{path}"],
        capture_output=True,
        check=False,
    ).stderr


def _claimed(asked: bytes) -> float | None:
    """The length that a header claims, seconds; None where it claims none."""
    length = _LENGTH.search(asked)
    if length is None:
        return None
    hours, minutes, rest = (float(part) for part in length.groups())
    return 3600 * hours + 60 * minutes + rest


def phone_frames(path: Path) -> Iterator[Matrix]:
    """Decode piece by piece, float32 `(n, channels)`.

    Raises:
        AudioError: It is missing, no recording, damaged, cut short, or there is no ffmpeg.
    """
    refuse_without_ffmpeg(path)
    count = 0
    with _running(path) as (stream, ended):
        form, rest = _form(stream, path)
        while data := stream.read(_READ_BYTES):
            rest += data
            whole = len(rest) - len(rest) % form.frame_bytes
            frames, rest = decode(rest[:whole], form), rest[whole:]
            if len(frames):
                count += len(frames)
                yield np.ascontiguousarray(frames, dtype=np.float32)
        ended()
    if not count:
        raise _nothing(path)
    asked = _ask(path)
    claimed = None if _ESTIMATED in asked else _claimed(asked)
    if claimed is not None and count / form.rate < claimed * (1 - _SHORTFALL) - _DELAY_SECONDS:
        raise AudioError(
            f"is cut short: {count / form.rate:.4g} s of the {claimed:.4g} s its header promises",
            where=path,
            remedy=AGAIN,
        )


def _nothing(path: Path) -> AudioError:
    return AudioError("holds no sound that ffmpeg can decode", where=path, remedy=AGAIN)


def _form(stream: IO[bytes], path: Path) -> tuple[PcmFormat, bytes]:
    head = b""
    while (found := read_au_header(head)) is None:
        data = stream.read(_HEAD_BYTES)
        if not data:
            raise _nothing(path)
        head += data
    form, start = found
    return form, head[start:]


@contextmanager
def _running(path: Path) -> Iterator[tuple[IO[bytes], Callable[[], None]]]:
    """An ffmpeg that decodes to a pipe, and what raises its complaint once it has ended."""
    with tempfile.TemporaryFile() as said:
        program = subprocess.Popen(  # noqa: S603 - fixed arguments and a file's name
            [
                _FFMPEG, "-v", "error", "-nostdin", "-protocol_whitelist", "file,pipe",
                "-i", f"file:{path}", "-map", "0:a:0", "-f", "au", "-c:a", "pcm_f32be", "pipe:1",
            ],
            stdout=subprocess.PIPE,
            stderr=said,
        )  # fmt: skip
        assert program.stdout is not None

        def ended() -> None:
            if program.wait() != 0:
                said.seek(0)
                lines = said.read().decode(errors="replace").strip().splitlines()
                why = [line for line in lines if "Last message repeated" not in line]
                raise AudioError(
                    f"cannot be decoded: {why[-1] if why else 'ffmpeg gives no reason'}",
                    where=path,
                    remedy=AGAIN,
                )

        try:
            yield program.stdout, ended
        finally:
            program.kill()
            program.stdout.close()
            program.wait()
