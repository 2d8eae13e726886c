"""Listens in on one machine's pipeline and gathers the evidence of its alarms."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from soundfile import SoundFileError

from agent.bundle.manifest import Row
from agent.core.clock import utc
from agent.core.errors import AuscultError
from agent.core.level_change import Points
from agent.core.records import AudioBlock, Decision, Level, Window
from agent.core.scale import Scale
from agent.evidence.disk import has_room, make_room
from agent.evidence.record import (
    WINDOW_PREFIX,
    EvidenceRecord,
    JudgedWindow,
    LostSound,
    UnusualCells,
    alarm_folder,
)
from agent.evidence.ring import AudioRing, Clip
from agent.evidence.write import EvidenceWriter, Job, Redact, write_evidence
from agent.explain.unusual import UnusualMap
from agent.machine.account import Account

log = logging.getLogger(__name__)

# Scoring may be this far behind capture, seconds, before the oldest sound is lost to evidence.
LAG_SECONDS = 20.0
_NOTES_KEPT = 2048


@dataclass(frozen=True, slots=True)
class _Note:
    """What is remembered of a judged window: all but its samples."""

    index: int
    monotonic: float
    end: float  # monotonic
    wall: float
    end_wall: float
    threshold: float
    joined: bool
    scale: Scale | None
    offset_db: float
    bands_db: Points
    judged: JudgedWindow  # wherever it is in the sound


@dataclass(slots=True)
class _Open:
    """An alarm whose evidence is still gathered."""

    alarm_id: str
    folder: Path
    raised: _Note  # by which
    until: float  # monotonic
    cleared_wall: float | None = field(default=None)
    account: Account | None = field(default=None)
    explained: float = field(default=0.0)  # monotonic, start of the window that was explained


class EvidenceRecorder:
    """Evidence of one machine's alarms.

    The first writing is at the alarm itself, so that it is on the disk even if power fails in the
    next minute; the second, when enough of the alarm was heard or it was cleared, replaces it.

    Args:
        device: This device's name.
        machine: The machine's.
        writer: Does the writing, started.
        redact: Takes speech out of what is written.
    """

    def __init__(
        self,
        device: str,
        machine: str,
        writer: EvidenceWriter,
        redact: Redact = lambda clip, record: (clip, record),
    ) -> None:
        self._redact = redact
        self._device = device
        self._machine = machine
        self._writer = writer
        config = writer.config
        self._ring = AudioRing(config.before_seconds + config.during_seconds + LAG_SECONDS)
        self._notes: deque[_Note] = deque(maxlen=_NOTES_KEPT)
        self._open: _Open | None = None
        self._last_id = ""
        self._reference = ""

    def hear(self, block: AudioBlock) -> None:
        """Take a captured block."""
        self._ring.hear(block)

    def latest(self, seconds: float) -> Clip | None:
        """The latest sound, as far as it is held; None when there is none."""
        return self._ring.latest(seconds)

    def judged(self, decision: Decision, rows: Sequence[Row]) -> str:
        """Take a decision; gives where the present alarm's evidence is kept, or nothing."""
        window = decision.score.window
        self._notes.append(_note(decision, rows))
        oldest = window.end_monotonic - self._writer.config.before_seconds - LAG_SECONDS
        while self._notes and self._notes[0].monotonic < oldest - window.seconds:
            if self._open is not None:
                break
            self._notes.popleft()
        alarmed = decision.level is Level.ALARM and bool(decision.alarm_id)
        if alarmed and decision.alarm_id != self._last_id:
            self._finish(window)
            self._begin(decision)
        elif self._open is not None:
            if decision.level is Level.NORMAL:
                self._open.cleared_wall = window.end_wall
                self._finish(window)
            elif window.end_monotonic >= self._open.until:
                self._finish(window)
        # The message that clears an alarm bears its id, and so its evidence.
        return self._reference if decision.alarm_id == self._last_id else ""

    def explained(self, decision: Decision, account: Account) -> None:
        """Take why the alarm was raised; comes right after the decision that raised it."""
        opened, window = self._open, decision.score.window
        if opened is None or opened.alarm_id != decision.alarm_id or opened.account is not None:
            return
        opened.account, opened.explained = account, window.monotonic
        self._write(opened, window.end_monotonic, complete=False)

    def keep_window(self, index: int) -> str:
        """Keep one recent window because a person spoke of it; waits for the disk.

        Args:
            index: Of the window, as its score message gave it.

        Returns:
            The id under which it is kept, as if it were an alarm's.

        Raises:
            AuscultError: It is not held any more, was invalid, or cannot be written.
        """
        note = next((one for one in list(self._notes) if one.index == index), None)
        clip = None if note is None else self._ring.cut(note.monotonic, note.end)
        if note is None or clip is None or not _judged(note, clip).whole:
            raise AuscultError(
                f"window {index} is not held any more",
                remedy="Answer within a minute, or answer its alarm.",
            )
        if note.judged.score is None:
            raise AuscultError(f"window {index} could not be judged: {note.judged.validity}")
        # A restart counts windows from 0 again: the time tells two of a number apart.
        name = f"{WINDOW_PREFIX}{index}-{int(note.wall)}"
        record = self._record(
            name,
            note,
            clip,
            clip.seconds,
            complete=True,
            asked=True,
            windows=(_judged(note, clip),),
        )
        folder = alarm_folder(self._writer.root, self._machine, name)
        make_room(self._writer.root, self._machine, self._writer.config.keep_windows)
        if not has_room(folder, self._writer.config.free_share):
            raise AuscultError("the disk is too full", where=self._writer.root)
        try:
            write_evidence(Job(folder, clip, record, redact=self._redact))
        except (OSError, SoundFileError) as fault:
            raise AuscultError(f"cannot be written: {fault}", where=folder) from fault
        return name

    def close(self) -> None:
        """Write what was heard of an alarm that still lasts; the pipeline has ended."""
        if self._open is not None:
            self._write(self._open, self._notes[-1].end)
            self._open = None

    def _begin(self, decision: Decision) -> None:
        self._last_id, self._reference = decision.alarm_id, ""
        note = self._notes[-1]
        try:
            folder = alarm_folder(self._writer.root, self._machine, decision.alarm_id)
        except AuscultError as fault:
            log.warning("%s: no evidence: %s", self._machine, fault)
            return
        reference = f"evidence/{self._machine}/{decision.alarm_id}"
        if folder.exists():
            # The alarm outlived a restart: what was kept when it was raised stays.
            self._reference = reference
            return
        until = note.end + self._writer.config.during_seconds
        opened = _Open(decision.alarm_id, folder, note, until)
        if self._write(opened, note.end, complete=False):
            self._open = opened
            self._reference = reference

    def _finish(self, window: Window) -> None:
        opened, self._open = self._open, None
        if opened is not None:
            self._write(opened, min(opened.until, window.end_monotonic))

    def _write(self, opened: _Open, end: float, *, complete: bool = True) -> bool:
        begin = opened.raised.end - self._writer.config.before_seconds
        clip = self._ring.cut(begin, end)
        if clip is None:
            log.warning("%s: no evidence: the sound is no longer held", self._machine)
            self._writer.skipped += 1
            return False
        record = self._record(
            opened.alarm_id,
            opened.raised,
            clip,
            clip.place(opened.raised.end),
            cleared=None if opened.cleared_wall is None else utc(opened.cleared_wall),
            complete=complete,
            lost=tuple(LostSound(at=gap.at, seconds=gap.seconds) for gap in clip.gaps),
            windows=tuple(
                _judged(note, clip)
                for note in self._notes
                if note.end > clip.monotonic and note.monotonic < end
            ),
        )
        account = opened.account
        if account is None:
            return self._writer.offer(Job(opened.folder, clip, record, redact=self._redact))
        unusual, framed = None, None
        if account.map is not None:
            place = clip.place(opened.explained)
            unusual = _cells(account.map, place, by_patches=account.by_patches)
            framed = (place, account.map) if account.by_patches else None
        record = record.model_copy(update={"explanation": account.explanation, "unusual": unusual})
        return self._writer.offer(
            Job(opened.folder, clip, record, account.spectrum, framed, self._redact)
        )

    def _record(
        self, name: str, note: _Note, clip: Clip, raised_at: float, **rest: Any
    ) -> EvidenceRecord:
        """What is written of a clip, kept because of one window of it."""
        return EvidenceRecord(
            alarm_id=name,
            device=self._device,
            machine=self._machine,
            raised=utc(note.end_wall),
            raised_at=round(raised_at, 6),
            threshold=note.threshold,
            score=note.judged.score,
            scale=note.scale,
            level_offset_db=note.offset_db,
            bands_db=note.bands_db,
            sound_start=utc(clip.wall),
            rate=clip.rate,
            seconds=round(clip.seconds, 6),
            sound="kept" if self._writer.config.sound == "keep" else "none",
            **rest,
        )


