"""Where a stream of bytes comes from: a child process, a named pipe or standard input."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from agent.config.capture import FfmpegSource, PipeSource
from agent.core.errors import AudioError
from agent.core.text import redacted

# A program that has been asked to end gets so long, seconds.
_END_SECONDS = 1.0
_STDERR_LINES, _STDERR_LENGTH = 3, 200
# Room for our own delays: some seconds of sound.
_PIPE_BYTES = 1 << 20
_F_SETPIPE_SZ = 1031  # Linux's number; not every Python names it


def command_line(config: FfmpegSource | PipeSource) -> list[str]:
    """The program and its arguments."""
    if isinstance(config, PipeSource):
        return list(config.command or ())
    options = config.input_options
    if options is None:
        # RTSP's default, UDP, loses packets.
        rtsp = config.input.lower().startswith("rtsp")
        options = ("-rtsp_transport", "tcp") if rtsp else ()
    return [
        config.executable, "-nostdin", "-hide_banner", "-nostats", "-loglevel", "warning",
        *options, "-i", config.input,
        # The first sound stream; sound that the stream lost becomes zeros, which are then seen.
        "-map", "0:a:0", "-af", "aresample=async=1",
        "-c:a", "pcm_f32be", "-f", "au", "-flush_packets", "1", "pipe:1",
    ]  # fmt: skip


def describe(config: FfmpegSource | PipeSource) -> str:
    """The source in a word, for logs and messages; passwords in it are left out."""
    if isinstance(config, FfmpegSource):
        return redacted(config.input)
    if config.command is not None:
        return Path(config.command[0]).name
    return "standard input" if config.path == "-" else str(config.path)


class Stream:
    """An open stream of bytes.

    Args:
        pipe: Its file descriptor.
        process: The child that writes it, if one does.
    """

    def __init__(self, pipe: int, process: subprocess.Popen[bytes] | None = None) -> None:
        self.pipe = pipe
        self._process = process
        self._said: deque[str] = deque(maxlen=_STDERR_LINES)
        self._listener: threading.Thread | None = None
        if process is not None:
            assert process.stderr is not None
            self._listener = threading.Thread(
                target=self._listen, args=(process.stderr,), name="program-stderr", daemon=True
            )
            self._listener.start()

    def _listen(self, stderr: IO[bytes]) -> None:
        # In bounded pieces: a program may write for ever without a line's end.
        while line := stderr.readline(_STDERR_LENGTH):
            if text := line.decode(errors="replace").strip():
                self._said.append(redacted(text))

    def ended(self) -> tuple[bool, str]:
        """After its last byte: whether that was a good end, and how it ended in words."""
        if self._process is None:
            return True, "whoever wrote to it has closed it"
        try:
            code = self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            return False, f"closed its output without ending{self.said()}"
        if self._listener is not None:
            self._listener.join(_END_SECONDS)
        if code < 0:
            return False, f"was ended by signal {-code}{self.said()}"
        return code == 0, f"ended with code {code}{self.said()}"

    def said(self) -> str:
        """The last lines of its standard error, to be put after a message."""
        return f"; it said: {' | '.join(self._said)}" if self._said else ""

    def close(self) -> None:
        """End the child and everything it started."""
        process, listener = self._process, self._listener
        if process is None or listener is None:
            return
        # The second for what ignores the first, and for children that outlived their parent.
        for number in (signal.SIGTERM, signal.SIGKILL):
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, number)
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_SECONDS)
        listener.join(_END_SECONDS)
        if process.stdout is not None:
            process.stdout.close()
        if process.stderr is not None and not listener.is_alive():
            process.stderr.close()


@contextmanager
def opened(config: FfmpegSource | PipeSource) -> Iterator[Stream]:
    """Start the program, or open the pipe; ended and closed at the end.

    Raises:
        AudioError: It cannot be.
    """
    path = config.path if isinstance(config, PipeSource) else None
    if path == "-":
        yield Stream(sys.stdin.fileno())
        return
    if path is not None:
        try:
            # Without waiting for somebody to write to it.
            pipe = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        except OSError as fault:
            raise AudioError(
                f"cannot be opened: {fault.strerror}",
                where=path,
                remedy="Make the named pipe (mkfifo), or check the source's `path`.",
            ) from fault
        try:
            yield Stream(pipe)
        finally:
            os.close(pipe)
        return
    try:
        # A session of its own: all that it starts can be ended with it.
        process = subprocess.Popen(  # noqa: S603 - the configuration's own list, without a shell
            command_line(config), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except OSError as fault:
        raise AudioError(
            f"cannot be started: {fault.strerror}",
            where=command_line(config)[0],
            remedy="Install it, or correct the source.",
        ) from fault
    assert process.stdout is not None
    stream = Stream(process.stdout.fileno(), process)
    try:
        with suppress(OSError):  # the system's own size will do
            fcntl.fcntl(process.stdout, _F_SETPIPE_SZ, _PIPE_BYTES)
        yield stream
    finally:
        stream.close()
