"""Healthy recordings cut into the windows that training and the memory bank are made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from rich.progress import Progress

from agent.bundle.manifest import Row
from agent.capture.files import audio_info, beginning, stream_audio
from agent.core.cores import on_cores
from agent.core.errors import AudioError
from agent.core.progress import stage
from agent.core.records import Samples, Validity
from agent.recordings.held import HeldWindows
from agent.recordings.model import Machine, Recording
from agent.score.sessions import session_names
from agent.window.clip import stream_windows
from agent.window.validity import assess

# With fewer recordings than this, a long one is split into several groups, so that leave-one-out
# has something to compare with.
_FEW_RECORDINGS = 4
# Windows of so much sound, overlap counted, are held until their turn comes.
_SHORT_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows with their origin.

    Attributes:
        waveforms: float32, shape `(n, window_samples)`; of hours of sound it is mapped from a file
            (`agent.recordings.held`).
        rows: Origin of each.
        invalid: Windows left out, by reason.
    """

    waveforms: npt.NDArray[np.float32]
    rows: tuple[Row, ...]
    invalid: dict[str, int]

    @property
    def groups(self) -> list[str]:
        """Recording of each window."""
        return [row.group for row in self.rows]


@dataclass(frozen=True, slots=True)
class Cutting:
    """How recordings are cut into windows.

    Attributes:
        rate: Rate of the windows, Hz.
        window_samples: Their length, samples.
        hop_samples: Their step, samples.
        clip_seconds: Only so much of each recording, from its beginning; None for all of it.
        channel: Channel of a multi-channel file; None averages.
    """

    rate: int
    window_samples: int
    hop_samples: int
    clip_seconds: float | None = None
    channel: int | None = None

    def windows(
        self, machine: Machine, roles: tuple[str, ...], progress: Progress | None = None
    ) -> WindowSet:
        """Windows of a machine's recordings in these roles; see `healthy_windows`.

        Raises:
            AudioError: No window could be judged.
        """
        return healthy_windows(
            machine,
            rate=self.rate,
            window_samples=self.window_samples,
            hop_samples=self.hop_samples,
            roles=roles,
            clip_seconds=self.clip_seconds,
            channel=self.channel,
            progress=progress,
        )


def healthy_windows(
    machine: Machine,
    *,
    rate: int,
    window_samples: int,
    hop_samples: int,
    roles: tuple[str, ...] = ("normal",),
    clip_seconds: float | None = None,
    channel: int | None = None,
    progress: Progress | None = None,
) -> WindowSet:
    """Cut a machine's recordings.

    A short recording is one group of leave-one-out. When there are few recordings, long ones are
    split into blocks, and a window's length between two blocks is left out of the bank, so that
    no two groups share a sample.

    Args:
        machine: Its recordings, inspected.
        rate: Rate of the windows, Hz.
        window_samples: Their length, samples.
        hop_samples: Their step, samples.
        roles: Which recordings.
        clip_seconds: Only so much of each, from its beginning; None for all of it.
        channel: Channel of a multi-channel file; None averages.
        progress: Where to show progress.

    Raises:
        AudioError: No window could be judged.
    """
    recordings = machine.of(*roles)
    sessions = session_names([source_name(machine.root, recording) for recording in recordings])
    advance = stage(progress, "reading recordings", len(recordings))
    held = HeldWindows(window_samples)
    rows: list[Row] = []
    invalid: dict[str, int] = {}
    cut = _Cut(rate, window_samples, hop_samples, clip_seconds, channel)
    few = len(recordings) < _FEW_RECORDINGS
    # A short one is cut whole by a thread; of a long one a few windows at a time are held here.
    ahead = on_cores(cut.short, recordings)
    for recording, session, whole in zip(recordings, sessions, ahead, strict=True):
        # Decoded twice rather than held: where the blocks lie, its whole length says.
        blocks = _blocks(cut.length(recording.path) if few else 0, window_samples)
        for start, window, validity, reason in (
            cut.judged(recording.path) if whole is None else whole
        ):
            if validity is not Validity.VALID:
                invalid[reason or validity.value] = invalid.get(reason or validity.value, 0) + 1
                continue
            block = _block_of(start, start + window_samples, blocks)
            if block is None:
                continue
            held.add(window)
            rows.append(_row(machine.root, recording, session, start / rate, block, len(blocks)))
        advance()
    if not rows:
        raise AudioError(
            "no window of the healthy recordings can be judged",
            where=machine.root,
            remedy=f"Record again; what was wrong: {invalid or 'no recordings'}.",
        )
    return WindowSet(held.matrix(), tuple(rows), invalid)


class _Judged(NamedTuple):
    """A window of a recording: where it starts, its sound, and whether it may be judged."""

    start: int
    window: Samples
    validity: Validity
    reason: str


@dataclass(frozen=True, slots=True)
class _Cut:
    """Cuts recordings into windows, and judges them."""

    rate: int
    window_samples: int
    hop_samples: int
    clip_seconds: float | None
    channel: int | None

    def heard(self, path: Path) -> Iterator[Samples]:
        """A recording's sound, as much of it as is used."""
        most = None if self.clip_seconds is None else round(self.clip_seconds * self.rate)
        return beginning(stream_audio(path, rate=self.rate, channel=self.channel), most)

    def length(self, path: Path) -> int:
        """Samples of it, which only decoding tells for sure."""
        return sum(map(len, self.heard(path)))

    def judged(self, path: Path) -> Iterator[_Judged]:
        """Its windows, one by one; a window may share memory with the next."""
        for start, window in stream_windows(
            self.heard(path), window_samples=self.window_samples, hop_samples=self.hop_samples
        ):
            yield _Judged(start, window, *assess(window, self.rate, min_seconds=0.0))

    def short(self, recording: Recording) -> list[_Judged] | None:
        """All of its windows; None of one that is long."""
        overlap = max(1.0, self.window_samples / self.hop_samples)
        if audio_info(recording.path).seconds * overlap > _SHORT_SECONDS:
            return None
        return [one._replace(window=one.window.copy()) for one in self.judged(recording.path)]


def _blocks(samples: int, window: int) -> list[tuple[int, int]]:
    """Split a long recording into stretches of at least three windows each, at most six."""
    count = min(6, samples // (3 * window))
    if count < 2:
        return [(0, samples)]
    edges = np.linspace(0, samples, count + 1).astype(int)
    return [(int(a), int(b)) for a, b in pairwise(edges)]


def _block_of(start: int, stop: int, blocks: list[tuple[int, int]]) -> int | None:
    """The block that holds the window whole; None when it lies across two."""
    if len(blocks) == 1:
        return 0
    for i, (first, last) in enumerate(blocks):
        if first <= start and stop <= last:
            return i
    return None


def source_name(root: Path, recording: Recording) -> str:
    """A recording's name in a bundle: relative to the data folder."""
    try:
        return recording.path.relative_to(root).as_posix()
    except ValueError:
        return recording.path.name


def _row(
    root: Path, recording: Recording, session: str, start: float, block: int, blocks: int
) -> Row:
    source = source_name(root, recording)
    return Row(
        source=source,
        start=round(start, 6),
        group=source if blocks == 1 else f"{source}#{block}",
        domain=recording.domain,
        section=recording.section,
        attributes=recording.attributes,
        session=session,
    )
