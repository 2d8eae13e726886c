"""Reads a recorded sequence in time order and makes one feature vector of every step."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator
from collections.abc import Sequence as Many
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import soxr
from rich.progress import Progress

from agent.capture.files import read_frames
from agent.core.errors import AudioError
from agent.core.progress import stage
from agent.core.records import Matrix, Validity
from agent.deploy.load import Bundle
from agent.drift.baseline import DriftError
from agent.drift.mixture import Array
from agent.drift_fit.bands import band_statistics, plan_bands
from agent.drift_fit.settings import (
    BAND_SETTINGS,
    EMBEDDING_SETTINGS,
    DriftSettings,
    Tolerance,
    band_tolerance,
    embedding_tolerance,
)
from agent.offline.recording import OpenRecording, open_recording, unfit_level
from agent.recordings.model import Rejected
from agent.window.clip import stream_windows
from agent.window.conditions import compare_conditions
from agent.window.validity import assess
from trainer.drift.folder import choose_recordings, one_format

_SHAPE = "Save it with numpy.savez(file, x=x, t=t), x of shape (n, samples, channels), t of (n,)."


@dataclass(frozen=True, slots=True)
class Step:
    """Where one step of the sequence came from.

    Attributes:
        source: The file.
        start: Its place: seconds from the file's start, or `t` of the snapshot.
    """

    source: str
    start: float


@dataclass(frozen=True, slots=True, eq=False)
class Sequence:
    """A sequence as features.

    Attributes:
        features: Shape `(n, D)`; a row is NaN where the step cannot be judged.
        steps: Where each row came from, n of them.
        names: Names of the features.
        unit: Their unit.
        source: What computed them.
        tolerance: Their healthy tolerance.
        left_out: Of a training folder, how many recordings of which folder were not taken.
        skipped: Recordings that could not be used.
        notes: What is otherwise than where the bundle was trained, or was not judged for it.
        settings: The fit's choices for such features.
    """

    features: Array
    steps: tuple[Step, ...]
    names: tuple[str, ...]
    unit: str
    source: str
    tolerance: Tolerance
    left_out: dict[str, int] = field(default_factory=dict)
    skipped: tuple[Rejected, ...] = ()
    notes: tuple[str, ...] = ()
    settings: DriftSettings = EMBEDDING_SETTINGS


def read_sequence(
    path: Path,
    *,
    rate: float | None,
    bundle: Bundle | None,
    window_seconds: float,
    progress: Progress | None = None,
) -> Sequence:
    """Read a folder of audio or an npz of snapshots.

    Of a machine's training folder the healthy recordings are taken. A recording that cannot be read
    is skipped.

    Args:
        path: The folder, whose files in natural order of name (2 before 10) are in time order, or
            the npz with `x[n, samples, channels]` and perhaps `t[n]`.
        rate: Samples a second of the npz.
        bundle: Whose encoder makes the features; None takes band statistics.
        window_seconds: Length of a step of a folder's band statistics; a bundle has its own.
        progress: Where to show how far it is.

    Raises:
        DriftError: The sequence is missing, of another form, without its rate, or not one file of
            the folder can be used.
    """
    if path.is_dir():
        chosen = choose_recordings(path)
        made = (
            _folder_bands(path, chosen.files, window_seconds, progress)
            if bundle is None
            else _folder_embeddings(path, chosen.files, bundle, progress)
        )
        return replace(made, left_out=chosen.left_out)
    if path.suffix != ".npz":
        raise DriftError(
            "is neither a folder nor an .npz file",
            where=path,
            remedy="Give a folder of audio in time order, or an npz of snapshots.",
        )
    snapshots, times = _snapshots(path)
    if rate is None:
        raise DriftError(
            "an npz does not say its sampling rate",
            where=path,
            remedy="Give it: --rate HZ.",
        )
    steps = tuple(Step(path.name, float(time)) for time in times)
    shown = _shown(range(len(snapshots)), len(snapshots), "features", progress)
    if bundle is not None:
        rows = [_embed_snapshot(snapshots[row], rate, bundle) for row in shown]
        made = _embeddings(rows, steps, bundle, snapshots.shape[2])
        # Only told: snapshots are of another sensor more often than not.
        different = compare_conditions(
            bundle.manifest.conditions,
            rate=round(rate),
            seconds=snapshots.shape[1] / rate,
            window_seconds=bundle.manifest.window_seconds,
        )
        return replace(made, notes=tuple(f"{path.name}: {one.text}" for one in different))
    try:
        plan = plan_bands(rate, snapshots.shape[1], snapshots.shape[2])
    except ValueError as fault:
        raise DriftError(str(fault), where=path, remedy="Record longer snapshots.") from fault
    features = np.stack([band_statistics(snapshots[row], plan) for row in shown])
    return Sequence(
        features,
        steps,
        plan.names,
        "dB",
        "band statistics",
        band_tolerance(plan),
        settings=BAND_SETTINGS,
    )


def _snapshots(path: Path) -> tuple[npt.NDArray[np.float32], Array]:
    try:
        with np.load(path, allow_pickle=False) as file:
            if "x" not in file.files:
                raise DriftError(f"has no array x, only {file.files}", where=path, remedy=_SHAPE)
            x = file["x"]
            t = file["t"] if "t" in file.files else np.arange(len(x), dtype=np.float64)
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as fault:
        raise DriftError(f"is not an npz of numbers: {fault}", where=path, remedy=_SHAPE) from fault
    if x.ndim == 2:
        x = x[:, :, None]
    if x.ndim != 3 or x.dtype.kind not in "fiu" or 0 in x.shape:
        raise DriftError(f"x is {x.dtype} of shape {x.shape}", where=path, remedy=_SHAPE)
    if t.shape != (len(x),) or t.dtype.kind not in "fiu":
        raise DriftError(
            f"t is {t.dtype} of shape {t.shape} beside {len(x)} snapshots",
            where=path,
            remedy=_SHAPE,
        )
    if not (np.isfinite(t).all() and (np.diff(t) > 0).all()):
        raise DriftError(
            "t does not grow from snapshot to snapshot",
            where=path,
            remedy="Sort the snapshots by time and remove doubles.",
        )
    return x.astype(np.float32), t.astype(np.float64)


def _shown(
    items: range | Many[Path], total: int, what: str, progress: Progress | None
) -> Iterator[int]:
    """Count through items, showing how far."""
    advance = stage(progress, what, total)
    for row in range(len(items)):
        yield row
        advance()


def _parts(file: Path, window: int) -> Iterator[Matrix]:
    """Windows that do not overlap, as stored; a shorter recording is one window."""
    held: Matrix | None = None
    given = 0
    for block in read_frames(file):
        held = block if held is None else np.concatenate([held, block])
        while len(held) >= window:
            yield held[:window]
            held = held[window:]
            given += 1
    if not given and held is not None:
        yield held


def _folder_bands(
    folder: Path, files: Many[Path], window_seconds: float, progress: Progress | None
) -> Sequence:
    usable, skipped = one_format(files)
    if not usable:
        raise _none_usable(folder, skipped)
    form = next(iter(usable.values()))
    shortest = min(info.seconds for info in usable.values())
    window = int(min(window_seconds, shortest) * form.rate)
    try:
        plan = plan_bands(form.rate, window, form.channels)
    except ValueError as fault:
        raise DriftError(
            str(fault), where=folder, remedy="Remove recordings of a few samples."
        ) from fault
    rows, steps = [], []
    names = list(usable)
    for index in _shown(names, len(names), "features", progress):
        file = names[index]
        try:
            made = [band_statistics(part, plan) for part in _parts(file, window)]
        except AudioError as fault:
            skipped.append(Rejected(file, fault.problem, fault.remedy))
            continue
        rows += made
        name = file.relative_to(folder).as_posix()
        steps += [Step(name, n * window / form.rate) for n in range(len(made))]
    if not rows:
        raise _none_usable(folder, skipped)
    features = np.stack(rows)
    return Sequence(
        features,
        tuple(steps),
        plan.names,
        "dB",
        "band statistics",
        band_tolerance(plan),
        skipped=tuple(skipped),
        settings=BAND_SETTINGS,
    )


def _none_usable(folder: Path, skipped: Many[Rejected]) -> DriftError:
    return DriftError(
        f"holds no recording that can be used; {skipped[0].path.name}: {skipped[0].reason}",
        where=folder,
        remedy=skipped[0].remedy,
    )


def _folder_embeddings(
    folder: Path, files: Many[Path], bundle: Bundle, progress: Progress | None
) -> Sequence:
    info = bundle.manifest.encoder
    rows: list[npt.NDArray[np.float32]] = []
    steps: list[Step] = []
    skipped: list[Rejected] = []
    told: dict[str, list[str]] = {}
    for index in _shown(files, len(files), "embeddings", progress):
        file = files[index]
        name = file.relative_to(folder).as_posix()
        try:
            heard = open_recording(file, bundle.manifest, None)
            made, why = _embed_recording(heard, bundle)
        except AudioError as fault:
            skipped.append(Rejected(file, fault.problem, fault.remedy))
            continue
        if unfit := heard.fault():
            skipped.append(Rejected(file, unfit, "Train the bundle on one channel."))
            continue
        for text in (*heard.notes(), *why):
            told.setdefault(text, []).append(name)
        rows += made
        steps += [Step(name, n * info.window_samples / info.sample_rate) for n in range(len(made))]
    if not rows:
        raise _none_usable(folder, skipped)
    return replace(
        _embeddings(rows, tuple(steps), bundle, 1), skipped=tuple(skipped), notes=_told(told)
    )


def _embed_recording(
    heard: OpenRecording, bundle: Bundle
) -> tuple[list[npt.NDArray[np.float32]], list[str]]:
    """A row of each window, NaN for one that is not judged, and why those that training lacks."""
    info = bundle.manifest.encoder
    window = info.window_samples
    short = heard.too_short()
    made: list[npt.NDArray[np.float32]] = []
    why: dict[str, None] = {short: None} if short else {}
    for start, part in stream_windows(heard.blocks(), window_samples=window, hop_samples=window):
        if start % window:
            continue  # what is left over at the end is no step
        judged, _ = assess(part, info.sample_rate)
        if judged is Validity.VALID and not short:
            judged, reason = unfit_level(bundle.manifest, part)
            if reason:
                why[reason] = None
        if judged is Validity.VALID and not short:
            made.append(bundle.encoder.encode(part[None])[0])
        else:
            made.append(np.full(info.dim, np.nan, dtype=np.float32))
    return made, [f"not judged: {reason}" for reason in why]


def _told(told: dict[str, list[str]]) -> tuple[str, ...]:
    """Notes, each with the first recording that it is of and how many others."""
    return tuple(
        f"{names[0]}{f' and {len(names) - 1} more' if names[1:] else ''}: {text}"
        for text, names in told.items()
    )


def _embed_snapshot(
    snapshot: npt.NDArray[np.float32], rate: float, bundle: Bundle
) -> npt.NDArray[np.float32]:
    """Every channel resampled, repeated to the encoder's window, embedded; then side by side."""
    info = bundle.manifest.encoder
    alive = np.isfinite(snapshot).all() and bool((np.ptp(snapshot, axis=0) > 0).all())
    if not alive:
        return np.full(info.dim * snapshot.shape[1], np.nan, dtype=np.float32)
    channels = [
        np.resize(soxr.resample(channel, rate, info.sample_rate, quality="HQ"), info.window_samples)
        for channel in snapshot.T
    ]
    return bundle.encoder.encode(np.stack(channels).astype(np.float32)).reshape(-1)


def _embeddings(
    rows: list[npt.NDArray[np.float32]], steps: tuple[Step, ...], bundle: Bundle, channels: int
) -> Sequence:
    features = np.stack(rows).astype(np.float64)
    info = bundle.manifest.encoder
    names = tuple(
        f"channel {channel}, embedding {index}"
        for channel in range(channels)
        for index in range(info.dim)
    )
    source = f"encoder {info.kind} of the bundle trained on {bundle.manifest.trained_on.machine}"
    return Sequence(features, steps, names, "", source, embedding_tolerance(features.shape[1]))
