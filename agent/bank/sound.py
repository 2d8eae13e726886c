"""Sound that may join a bank: collected sessions, plain recordings, windows of answered alarms."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
from rich.progress import Progress

from agent.bundle.manifest import Row
from agent.bundle.seal import file_record
from agent.capture.files import is_audio, read_audio
from agent.collect.session import SESSION, read_session
from agent.core.errors import AuscultError
from agent.core.level_change import Points
from agent.core.progress import stage
from agent.core.records import Matrix, Samples, Validity
from agent.core.text import plural
from agent.deploy.load import Bundle
from agent.evidence.record import RECORD, SOUND, read_record
from agent.level.equaliser import equalised
from agent.offline.recording import OpenRecording, open_recording, unfit_level
from agent.score.sessions import session_names
from agent.window.clip import clip_windows, stream_windows
from agent.window.validity import assess, level_dbfs

_BATCH = 16
# How a plain recording is named, see `_find`.
_DIGEST = re.compile(r"-([0-9a-f]{12})\.[A-Za-z0-9]+$")
# Rows grown on a device say so in their domain: the false-alarm rate is promised there too.
COLLECTED = "collected"
# Windows of answered alarms were chosen for their high scores: they join, but calibrate nothing.
ANSWERED = "answered"


@dataclass(frozen=True, slots=True)
class Recording:
    """One recording that may join.

    Attributes:
        path: Its file.
        source: Its name in the bank: stable, and without the folders of this device.
        label: `healthy`, or what keeps it out.
        spans: Stretches of it to use, (start, seconds); None for windows throughout.
        domain: Domain of its rows.
        notes: What to know of it before it joins.
        offset_db: Taken off before it is embedded, dB: an operator had said that the microphone
            was moved.
        bands_db: Taken off its bands beside that, (Hz, dB): it was another microphone.
    """

    path: Path
    source: str
    label: str = "healthy"
    spans: tuple[tuple[float, float], ...] | None = None
    domain: str = COLLECTED
    notes: tuple[str, ...] = ()
    offset_db: float = 0.0
    bands_db: Points = ()


@dataclass(slots=True)
class Embedded:
    """Windows turned into rows.

    Attributes:
        vectors: float32, shape `(n, dim)`.
        rows: Where each came from.
        level_dbfs: RMS level of each, dBFS.
        invalid: Windows left out, by the reason in words.
        empty: Recordings of which no window could be used.
        told: What is otherwise than in training, by recording.
    """

    vectors: Matrix
    rows: list[Row] = field(default_factory=list)
    level_dbfs: list[float] = field(default_factory=list)
    invalid: Counter[str] = field(default_factory=Counter)
    empty: list[str] = field(default_factory=list)
    told: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def left_out(self) -> list[str]:
        """What was left out or is otherwise than in training, a sentence each."""
        windows = [
            f"left out {plural(count, 'window')}: {why}" for why, count in self.invalid.items()
        ]
        return windows + [f"{name}: {why}" for name, told in self.told.items() for why in told]


def find_sound(places: Sequence[Path], *, label: str | None = None) -> list[Recording]:
    """The recordings that paths mean, each once, in order.

    Args:
        places: Sessions of `auscult collect` (or folders of them), alarms' evidence folders, or
            plain recordings and folders of these.
        label: What plain recordings hold; None refuses those without a label of their own.

    Raises:
        AuscultError: A path holds no recording, or one that has no label or cannot be read.
    """
    found: dict[Path, Recording] = {}
    contents: set[str] = set()
    for place in places:
        here = _find(place, label)
        if not here:
            problem = "there is no recording in this folder"
            if not place.exists():
                problem = "does not exist"
            elif not place.is_dir():
                problem = "is no recording, by its name"
            raise AuscultError(
                problem,
                where=place,
                remedy="Give a session of `auscult collect`, or WAV or FLAC files.",
            )
        for recording in here:
            what = identity(recording.source)
            if recording.path.resolve() in found or what in contents:
                continue
            contents.add(what)
            found[recording.path.resolve()] = recording
    return list(found.values())


def identity(name: str) -> str:
    """What tells whether two recordings of a bank are the same: of plain ones the content."""
    found = _DIGEST.search(name)
    return name if found is None else found[1]


def _find(place: Path, label: str | None) -> list[Recording]:
    if place.is_dir():
        if (place / SESSION).is_file():
            session = read_session(place)
            return [
                Recording(
                    place / segment.file,
                    f"{session.session}/{segment.file}",
                    session.label,
                    notes=session.notes,
                    offset_db=session.level_offset_db,
                    bands_db=session.bands_db,
                )
                for segment in session.segments
            ]
        if (place / RECORD).is_file():
            return [alarm_sound(place)]
        return [found for entry in sorted(place.iterdir()) for found in _find(entry, label)]
    if not is_audio(place):
        return []
    if label is None:
        raise AuscultError(
            "nothing says what this recording holds",
            where=place,
            remedy="Add `--label healthy` if the machine is heard in good order in all of it, or "
            "`--label idle` or `--label noise`.",
        )
    # By content, so that one file under two names is known again.
    digest = file_record(place).sha256[:12] if place.is_file() else ""
    return [Recording(place, f"{place.stem}-{digest}{place.suffix}", label)]


def alarm_sound(folder: Path) -> Recording:
    """The anomalous windows of an alarm's evidence.

    Raises:
        AuscultError: The evidence is missing or damaged.
    """
    record = read_record(folder)
    if record.sound == "none":
        raise AuscultError(
            "no sound of this alarm was kept, so it cannot join the bank",
            where=folder,
            remedy="Record such sound with `auscult collect`, or set `evidence.sound: keep`.",
        )
    spans = tuple(
        (max(0.0, window.start), window.seconds)
        for window in record.windows
        if (window.exceeded or record.asked)
        and window.whole
        and window.validity == Validity.VALID.value
    )
    return Recording(
        folder / SOUND,
        f"alarm/{record.alarm_id}",
        "healthy",
        spans,
        ANSWERED,
        offset_db=record.level_offset_db,
        bands_db=record.bands_db,
    )


def cut(recording: Recording, bundle: Bundle) -> list[tuple[float, Samples]]:
    """Windows of a recording at the encoder's rate: (start in seconds, samples).

    Raises:
        AudioError: It cannot be read.
    """
    heard = None
    if recording.spans is None:
        heard = open_recording(recording.path, bundle.manifest, None)
        if heard.too_short():
            return []
    return list(_windows(recording, heard, bundle))


def _windows(
    recording: Recording, heard: OpenRecording | None, bundle: Bundle
) -> Iterator[tuple[float, Samples]]:
    """The windows of `cut`, one by one: a recording of any length is never held whole."""
    gain = np.float32(10.0 ** (-recording.offset_db / 20.0))
    if heard is None:
        yield from _spans(recording, recording.spans or (), bundle, gain)
        return
    manifest = bundle.manifest
    rate, size = manifest.encoder.sample_rate, manifest.encoder.window_samples
    hop = max(1, round(manifest.clip_hop_seconds * rate))
    for start, window in stream_windows(heard.blocks(), window_samples=size, hop_samples=hop):
        heard_as = equalised(window, rate, recording.bands_db)
        yield start / rate, heard_as * gain if recording.offset_db else heard_as


def _spans(
    recording: Recording,
    spans: Sequence[tuple[float, float]],
    bundle: Bundle,
    gain: np.float32,
) -> list[tuple[float, Samples]]:
    rate = bundle.manifest.encoder.sample_rate
    size = bundle.manifest.encoder.window_samples
    samples = read_audio(recording.path, rate=rate)
    samples = equalised(samples, rate, recording.bands_db)
    if recording.offset_db:
        samples = samples * gain
    found = []
    for start, seconds in spans:
        # A window of another length (an older bundle's) is cut anew from the stretch it covered.
        first = round(start * rate)
        stretch = samples[first : first + max(size, round(seconds * rate))]
        if len(stretch) >= size - 1:
            found += [
                (start + at / rate, window)
                for at, window in clip_windows(
                    np.resize(stretch, size) if len(stretch) < size else stretch,
                    window_samples=size,
                    hop_samples=size,
                )
            ]
    return found


def embed_sound(
    recordings: Sequence[Recording], bundle: Bundle, progress: Progress | None = None
) -> Embedded:
    """Turn recordings into rows with the bundle's own encoder.

    Sound that `auscult score` would not judge for its length, level or channels is left out.

    Args:
        recordings: Of healthy sound, or of sound that never joins the bank.
        bundle: Its encoder, started.
        progress: Told of each recording.

    Raises:
        AudioError: A recording cannot be read.
    """
    result = Embedded(np.empty((0, bundle.manifest.encoder.dim), np.float32))
    parts: list[Matrix] = [result.vectors]
    advance = stage(progress, "embedding", len(recordings))
    sessions = session_names([recording.source for recording in recordings])
    for recording, session in zip(recordings, sessions, strict=True):
        found = _embed_one(recording, session, bundle, result)
        parts.append(found)
        if not len(found):
            result.empty.append(recording.source)
        advance()
    result.vectors = np.concatenate(parts)
    return result


def _embed_one(recording: Recording, session: str, bundle: Bundle, result: Embedded) -> Matrix:
    """Embed one recording, float32 `(n, dim)`; its rows go to the result, beside what was wrong."""
    manifest = bundle.manifest
    heard = None
    if recording.spans is None:
        heard = open_recording(recording.path, manifest, None)
        if why := heard.too_short():
            result.told[recording.source] = (f"left out: {why}",)
            return np.empty((0, manifest.encoder.dim), np.float32)
    parts: list[Matrix] = [np.empty((0, manifest.encoder.dim), np.float32)]
    rows: list[Row] = []
    levels: list[float] = []
    windows = _windows(recording, heard, bundle)
    # A machine that stands still may be as quiet as it likes, and the agent judged its alarms.
    levelled = recording.label == "healthy" and heard is not None
    while batch := list(islice(windows, _BATCH)):
        part = []
        for start, window in batch:
            verdict, reason = assess(window, manifest.encoder.sample_rate, min_seconds=0.0)
            if verdict is Validity.VALID and levelled:
                verdict, reason = unfit_level(manifest, window)
            if verdict is Validity.VALID:
                part.append((start, window))
            else:
                result.invalid[reason] += 1
        if not part:
            continue
        vectors = bundle.encoder.encode(np.stack([window for _, window in part]))
        good = np.asarray(np.isfinite(vectors).all(axis=1))
        if not good.all():
            result.invalid["the encoder gave no finite number for it"] += int((~good).sum())
        parts.append(vectors[good])
        for (start, window), kept in zip(part, good, strict=True):
            if kept:
                rows.append(_row(recording, session, start))
                levels.append(level_dbfs(window))
    if heard is not None:
        if why := heard.fault():
            result.told[recording.source] = (f"left out: {why}",)
            return parts[0]
        if notes := heard.notes():
            result.told[recording.source] = tuple(notes)
    result.rows += rows
    result.level_dbfs += levels
    return np.concatenate(parts)


def _row(recording: Recording, session: str, start: float) -> Row:
    return Row(
        source=recording.source,
        start=round(start, 6),
        group=recording.source,
        domain=recording.domain,
        session=session,
    )
