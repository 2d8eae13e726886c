"""Labelled recordings from a microphone, as training reads them; nothing unfit is kept."""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from agent.capture.flac import FlacDraft
from agent.capture.level import Level, measure
from agent.core.errors import AudioError
from agent.core.records import AudioBlock, Samples, Validity
from agent.core.storage import make_private
from agent.window.channel_watch import STRETCH_SECONDS
from agent.window.validity import assess

# Sound is checked, then written, in pieces of so long, seconds.
_PIECE_SECONDS = 1.0
# How long averaged sound waits: the verdict on channels is of a stretch, and a piece may lie across
# two of them, seconds.
_VERDICT_SECONDS = STRETCH_SECONDS + _PIECE_SECONDS
# A recording that was cut short is kept from this length: a window of the encoder's, seconds.
KEPT_SECONDS = 10.0
FOLDERS = {"healthy": "normal", "idle": "idle", "noise": "noise"}
LABELS = tuple(FOLDERS)
_REMEDY = {
    Validity.SILENT: "Check the cable, the mute switch and `device`, then record again.",
    Validity.CLIPPED: "Lower the gain or move the microphone away, then record again.",
    Validity.GAP: "Check the cable and what else keeps this device busy, then record again.",
    Validity.NOT_FINITE: "The driver gives no numbers: try another `device`.",
}


@dataclass(frozen=True, slots=True)
class Take:
    """What recording gave.

    Attributes:
        files: The recordings kept.
        seconds: Their length in all.
        gaps: Times that sound was lost, where a recording ends and the next begins.
    """

    files: tuple[Path, ...]
    seconds: float
    gaps: int


@dataclass(slots=True)
class Recorder:
    """Writes a stream into clips of a folder in the plain layout.

    Sound is checked second by second before it is written, under a hidden name until it is whole.
    Channels that are averaged are judged over some seconds, and their sound waits for the verdict.

    Args:
        machine: The machine's folder; healthy sound goes to its `normal/`, as training expects.
        label: `healthy`, `idle` or `noise`.
        seconds: Sound wanted in all.
        clip_seconds: Longest recording.
        about: Further fields of the JSON beside each recording (device, channel...).
        on_level: Told the level of each second, and how many seconds there are so far.
    """

    machine: Path
    label: str
    seconds: float
    clip_seconds: float
    about: Mapping[str, Any]
    on_level: Callable[[Level, float], None] = lambda _level, _seconds: None
    take: Take = field(default=Take((), 0.0, 0), init=False)
    _clip: _Clip | None = field(default=None, init=False)
    _waiting: deque[tuple[Samples, int, float]] = field(default_factory=deque, init=False)

    def run(self, blocks: Iterable[AudioBlock]) -> Take:
        """Record until there is enough, or the blocks end.

        Args:
            blocks: The sound, at any one rate. Blocks in which the microphone settles are left out.

        Returns:
            What was kept; also in `take` after a fault.

        Raises:
            AudioError: The sound is silent, clipped or constant, or its channels should not be
                averaged; what was fit before it is kept if it is long enough. Or it cannot be
                written.
        """
        try:
            self._run(blocks)
        finally:
            self._close()
        return self.take

    def _run(self, blocks: Iterable[AudioBlock]) -> None:
        held: list[Samples] = []
        began = 0.0
        for block in blocks:
            if block.settling:
                continue
            self._judge_channels(block)
            if block.gap_before and (held or self._waiting or self._clip is not None):
                self._release(0.0)
                self.take = Take(self.take.files, self.take.seconds, self.take.gaps + 1)
                held = []
                self._close()
            began = began if held else block.wall
            held.append(block.samples)
            if sum(map(len, held)) < _PIECE_SECONDS * block.rate:
                continue
            piece, held = np.concatenate(held), []
            kind, reason = assess(piece, block.rate, min_seconds=0.0)
            if kind is not Validity.VALID:
                self._release(0.0)
                raise AudioError(reason, where=block.origin or None, remedy=_remedy(kind, block))
            heard = self._total() + sum(len(part) / rate for part, rate, _ in self._waiting)
            if heard < self.seconds:
                self.on_level(measure(piece), min(self.seconds, heard + len(piece) / block.rate))
            self._waiting.append((piece, block.rate, began))
            averaged = block.recorded is not None and block.recorded.averaged
            if self._release(_VERDICT_SECONDS if averaged else 0.0):
                return
        self._release(0.0)

    def _judge_channels(self, block: AudioBlock) -> None:
        """Refuse sound of channels that should not be averaged, with what waits for the verdict.

        Raises:
            AudioError: One is dead, hums, clips or cancels another. Where the machine stands still
                no channel need hear anything.
        """
        for fault in block.channel_faults:
            if self.label == "healthy" or fault.ruins_average:
                self._waiting.clear()
                raise AudioError(
                    fault.text,
                    where=block.origin or None,
                    remedy="Choose a good one with --channel, or mend it, then record again.",
                )

    def _release(self, waits: float) -> bool:
        """Write what has waited longer than so many seconds; True when there is enough."""
        while self._waiting:
            later = sum(len(part) / rate for part, rate, _ in self._waiting)
            piece, rate, began = self._waiting[0]
            if later - len(piece) / rate < waits:
                return False
            self._waiting.popleft()
            if self._write(piece, rate, began):
                self._waiting.clear()
                return True
        return False

    def _write(self, piece: Samples, rate: int, began: float) -> bool:
        """Write a checked piece; True when there is enough."""
        wanted = round((self.seconds - self._total()) * rate)
        while len(piece) and wanted > 0:
            self._clip = self._clip or self._open(rate, began)
            room = min(wanted, round(self.clip_seconds * rate) - self._clip.sound.frames)
            part, piece = piece[:room], piece[room:]
            self._clip.write(part)
            began += len(part) / rate
            wanted -= len(part)
            if self._clip.sound.frames >= round(self.clip_seconds * rate) or wanted <= 0:
                self._close(whole=True)
        return wanted <= 0

    def _total(self) -> float:
        return self.take.seconds + (self._clip.sound.seconds if self._clip else 0.0)

    def _open(self, rate: int, began: float) -> _Clip:
        folder = self.machine / FOLDERS[self.label]
        device = re.sub(r"[^A-Za-z0-9]+", "-", str(self.about.get("name", ""))).strip("-")
        time = datetime.fromtimestamp(began, timezone.utc)
        parts = (self.label, f"{time:%Y%m%dT%H%M%SZ}", device[:30])
        stem = name = "-".join(part for part in parts if part)
        number = 1
        while (folder / f"{name}.flac").exists():  # the clock may have been set back
            number += 1
            name = f"{stem}-{number}"
        return _Clip(folder / f"{name}.flac", rate, time)

    def _close(self, *, whole: bool = False) -> None:
        """Keep the present recording, or drop it when it was cut too short."""
        clip, self._clip = self._clip, None
        if clip is None:
            return
        if not whole and clip.sound.seconds < KEPT_SECONDS:
            clip.sound.drop()
            return
        clip.keep({"label": self.label, "machine": self.machine.resolve().name, **self.about})
        take = self.take
        self.take = Take((*take.files, clip.path), take.seconds + clip.sound.seconds, take.gaps)


