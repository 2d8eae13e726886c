"""Decodes a file in a process of its own first, so that a crash in a decoder is a message.

Decoders of compressed sound are large and are fed what lies in a folder. A file that kills one is
named and left out; without this it would take a training, or the scores of a hundred other files,
with it. Plain samples need no decoder, and their headers have been checked: they are read at once.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import select
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

from agent.capture.files import audio_info, read_frames
from agent.capture.header import AGAIN
from agent.core.child import running
from agent.core.errors import AudioError

_PLAIN = (" PCM_16", " PCM_24", " PCM_32", " PCM_U8", " PCM_S8", " FLOAT", " DOUBLE")
_SUFFIXES = (".wav", ".wave", ".aif", ".aiff", ".w64", ".rf64", ".bwf", ".au", ".snd")
# A decoder that works on a file for longer is caught in it: seconds, and more a megabyte.
_PATIENCE, _PATIENCE_PER_MB = 60.0, 20.0
# What one may ask of memory, bytes.
_MEMORY = 4 << 30


class Guard:
    """A child process that opens files, started when first needed and again after a crash.

    Args:
        module: Where what it runs is.
        function: Its name: answers lines of JSON until its input ends (`answer_lines`).
    """

    def __init__(self, module: str = "agent.capture.guard", function: str = "serve") -> None:
        self._runs = running(module, function)
        self._child: subprocess.Popen[str] | None = None
        self._turn = threading.Lock()

    def ask(self, path: Path, **question: object) -> dict[str, Any]:
        """What the child says of a file.

        Args:
            path: The file.
            question: What else it is told.

        Raises:
            AudioError: The file cannot be decoded, or the decoder crashed over it.
        """
        with self._turn:
            child = self._started()
            try:
                _write(child.stdin, {"path": str(path.absolute()), **question})
                line = self._answer(child, path)
            except OSError:
                line = ""
            if not line:
                code = child.wait()
                self._child = None
                raise AudioError(
                    f"crashes its decoder (signal {-code})" if code < 0 else "ends its decoder",
                    where=path,
                    remedy=AGAIN,
                )
        answer: dict[str, Any] = json.loads(line)
        if answer["problem"]:
            raise AudioError(answer["problem"], where=path, remedy=answer["remedy"])
        return answer

    def _answer(self, child: subprocess.Popen[str], path: Path) -> str:
        """The child's line; empty when it ended without one.

        Raises:
            AudioError: It takes too long.
        """
        assert child.stdout is not None
        patience = _PATIENCE + _PATIENCE_PER_MB * path.stat().st_size / 1e6
        ready, _, _ = select.select([child.stdout], [], [], patience)
        if ready:
            return child.stdout.readline()
        child.kill()
        child.communicate()
        self._child = None
        raise AudioError(
            f"keeps its decoder busy for more than {patience:.0f} s", where=path, remedy=AGAIN
        )

    def close(self) -> None:
        """End the child."""
        with self._turn:
            if self._child is not None:
                self._child.kill()
                self._child.communicate()
                self._child = None

    def _started(self) -> subprocess.Popen[str]:
        if self._child is None or self._child.poll() is not None:
            self._child = subprocess.Popen(  # noqa: S603 - this Python, these words
                self._runs,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
                encoding="ascii",
            )
        return self._child


_GUARD = Guard()
atexit.register(_GUARD.close)


def check_decodes(path: Path, channel: int | None = None) -> None:
    """Raise, and do not crash, over a file that cannot be decoded.

    Raises:
        AudioError: As `Guard.ask`, and for a file whose header can't be read.
    """
    if path.suffix.lower() in _SUFFIXES and audio_info(path).codec.endswith(_PLAIN):
        return
    if not path.is_file():
        audio_info(path)  # says what it is instead
    _GUARD.ask(path, channel=channel)


def serve() -> None:
    """The child: decodes each file to its end."""

    def decoded(asked: dict[str, Any]) -> dict[str, Any]:
        for _ in read_frames(Path(asked["path"]), channel=asked["channel"]):
            pass
        return {}

    answer_lines(decoded)


def answer_lines(work: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
    """Answer questions, one line of JSON in, one out, until the input ends.

    Args:
        work: Makes of a question what there is to tell; an `AudioError` of it is told too.
    """
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource  # noqa: PLC0415 - not everywhere

        resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY, _MEMORY))
    for line in sys.stdin:
        answer: dict[str, Any] = {"problem": "", "remedy": ""}
        try:
            answer |= work(json.loads(line))
        except AudioError as fault:
            answer = {"problem": fault.problem, "remedy": fault.remedy}
        except MemoryError:
            answer = {"problem": "asks its decoder for gigabytes of memory", "remedy": AGAIN}
        _write(sys.stdout, answer)


def _write(stream: IO[str] | None, what: Mapping[str, object]) -> None:
    assert stream is not None
    stream.write(json.dumps(what) + "\n")
    stream.flush()
