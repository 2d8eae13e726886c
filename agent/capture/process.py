"""Sound through a program (ffmpeg on a network stream, any command), a named pipe or stdin."""

from __future__ import annotations

import os
import select
import shutil
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from agent.capture import program
from agent.capture.clock import ArrivalClock
from agent.capture.convert import Converter
from agent.capture.pcm import PcmFormat, decode, read_au_header
from agent.capture.program import Stream
from agent.capture.supervise import Supervised
from agent.config.capture import FfmpegSource, PipeSource
from agent.core.errors import AudioError
from agent.core.records import AudioBlock

_POLL_SECONDS = 0.1
_READ_BYTES = 1 << 16
# What the network had in store comes at once when a stream is opened: it is gathered for so long,
# to be placed in time by its end, seconds...
_GATHER_SECONDS = 0.5
# ...but no more than this: then it is no store, the program is faster than time. Seconds of sound.
_GATHER_MOST = 30.0
# A pipe costs nothing to open: whoever writes to it should not wait long for us, seconds.
_PIPE_WAIT_SECONDS = 1.0


class _EndedError(AudioError):
    """The stream's last byte has come."""

    def __init__(self, how: str, *, good: bool) -> None:
        super().__init__(how)
        self.good = good


class ProcessSource(Supervised):
    """A program (or pipe) whose output is sound.

    Live, it is started anew for ever when it ends, fails or stalls, and the first block after that
    has `gap_before`. Otherwise its good end is the stream's, and a failure a fault.

    Args:
        config: What to run or read.
        rate: Rate of the blocks, Hz.
    """

    def __init__(self, config: FfmpegSource | PipeSource, rate: int) -> None:
        self._config = config
        self._rate = rate
        self._path = config.path if isinstance(config, PipeSource) else None
        most = config.reopen_max_seconds
        if self._path is not None:
            most = min(most, _PIPE_WAIT_SECONDS)
        super().__init__(program.describe(config), most)

    @property
    def live(self) -> bool:
        """Whether sound goes on whether or not anybody keeps up."""
        return self._config.live

    def start(self) -> None:
        """See that the program is there.

        Raises:
            AudioError: It is not, or the path can never be read.
        """
        if self._path is not None:
            if isinstance(self._path, Path) and self._path.is_dir():
                raise AudioError(
                    "is a folder, not a named pipe", where=self._path, remedy="Make one: mkfifo"
                )
            return
        executable = program.command_line(self._config)[0]
        if shutil.which(executable) is None:
            ffmpeg = isinstance(self._config, FfmpegSource)
            raise AudioError(
                "there is no such program",
                where=executable,
                remedy="Install it (apt install ffmpeg), or set the source's `executable`."
                if ffmpeg
                else "Install it, or give its full path in the source's `command`.",
            )

    def blocks(self) -> Iterator[AudioBlock]:
        """Sound as it comes, until stopped; or until it ends, when not live.

        Raises:
            AudioError: Not live, and it failed.
        """
        backoff = self._backoff
        while not self._stop.is_set():
            try:
                yield from backoff.joined(self._listen(), self._faults)
            except AudioError as fault:  # noqa: PERF203 - each opening may fail
                over = isinstance(fault, _EndedError) and fault.good
                if over and (self._path == "-" or not self.live):
                    return
                if not self.live:
                    raise
                backoff.failed(str(fault))
            else:
                return

    def _listen(self) -> Iterator[AudioBlock]:
        """One run of the program; returns when stopped."""
        with program.opened(self._config) as stream:
            chunks = self._chunks(stream)
            form, rest = self._format(chunks)
            convert = Converter(self._config.channel, self._rate, self._name)
            # Bursts are the way of networks; what a stream lost, its decoder fills with zeros.
            clock = ArrivalClock(form.rate, notice_loss=False)
            began, wall, given = time.monotonic(), time.time(), 0
            opened: float | None = None

            def placed(block: AudioBlock) -> AudioBlock:
                nonlocal given, opened
                if not self.live:
                    # Clocks as of a replay: the start, plus the position.
                    offset = given / self._rate
                    block = replace(block, monotonic=began + offset, wall=wall + offset)
                given += len(block.samples)
                opened = block.monotonic if opened is None else opened
                settling = block.monotonic - opened < self._config.warm_up_seconds
                return replace(block, settling=settling)

            try:
                for data in self._gathered(chunks, form):
                    rest += data
                    whole = len(rest) - len(rest) % form.frame_bytes
                    frames, rest = decode(rest[:whole], form), rest[whole:]
                    if len(frames):
                        monotonic, _ = clock.place(len(frames), time.monotonic())
                        block = convert(frames, form.rate, monotonic)
                        if len(block.samples):
                            yield placed(block)
            except _EndedError:
                if len((tail := convert.flush()).samples):
                    yield placed(tail)
                raise

    def _format(self, chunks: Iterator[bytes]) -> tuple[PcmFormat, bytes]:
        """How the samples are written, and those of them that have been read with the header."""
        config = self._config
        if isinstance(config, PipeSource):
            return PcmFormat(config.format, config.rate, config.channels), b""
        head = b""
        for data in chunks:
            head += data
            if (found := read_au_header(head)) is None:
                continue
            form, start = found
            if config.channel is not None and config.channel >= form.channels:
                raise AudioError(
                    f"there is no channel {config.channel}: it has {form.channels}",
                    where=self._name,
                    remedy="Change the source's `channel`, which counts from 0.",
                )
            return form, head[start:]
        return PcmFormat("f32be", self._rate, 1), b""  # stopped: nothing follows

    def _gathered(self, chunks: Iterator[bytes], form: PcmFormat) -> Iterator[bytes]:
        """The chunks; live, what comes in the first moment as one."""
        if self.live:
            store, until = b"", 0.0
            most = _GATHER_MOST * form.rate * form.frame_bytes
            try:
                for data in chunks:
                    store += data
                    until = until or time.monotonic() + _GATHER_SECONDS
                    if len(store) > most or time.monotonic() >= until:
                        break
            except AudioError:
                yield store
                raise
            yield store
        yield from chunks

    def _chunks(self, stream: Stream) -> Iterator[bytes]:
        """Bytes as they come; returns when stopped.

        Raises:
            AudioError: They end, or none come.
        """
        heard, ever = time.monotonic(), False
        while not self._stop.is_set():
            ready, _, _ = select.select([stream.pipe], [], [], _POLL_SECONDS)
            data = os.read(stream.pipe, _READ_BYTES) if ready else None
            if data:
                ever = True
                yield data
                heard = time.monotonic()  # after the yield: a slow consumer is no stall
                continue
            if data == b"":
                if ever or not isinstance(self._path, Path):
                    good, how = stream.ended()
                    raise _EndedError(f"{self._name}: {how}", good=good)
                self._stop.wait(_POLL_SECONDS)  # nobody writes to the named pipe yet
            if time.monotonic() - heard > self._config.stall_seconds:
                raise AudioError(
                    f"no sound came for {self._config.stall_seconds:g} s{stream.said()}"
                )