def _remedy(kind: Validity, block: AudioBlock) -> str:
    if kind is Validity.SILENT and block.recorded is not None and block.recorded.averaged:
        return f"Its channels may cancel each other: choose one with --channel. {_REMEDY[kind]}"
    return _REMEDY[kind]


class _Clip:
    """A recording on its way to disk.

    Args:
        path: Its name once it is whole.
        rate: Hz.
        began: When its first sample was heard.
    """

    def __init__(self, path: Path, rate: int, began: datetime) -> None:
        self.path = path
        self._rate = rate
        self._began = began
        # Hidden: training looks past such names.
        partial = path.with_name(f".{path.stem}.partial.flac")
        try:
            make_private(path.parent)
            self.sound = FlacDraft(partial, rate)
        except (OSError, soundfile.SoundFileError) as fault:
            with suppress(OSError):
                partial.unlink()
            raise self._unwritable(fault) from fault

    def write(self, samples: Samples) -> None:
        """Append float32 mono samples."""
        try:
            self.sound.write(samples)
        except (OSError, soundfile.SoundFileError) as fault:
            self.sound.drop()
            raise self._unwritable(fault) from fault

    def keep(self, about: Mapping[str, Any]) -> None:
        """Make it whole on disk, and tell of it in a JSON of the same name."""
        record = {
            **about,
            "file": self.path.name,
            "started": self._began.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "seconds": round(self.sound.seconds, 3),
            "rate": self._rate,
            "level_dbfs": round(self.sound.level_dbfs, 2),
            "peak_dbfs": round(self.sound.peak_dbfs, 2),
        }
        beside = self.path.with_suffix(".json")
        try:
            text = json.dumps(record, indent=1, ensure_ascii=False) + "\n"
            beside.write_text(text, encoding="utf-8")
            self.sound.keep(self.path)
        except (OSError, soundfile.SoundFileError) as fault:
            self.sound.drop()
            beside.unlink(missing_ok=True)
            raise self._unwritable(fault) from fault

    def _unwritable(self, fault: Exception) -> AudioError:
        why = getattr(fault, "strerror", None) or getattr(fault, "error_string", None) or fault
        return AudioError(
            f"cannot be written: {why}",
            where=self.path,
            remedy="Check the folder's permissions and the space on its disk.",
        )
