"""Writes evidence in a thread of its own: scoring never waits for a disk."""

from __future__ import annotations

import contextlib
import logging
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from agent.capture.flac import FlacDraft
from agent.config.evidence import EvidenceConfig
from agent.core.clock import WALL_CLOCK, ClockQuality
from agent.core.errors import AuscultError
from agent.core.memory import give_back
from agent.core.records import Samples
from agent.core.storage import make_private, write_atomic
from agent.core.text import plural
from agent.evidence.disk import has_room, prune
from agent.evidence.record import PICTURE, RECORD, SOUND, EvidenceRecord
from agent.evidence.ring import Clip
from agent.evidence.spectrogram import spectrogram_png
from agent.explain.spectrum import HealthySpectrum
from agent.explain.spoilt import joined, spoilt, without
from agent.explain.unusual import UnusualMap, unusual_map
from agent.level.equaliser import equalised

log = logging.getLogger(__name__)

# A minute of sound at 16 kHz is 4 MB in memory; so many may wait for a slow disk.
_WAITING = 4
_STOP_SECONDS = 5.0
# What has become too old goes without a new alarm too; looked for so often, seconds.
_TIDY_SECONDS = 3600.0
_NICENESS = 10


Redact = Callable[[Clip, EvidenceRecord], tuple[Clip, EvidenceRecord]]
"""Takes out of an alarm's sound what is not to be kept, and writes down where."""


@dataclass(frozen=True, slots=True)
class Job:
    """One alarm's evidence, to be written (again, when there is more of it).

    Attributes:
        folder: The alarm's.
        clip: Its sound.
        record: What was judged.
        spectrum: Healthy sound, with which the picture compares; None for a picture without.
        framed: Where in the clip a window begins (seconds), and what is unusual in it, framed in
            the place of the whole clip's unusual levels.
        redact: Applied before anything is written.
    """

    folder: Path
    clip: Clip
    record: EvidenceRecord
    spectrum: HealthySpectrum | None = None
    framed: tuple[float, UnusualMap] | None = None
    redact: Redact = lambda clip, record: (clip, record)


class EvidenceWriter:
    """Writes jobs in order, for all machines. What cannot be written is counted and left out.

    Args:
        root: `evidence/` in the state directory.
        config: What may be kept.
        clock: Tells how good the clock is: by a wrong one nothing is too old.
        pictured: Takes a machine's name and the picture (PNG) of its alarm, as it is written;
            must neither wait nor raise.
    """

    def __init__(
        self,
        root: Path,
        config: EvidenceConfig,
        clock: Callable[[], ClockQuality] = lambda: WALL_CLOCK.quality,
        pictured: Callable[[str, bytes], None] = lambda _machine, _picture: None,
    ) -> None:
        self._pictured = pictured
        self._clock = clock
        self.root = root
        self.config = config
        self.written = 0
        self.skipped = 0
        self.jobs: queue.Queue[Path | None] = queue.Queue(_WAITING)
        self._latest: dict[Path, Job] = {}  # of each folder that waits
        self._lock = threading.Lock()
        self.thread: threading.Thread | None = None
        self._room = True
        self._undated: set[Path] = set()  # written by a clock that could not be believed

    def start(self) -> None:
        """Begin. Never raises: an agent without a place for evidence still raises alarms."""
        self.thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self.thread.start()

    def offer(self, job: Job) -> bool:
        """Have a job written, without waiting; False when it is skipped."""
        if not self._room and not job.record.complete:
            # The disk was full at the last look; the writer looks again with each job.
            self._room = self._fits()
        if not self._room:
            self._skip(job.folder, "the disk is too full")
            return False
        with self._lock:
            if job.folder not in self._latest:
                try:
                    self.jobs.put_nowait(job.folder)
                except queue.Full:
                    self._skip(job.folder, "too many wait")
                    return False
            # A later job of the same alarm says more: it takes the place of one that waits.
            self._latest[job.folder] = job
        return True

    def stop(self) -> None:
        """Write what waits, within a few seconds. Idempotent."""
        if self.thread is None:
            return
        with contextlib.suppress(queue.Full):
            self.jobs.put(None, timeout=_STOP_SECONDS)
        self.thread.join(_STOP_SECONDS)
        self.thread = None

    def state(self) -> str:
        """A few words for the heartbeat; empty when all was written."""
        return f"evidence of {plural(self.skipped, 'alarm')} was not kept" if self.skipped else ""

    def _run(self) -> None:
        # Linux: a thread has a priority of its own. Others refuse, and do without.
        with contextlib.suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
        while True:
            try:
                folder = self.jobs.get(timeout=_TIDY_SECONDS)
            except queue.Empty:
                self._tidy()
                continue
            if folder is None:
                return
            with self._lock:
                job = self._latest.pop(folder)
            self._try(job)

    def _try(self, job: Job) -> None:
        try:
            self._write(job)
        except OSError as fault:
            self._skip(job.folder, fault.strerror or str(fault))
        except (soundfile.SoundFileError, AuscultError, ValueError, MemoryError) as fault:
            self._skip(job.folder, str(fault))
        except Exception:
            log.exception("evidence: unexpected fault")
            self._skip(job.folder, "an unexpected fault")

    def _write(self, job: Job) -> None:
        more_bytes = 4 * len(job.clip.samples)
        room = self._fits(more_bytes)
        if not room:
            # What is too old, or too much, makes room.
            self._prune(job.folder)
            room = self._fits(more_bytes)
        self._room = room
        if not room:
            self._skip(job.folder, "the disk is too full")
            return
        more = job.record.complete or job.record.explanation is not None
        if more or not (job.folder / RECORD).exists():
            self._pictured(job.record.machine, write_evidence(job))
            self.written += 1
            if self._clock() is not ClockQuality.SYNCHRONISED:
                self._undated.add(job.folder)
            give_back()
        self._prune(job.folder)

    def _prune(self, keep: Path | None) -> None:
        sure = self._clock() is ClockQuality.SYNCHRONISED
        if sure and self._undated:
            # It would be years old by a clock that has been set since: it counts from now.
            for file in (file for folder in self._undated for file in folder.glob("*")):
                with contextlib.suppress(OSError):
                    os.utime(file)
            self._undated.clear()
        prune(self.root, self.config, keep=keep, now=time.time() if sure else None)

    def _tidy(self) -> None:
        try:
            self._prune(None)
        except OSError as fault:
            log.warning("%s: what is too old cannot be looked for: %s", self.root, fault)
        self._room = self._fits()

    def _fits(self, more: int = 0) -> bool:
        try:
            return has_room(self.root, self.config.free_share, more=more)
        except OSError:
            return True  # the write will tell

    def _skip(self, folder: Path, why: str) -> None:
        self.skipped += 1
        log.warning("evidence of alarm %s not kept: %s (%d so far)", folder.name, why, self.skipped)