def _cells(found: UnusualMap, start: float, *, by_patches: bool) -> UnusualCells:
    """A map as it is written: to a tenth of a deviation, which is more than it means."""
    return UnusualCells(
        of="patches" if by_patches else "levels",
        marked_from=round(found.limit, 3),
        start=round(start, 3),
        cell_seconds=found.cell_seconds,
        edges_hz=tuple(np.round(found.hertz, 1).tolist()),
        deviations=tuple(map(tuple, np.round(found.deviations, 1).tolist())),
    )


def _note(decision: Decision, rows: Sequence[Row]) -> _Note:
    score, window = decision.score, decision.score.window
    row = None
    if score.neighbour is not None and 0 <= score.neighbour < len(rows):
        row = rows[score.neighbour]
    judged = JudgedWindow(
        start=0.0,
        seconds=window.seconds,
        time=utc(window.wall),
        validity=window.validity.value,
        score=score.value,
        exceeded=decision.exceeded,
        whole=False,
        neighbour=row.source if row else "",
        neighbour_start=row.start if row else None,
    )
    return _Note(
        window.index, window.monotonic, window.end_monotonic, window.wall, window.end_wall,
        decision.threshold, window.joined, decision.scale, score.offset_db,
        score.bands_db, judged,
    )  # fmt: skip


def _judged(note: _Note, clip: Clip) -> JudgedWindow:
    start = clip.place(note.monotonic)
    end = clip.place(note.end)
    slack = 1.5 / clip.rate
    # One joined of several runs is no stretch of the sound that is kept.
    whole = (
        not note.joined
        and start >= -slack
        and end <= clip.seconds + slack
        and end - start > note.judged.seconds - slack
    )
    return note.judged.model_copy(update={"start": round(start, 6), "whole": whole})
