"""One session of collected sound: checked second by second, and written as it is heard."""

from __future__ import annotations

import contextlib
import logging
import queue
import secrets
import shutil
import threading
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import soundfile

from agent.collect.segment import SegmentFile, drop_draft
from agent.collect.session import SESSION, Discarded, Segment, Session
from agent.collect.spool import CollectOrder
from agent.config.collect import CollectConfig
from agent.core.clock import ClockQuality, WallClock, utc
from agent.core.errors import AuscultError
from agent.core.level_change import Points
from agent.core.records import AudioBlock, Samples, Validity
from agent.core.storage import make_private, write_json
from agent.evidence.disk import has_room
from agent.window.validity import assess

log = logging.getLogger(__name__)

# Sound is judged in pieces of so long, seconds: long enough to tell clipping from a knock.
PIECE_SECONDS = 1.0
# A shorter file would be one window at most, cut out between two faults.
MIN_SEGMENT_SECONDS = 2.0
_DISCARDED_KEPT = 1000
_WAITING = 256  # blocks, a minute of sound, that may wait for a slow disk


class Recording:
    """Writes a session from the blocks it is given, until it has heard enough.

    `take` writes at once, in the caller's thread; `start` and `hear` do it in a thread of its own.

    Args:
        root: `collected/` in the state directory.
        device: This device's name.
        order: What to record.
        config: Segment length and disk limit.
        clock: Tells how good the clock is.
        offset: Tells what is taken off the machine's sound before it is judged, dB, and off its
            bands, (Hz, dB).
    """

    def __init__(
        self,
        root: Path,
        device: str,
        order: CollectOrder,
        config: CollectConfig,
        clock: Callable[[], ClockQuality] = lambda: WallClock().look(),
        offset: Callable[[], tuple[float, Points]] = lambda: (0.0, ()),
    ) -> None:
        self._offset = offset
        self.order = order
        self.session = ""
        self.folder = root / order.machine / order.label
        self._device = device
        self._config = config
        self._clock = clock
        self._queue: queue.Queue[AudioBlock | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None
        self._overrun = False
        self._done = threading.Event()
        self._pending: list[Samples] = []  # not yet a piece
        self._pending_wall = 0.0
        self._file: SegmentFile | None = None
        self._rate = 0
        self._started: float | None = None
        self._origin = ""
        self._heard = 0.0
        self._segments: list[Segment] = []
        self._discarded: list[Discarded] = []
        self._ended = ""
        self._notes: tuple[str, ...] = ()

    @property
    def done(self) -> bool:
        """Whether enough was heard, or it ended early."""
        return self._done.is_set()

    def open(self) -> str:
        """Make the session's folder.

        Returns:
            The session's name.

        Raises:
            AuscultError: The disk is too full or not writable.
        """
        if not has_room(self.folder, self._config.free_share):
            raise AuscultError(
                f"less than {self._config.free_share:.0%} of the disk is free: nothing is recorded",
                where=self.folder,
                remedy="Make room, or lower `collect.free_share`.",
            )
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        self.session = f"{now}-{secrets.token_hex(3)}"
        self.folder = self.folder / self.session
        try:
            make_private(self.folder.parent)
            self.folder.mkdir(mode=0o700)
        except OSError as fault:
            raise AuscultError(
                f"cannot be made: {fault.strerror}",
                where=self.folder,
                remedy="Check the permissions of the state directory.",
            ) from fault
        return self.session

    def start(self) -> None:
        """Write in a thread from now on; `open` comes first."""
        self._thread = threading.Thread(target=self._run, name="collect", daemon=True)
        self._thread.start()

    def hear(self, block: AudioBlock) -> None:
        """Take a block without waiting; what a slow disk leaves no room for is a gap."""
        if self.done:
            return
        samples = np.array(block.samples, dtype=np.float32)
        copy = AudioBlock(
            samples, block.rate, block.monotonic, block.wall, block.gap_before or self._overrun,
            block.origin,
        )  # fmt: skip
        try:
            self._queue.put_nowait(copy)
            self._overrun = False
        except queue.Full:
            self._overrun = True

    def stop(self, why: str) -> None:
        """End early; what was heard is kept."""
        if self._thread is None:
            self.finish(why)
            return
        self._ended = self._ended or why
        with contextlib.suppress(queue.Full):
            self._queue.put(None, timeout=1.0)
        self._thread.join(5.0)

    def doubt(self, alarm: str) -> str:
        """Note that an alarm stands while healthy sound is recorded; it is recorded all the same.

        Args:
            alarm: Which, in words; empty when none does.

        Returns:
            What to tell whoever asked for the recording; empty when there is nothing to say.
        """
        if not alarm or self.order.label != "healthy" or self.done:
            return ""
        note = f"{alarm} stood while this was recorded: was the machine in good order?"
        if note not in self._notes:
            self._notes = (*self._notes, note)
        return f"{alarm} stands: make sure that the machine is in good order, or delete this sound"

    def wait(self, seconds: float) -> bool:
        """Wait for the end; whether it came."""
        return self._done.wait(seconds)

    def _run(self) -> None:
        try:
            while not self.done and (block := self._queue.get()) is not None:
                self.take(block)
        except Exception:
            log.exception("collect: unexpected fault")
            self._ended = self._ended or "an unexpected fault"
        self.finish(self._ended)

    def take(self, block: AudioBlock) -> None:
        """Take a block and write what it completes."""
        if self.done or len(block.samples) == 0:
            return
        try:
            self._take(block)
        except OSError as fault:
            self.finish(f"the disk failed: {fault.strerror or fault}")
        except soundfile.SoundFileError as fault:
            self.finish(f"cannot be written: {fault}")

    def _take(self, block: AudioBlock) -> None:
        if self._started is None:
            self._started, self._rate, self._origin = block.wall, block.rate, block.origin
            self._pending_wall = block.wall
        elif block.rate != self._rate:
            self.finish("the sample rate changed: a bundle of another rate was taken into use")
            return
        if block.gap_before:
            self._end_piece()
            self._close_segment()
        if not self._pending:
            self._pending_wall = block.wall
        left = round((self.order.seconds - self._heard) * self._rate)
        samples = block.samples[:left]
        self._heard += len(samples) / self._rate
        self._pending.append(np.array(samples, dtype=np.float32))
        size = round(PIECE_SECONDS * self._rate)
        if sum(map(len, self._pending)) >= size:
            joined = np.concatenate(self._pending)
            whole = len(joined) // size * size
            for start in range(0, whole, size):
                wall = self._pending_wall + start / self._rate
                self._judge(joined[start : start + size], wall)
            self._pending = [joined[whole:]] if whole < len(joined) else []
            self._pending_wall += whole / self._rate
        if self._heard >= self.order.seconds - 0.5 / self._rate:
            self._end_piece()
            self.finish("")

    def _end_piece(self) -> None:
        """What is left of a second before a gap or the end: joined to the file it continues."""
        if self._pending:
            joined = np.concatenate(self._pending)
            self._pending = []
            self._judge(joined, self._pending_wall)

    def _judge(self, piece: Samples, wall: float) -> None:
        if self.done:
            return  # the disk became too full with the piece before
        verdict, reason = assess(piece, self._rate, min_seconds=0.0)
        if verdict is not Validity.VALID:
            self._close_segment()
            self._discard(wall, len(piece) / self._rate, verdict.value, reason)
            return
        if self._file is None:
            self._file = SegmentFile(self.folder, self._rate, wall)
        self._file.write(piece)
        if self._file.seconds >= self._config.segment_seconds:
            self._close_segment()
            if not has_room(self.folder, self._config.free_share):
                self.finish("the disk is too full")

    def _close_segment(self) -> None:
        file, self._file = self._file, None
        if file is None:
            return
        if file.seconds < MIN_SEGMENT_SECONDS:
            file.drop()
            self._discard(
                file.wall, file.seconds, Validity.TOO_SHORT.value, "a rest too short for a file"
            )
            return
        self._segments.append(file.keep_as(f"{len(self._segments):04d}.flac"))
        self._note(complete=False)

    def _discard(self, wall: float, seconds: float, validity: str, reason: str) -> None:
        if len(self._discarded) < _DISCARDED_KEPT:
            self._discarded.append(
                Discarded(
                    start=utc(wall), seconds=round(seconds, 6), validity=validity, reason=reason
                )
            )

    def finish(self, ended: str) -> None:
        """Close the file under way and write the record. Idempotent."""
        if self.done:
            return
        self._ended = self._ended or ended
        try:
            if not ended:
                self._end_piece()
            self._close_segment()
        except (OSError, soundfile.SoundFileError) as fault:
            self._ended = self._ended or f"the disk failed: {fault}"
            drop_draft(self.folder)
        try:
            self._note(complete=not self._ended)
        except (OSError, AuscultError) as fault:
            log.warning("collect: %s", fault)
        self._done.set()

    def result(self, *, complete: bool = True) -> Session:
        """The session as it stands."""
        offset, bands = self._offset()
        return Session(
            session=self.session,
            device=self._device,
            machine=self.order.machine,
            label=self.order.label,
            origin=self._origin,
            by=self.order.by,
            comment=self.order.comment,
            started=utc(self._started or datetime.now(timezone.utc).timestamp()),
            clock=self._clock().value,
            rate=self._rate or 1,
            level_offset_db=offset,
            bands_db=bands,
            asked_seconds=self.order.seconds,
            heard_seconds=round(self._heard, 6),
            kept_seconds=round(sum(segment.seconds for segment in self._segments), 6),
            complete=complete and not self._ended,
            ended=self._ended,
            notes=self._notes,
            segments=tuple(self._segments),
            discarded=tuple(self._discarded),
        )

    def _note(self, *, complete: bool) -> None:
        write_json(self.folder / SESSION, self.result(complete=complete).model_dump(mode="json"))


def discard_empty(recording: Recording) -> bool:
    """Remove the folder of a session in which nothing could be kept; whether it was."""
    if recording.result().segments:
        return False
    shutil.rmtree(recording.folder, ignore_errors=True)
    return True