def write_evidence(job: Job) -> bytes:
    """Write sound, picture and record, the record last; earlier ones are replaced one by one.

    Returns:
        The picture, a PNG.

    Raises:
        OSError: The disk is full or gone.
        BundleError: Likewise.
        soundfile.SoundFileError: The sound could not be written.
    """
    make_private(job.folder)
    clip, record = job.redact(job.clip, job.record)
    if record.sound == "kept":
        write_flac(job.folder / SOUND, clip.samples, clip.rate)
    start, found = job.framed or (0.0, None)
    if found is None and job.spectrum is not None:
        # As it was judged: an operator may have said that the microphone hears louder now.
        gain = np.float32(10.0 ** (-record.level_offset_db / 20.0))
        heard = equalised(clip.samples, clip.rate, record.bands_db)
        found = unusual_map(gain * heard, job.spectrum)
    if found is not None:
        lost = [gap.at for gap in record.lost]
        nothing = joined((*spoilt(clip.samples, clip.rate, lost), *_unjudged(record)))
        found = without(found, nothing, start)
    picture = spectrogram_png(
        clip.samples,
        clip.rate,
        marks=[record.raised_at],
        title=record.sound_start,
        unusual=found,
        unusual_from=start,
    )
    write_atomic(job.folder / PICTURE, picture, mode=0o600)
    text = record.model_dump_json(indent=1) + "\n"
    write_atomic(job.folder / RECORD, text.encode(), mode=0o600)
    return picture


def _unjudged(record: EvidenceRecord) -> Iterator[tuple[float, float]]:
    """Stretches that lie in windows which could not be judged, and in no valid one."""
    judged = [(one.start, one.start + one.seconds) for one in record.windows
              if one.validity == "valid"]  # fmt: skip
    for one in record.windows:
        if one.validity == "valid":
            continue
        at, end = one.start, one.start + one.seconds
        for begin, stop in joined(judged):
            if begin > at:
                yield at, min(begin, end)
            at = max(at, stop)
            if at >= end:
                break
        if at < end:
            yield at, end


def write_flac(path: Path, samples: Samples, rate: int) -> None:
    """Write sound as 24-bit FLAC, whole or not at all.

    Args:
        path: The file.
        samples: float32, shape `(n,)`; beyond full scale it is cut, what is not finite is 0.
        rate: Samples a second.

    Raises:
        OSError: It could not be written in full.
        soundfile.SoundFileError: Nor could the encoder be made.
    """
    draft = FlacDraft(path.with_name(f".{path.name}"), rate)
    try:
        draft.write(np.nan_to_num(samples, nan=0.0, posinf=1.0, neginf=-1.0))
        draft.keep(path)
    except BaseException:
        draft.drop()
        raise
