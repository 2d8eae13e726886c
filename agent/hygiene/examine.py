"""Recordings opened, judged and measured in one reading of each, by processes of their own.

What measures a recording is many short steps between which Python's lock is asked for: two threads
need longer than one. So where there is much to read, each core has a process that decodes, judges
and measures; a decoder that crashes ends that process alone (`agent.capture.guard`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from rich.progress import Progress

from agent.capture.files import audio_info, read_frames
from agent.capture.guard import Guard, answer_lines, check_decodes
from agent.core.cores import usable_cores
from agent.core.errors import AudioError
from agent.core.fourier import by_scipy, use_scipy
from agent.core.progress import stage
from agent.core.records import Matrix
from agent.hygiene.facts import FactsCache, file_key, from_json, to_json
from agent.hygiene.measure import Measured, measure_sound
from agent.recordings.inspect import judge_sound
from agent.recordings.model import Recording, Rejected

# Less than this is read here: a process takes as long to start, bytes.
_MUCH = 16_000_000
_MOST_PROCESSES = 4
# Decoded sound that is held between judging and measuring, samples; more is decoded again.
_HELD = 4_000_000
# Recordings whose facts are asked for and kept together.
_AT_ONCE = 64


@dataclass(frozen=True, slots=True)
class Examined:
    """What there is to say of a recording.

    Attributes:
        rejected: Why it cannot be used; None when it can.
        measured: What was measured of one that can; None where that was not asked for.
    """

    rejected: Rejected | None = None
    measured: Measured | None = None


class Examiner:
    """Judges recordings, as `inspect_recordings` does, and remembers what it measured of them.

    Args:
        cache: Where facts are kept between commands; None for nowhere.
        machine: Only recordings of this machine are measured; None for all.
    """

    def __init__(self, cache: FactsCache | None = None, machine: str | None = None) -> None:
        self._cache = cache
        self._machine = machine
        self._known: dict[tuple[Path, int | None], Measured] = {}

    def measured(self, channel: int | None) -> Mapping[Path, Measured]:
        """What was measured of each file in use.

        Args:
            channel: Channel that was asked for.
        """
        return {path: one for (path, asked), one in self._known.items() if asked == channel}

    def inspect(
        self,
        recordings: Sequence[Recording],
        *,
        channel: int | None = None,
        progress: Progress | None = None,
    ) -> tuple[list[Recording], list[Rejected]]:
        """Judge and measure recordings; gives what `inspect_recordings` gives."""
        advance = stage(progress, "reading and measuring recordings", len(recordings))
        used: list[Recording] = []
        rejected: list[Rejected] = []
        with _readers(recordings) as read:
            for start in range(0, len(recordings), _AT_ONCE):
                some = recordings[start : start + _AT_ONCE]
                for recording, found in zip(
                    some, self._examined(some, channel, read, advance), strict=True
                ):
                    if found.rejected is not None:
                        rejected.append(found.rejected)
                        continue
                    used.append(recording)
                    if found.measured is not None:
                        self._known[recording.path, channel] = found.measured
        return used, rejected

    def _examined(
        self,
        recordings: Sequence[Recording],
        channel: int | None,
        read: _Read,
        advance: Callable[..., None],
    ) -> list[Examined]:
        """Each of a few recordings, known or read now."""
        wanted = [self._machine in {None, one.machine} for one in recordings]
        keys = self._keys(recordings, wanted, channel)
        found = self._kept(recordings, keys)
        advance(len(found))
        left = [place for place in range(len(recordings)) if place not in found]
        asked = [_Question(recordings[place].path, channel, wanted[place]) for place in left]
        new: list[tuple[bytes, Measured]] = []
        for place, one in zip(left, read(asked), strict=True):
            found[place] = one
            if one.measured is not None and place in keys:
                new.append((keys[place], one.measured))
            advance()
        if new and self._cache is not None:
            self._cache.keep([key for key, _ in new], [one for _, one in new])
        return [found[place] for place in range(len(recordings))]

    def _keys(
        self, recordings: Sequence[Recording], wanted: Sequence[bool], channel: int | None
    ) -> dict[int, bytes]:
        """What the facts of those that are to be measured are found by, by their place."""
        keys: dict[int, bytes] = {}
        if self._cache is not None:
            for place, one in enumerate(recordings):
                if wanted[place]:
                    with contextlib.suppress(OSError):  # reading it will tell which
                        keys[place] = file_key(one.path, channel)
        return keys

    def _kept(
        self, recordings: Sequence[Recording], keys: Mapping[int, bytes]
    ) -> dict[int, Examined]:
        """Those that are known already, by their place."""
        if self._cache is None:
            return {}
        places = list(keys)
        paths = [recordings[place].path for place in places]
        known = self._cache.find(paths, [keys[place] for place in places])
        return {places[number]: Examined(measured=one) for number, one in known.items()}


@dataclass(frozen=True, slots=True)
class _Question:
    """A recording to be read.

    Attributes:
        path: The file.
        channel: Channel in use; None for the average.
        measuring: Whether it is to be measured if it is fit.
    """

    path: Path
    channel: int | None
    measuring: bool


_Read = Callable[[Sequence[_Question]], Iterator[Examined]]


@contextlib.contextmanager
def _readers(recordings: Sequence[Recording]) -> Iterator[_Read]:
    """What reads recordings: processes where there are many, else this one."""
    workers = min(usable_cores(), _MOST_PROCESSES)
    if workers < 2 or sum(_size(one.path) for one in recordings) < _MUCH:
        yield lambda asked: map(_here, asked)
        return
    guards = [Guard("agent.hygiene.examine", "serve") for _ in range(workers)]
    idle: SimpleQueue[Guard] = SimpleQueue()
    for guard in guards:
        idle.put(guard)

    def ask(question: _Question) -> Examined:
        guard = idle.get()
        try:
            return _elsewhere(guard, question)
        finally:
            idle.put(guard)

    pool = ThreadPoolExecutor(workers)
    try:
        yield lambda asked: pool.map(ask, asked)
    finally:
        pool.shutdown(cancel_futures=True)
        for guard in guards:
            guard.close()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _here(question: _Question) -> Examined:
    try:
        check_decodes(question.path, question.channel)
        return _examine(question)
    except AudioError as fault:
        return Examined(Rejected(question.path, fault.problem, fault.remedy))


def _elsewhere(guard: Guard, question: _Question) -> Examined:
    path = question.path
    try:
        answer = guard.ask(
            path,
            channel=question.channel,
            measuring=question.measuring,
            scipy=by_scipy(),
        )
    except AudioError as fault:
        return Examined(Rejected(path, fault.problem, fault.remedy))
    if answer["rejected"]:
        return Examined(Rejected(path, *answer["rejected"]))
    told = answer["measured"]
    return Examined(measured=None if told is None else from_json(path, told))


def _examine(question: _Question) -> Examined:
    """Decode a recording to its end, then judge and measure what was decoded.

    Raises:
        AudioError: It cannot be decoded.
    """
    path, channel = question.path, question.channel
    info = audio_info(path)
    held: list[Matrix] = []
    count = 0
    for block in read_frames(path, channel=channel):
        count += block.size
        if count > _HELD:
            held.clear()
        else:
            held.append(block)

    def blocks() -> Iterator[Matrix]:
        return iter(held) if held else read_frames(path, channel=channel)

    rejected = judge_sound(path, info.rate, blocks())
    if rejected is not None or not question.measuring:
        return Examined(rejected)
    return Examined(measured=measure_sound(path, info, blocks()))


def serve() -> None:
    """A process that examines recordings, told by lines of JSON (`agent.capture.guard`)."""
    answer_lines(_answer)


def _answer(asked: dict[str, Any]) -> dict[str, Any]:
    if asked["scipy"] and not by_scipy():  # measures as the process that asks would
        use_scipy()
    found = _examine(_Question(Path(asked["path"]), asked["channel"], asked["measuring"]))
    rejected, measured = found.rejected, found.measured
    return {
        "rejected": None if rejected is None else [rejected.reason, rejected.remedy],
        "measured": None if measured is None else to_json(measured),
    }
