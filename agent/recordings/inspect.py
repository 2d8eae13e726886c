"""Every recording opened and judged once, before a training that may take hours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from rich.progress import Progress

from agent.capture.files import audio_info, mix, read_frames
from agent.capture.guard import check_decodes
from agent.core.cores import usable_cores
from agent.core.errors import AudioError
from agent.core.progress import stage
from agent.core.records import Matrix, Validity
from agent.recordings.model import Recording, Rejected
from agent.window.channels import ChannelMeter
from agent.window.validity import MIN_SECONDS, assess

# A recording is judged in pieces of this many seconds, so that an hour of it fits in memory; one
# shorter than two pieces is judged whole.
PIECE_SECONDS = 10.0
# A long recording is kept while no more than this share of its pieces is bad: the windows cut from
# it are judged one by one. A single bad number, though, means that what wrote the file is broken.
BAD_SHARE = 0.1

_REMEDIES = {
    Validity.TOO_SHORT: f"Record at least {MIN_SECONDS:g} s; 10 s and more is better.",
    Validity.NOT_FINITE: "Convert it again from the original; a conversion or filter broke it.",
    Validity.SILENT: "Check the microphone, its mute switch and the channel, and record again.",
    Validity.GAP: "Record again without pauses, dropouts or a noise gate, or cut that part out.",
    Validity.CLIPPED: "Lower the input gain and record again; for float files check the scale.",
}
_CANCELLED = "Take one of them (--channel 0), or turn one round and record again."


class Inspector(Protocol):
    """Opens recordings and sorts out those that can't be used, as `inspect_recordings` does."""

    def __call__(
        self,
        recordings: Sequence[Recording],
        /,
        *,
        channel: int | None = ...,
        progress: Progress | None = ...,
    ) -> tuple[list[Recording], list[Rejected]]: ...


def inspect_recordings(
    recordings: Sequence[Recording],
    *,
    channel: int | None = None,
    progress: Progress | None = None,
) -> tuple[list[Recording], list[Rejected]]:
    """Open every recording and sort out those that can't be used. One bad file never stops it.

    Args:
        recordings: What to open.
        channel: Channel that will be used, counted from 0; None averages all, and then each must
            be free of clipping.
        progress: Where to show how far it is; None for nowhere.

    Returns:
        Those in use and those rejected, each in the order given.
    """
    advance = stage(progress, "Checking recordings", len(recordings))
    used: list[Recording] = []
    rejected: list[Rejected] = []
    # libsndfile and numpy release the interpreter's lock, so threads are enough.
    pool = ThreadPoolExecutor(max_workers=min(4, usable_cores()))
    try:
        verdicts = pool.map(lambda recording: inspect_file(recording.path, channel), recordings)
        for recording, verdict in zip(recordings, verdicts, strict=True):
            if verdict is None:
                used.append(recording)
            else:
                rejected.append(verdict)
            advance()
    finally:
        pool.shutdown(cancel_futures=True)
    return used, rejected


def inspect_file(path: Path, channel: int | None = None) -> Rejected | None:
    """Decode a file to its end and judge it.

    Args:
        path: The file.
        channel: As in `inspect_recordings`.

    Returns:
        Why it can't be used and what to do, or None when it can.
    """
    try:
        check_decodes(path, channel)
        return judge_sound(path, audio_info(path).rate, read_frames(path, channel=channel))
    except AudioError as fault:
        return Rejected(path, fault.problem, fault.remedy)


def judge_sound(path: Path, rate: int, blocks: Iterable[Matrix]) -> Rejected | None:
    """Judge the decoded sound of a file.

    Args:
        path: The file.
        rate: Samples a second.
        blocks: Its sound as stored, float32 `(n, channels)` each, one at least.

    Returns:
        As `inspect_file`.

    Raises:
        AudioError: As `read_frames`, where that gives the blocks.
    """
    pieces = 0
    bad: list[tuple[Validity, str]] = []
    for frames in _pieces(blocks, round(PIECE_SECONDS * rate)):
        start = pieces * PIECE_SECONDS
        validity, reason = _judge(frames, rate)
        if validity is not Validity.VALID:
            bad.append((validity, f"{reason} (from {start:g} s on)" if pieces else reason))
            if validity is Validity.NOT_FINITE:
                return Rejected(path, bad[-1][1], _REMEDIES[validity])
        pieces += 1
    if len(bad) <= BAD_SHARE * pieces:
        return None
    validity, reason = bad[0]
    if pieces > 1:
        reason = f"{len(bad)} of its {pieces} pieces of {PIECE_SECONDS:g} s are bad; {reason}"
    remedy = _CANCELLED if "cancel each other" in reason else _REMEDIES[validity]
    return Rejected(path, reason, remedy)


def _judge(frames: Matrix, rate: int) -> tuple[Validity, str]:
    """`assess` of the channels' mix, and of what a mix would hide: clipping, and cancellation."""
    validity, reason = assess(mix(frames), rate)
    if frames.shape[1] == 1 or validity not in {Validity.VALID, Validity.SILENT, Validity.GAP}:
        return validity, reason
    meter = ChannelMeter(rate)
    meter.push(frames)
    for fault in meter.faults():
        # A dead channel is told with all recordings in view, since it may be so in each.
        if fault.cancels or (fault.validity is Validity.CLIPPED and validity is Validity.VALID):
            return fault.validity, fault.text
    return validity, reason


def _pieces(blocks: Iterable[Matrix], size: int) -> Iterator[Matrix]:
    """Sound in pieces of `size` frames, the last one up to twice as long."""
    held: list[Matrix] = []
    length = 0
    for block in blocks:
        held.append(block)
        length += len(block)
        if length >= 2 * size:
            joined = np.concatenate(held)
            full = length // size - 1
            for n in range(full):
                yield joined[n * size : (n + 1) * size]
            held = [joined[full * size :]]
            length -= full * size
    yield np.concatenate(held)
