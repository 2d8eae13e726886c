"""What a bundle's manifest says: of its run and its threshold, and for people to note."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from agent import __version__
from agent.bundle.facts import AgreementInfo, ConditionsInfo, LevelInfo, ViewInfo
from agent.bundle.manifest import Manifest, Quantization, TrainedOn
from agent.bundle.report import ReportInfo
from agent.bundle.seal import file_record
from agent.calibrate.limits import scale_info
from agent.capture.files import audio_info
from agent.config.recipe import Recipe
from agent.core.cores import on_cores
from agent.core.text import plural
from agent.hygiene.record import HygieneRecord
from agent.learn.detector import Detector
from agent.learn.drift import FittedDrift
from agent.learn.untypical import note_apart, untypical_sources
from agent.recordings.held import forget_mapped
from agent.recordings.model import Machine
from agent.recordings.windows import WindowSet
from agent.window.validity import level_dbfs

_AT_ONCE = 64  # windows


@dataclass(frozen=True, slots=True)
class Origin:
    """What a detector comes from, beside the recordings.

    Attributes:
        machine: The machine's name.
        recipe: By which it is made.
        seed: Of everything random.
        channel: Channel read; None for the average.
        hygiene: What was found of the recordings before; None where nobody looked.
        used: Recordings in use, relative to the data folder.
        classes: That the encoder was trained to tell apart; 0 when it was not.
        class_rule: What those were, in words.
        report: The published report that the recipe follows; None for none.
        unheard: Recordings that alone calibrate the threshold; all when empty.
        notes: For people, on how the encoder was chosen and trained.
    """

    machine: str
    recipe: Recipe
    seed: int = 0
    channel: int | None = None
    hygiene: HygieneRecord | None = None
    used: frozenset[str] = frozenset()
    classes: int = 0
    class_rule: str = ""
    report: ReportInfo | None = None
    unheard: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()

    @property
    def untypical(self) -> dict[str, bool]:
        """Recordings found unlike all others before the learning, whether by far."""
        return untypical_sources(self.hygiene, self.used)


def draft_manifest(
    origin: Origin,
    machine: Machine,
    windows: WindowSet,
    detector: Detector,
    quantization: Quantization,
    drift: FittedDrift | None = None,
    views: Sequence[ViewInfo] = (),
    agree: AgreementInfo | None = None,
    notes: Sequence[str] = (),
) -> Manifest:
    """The manifest, short of its files.

    Args:
        origin: What the detector comes from.
        machine: Its recordings.
        windows: What the bank was made of.
        detector: What was made of them.
        quantization: What was done to the graph.
        drift: What the drift monitor measures from; None for none.
        views: What the embedding is made of.
        agree: How far the healthy recordings agree.
        notes: On the graph.
    """
    recipe = origin.recipe
    levels = _levels(windows)
    odd = note_apart(detector.apart, origin.untypical)
    ruined = "" if agree is None else agree.ruined
    told = [*(one for one in (ruined, odd) if one), *detector.fitted.notes]
    if origin.hygiene is not None:
        told += [note.text for note in origin.hygiene.notes if note.serious]
    drift = drift or FittedDrift()
    told.extend(note for note in (detector.gate_note, detector.still_note, drift.note) if note)
    told.extend(
        f"{plural(count, 'healthy window')} left out: {why}"
        for why, count in windows.invalid.items()
    )
    return Manifest(
        auscult_version=__version__,
        created=datetime.now(timezone.utc).isoformat(timespec="seconds"),
        encoder=detector.info,
        window_seconds=detector.info.window_samples / detector.info.sample_rate,
        hop_seconds=recipe.window.hop_seconds,
        clip_hop_seconds=recipe.window.train_hop_seconds,
        clip_seconds=recipe.window.clip_seconds,
        report=origin.report,
        scorer=detector.fitted.config,
        threshold=detector.fitted.threshold,
        scale=scale_info(detector.fitted.threshold, detector.fitted.healthy_scores),
        sight=detector.sight,
        trained_on=_trained_on(origin, machine, windows, levels),
        level=_level(levels),
        quantization=quantization,
        notes=tuple(dict.fromkeys((*told, *origin.notes, *notes))),
        gate=detector.gate,
        still=None if detector.still is None else detector.still.config,
        drift=drift.info,
        views=tuple(views),
        agreement=agree,
        conditions=ConditionsInfo(channel=origin.channel)
        if origin.hygiene is None
        else origin.hygiene.conditions,
        files={},
    )


def _levels(windows: WindowSet) -> npt.NDArray[np.float64]:
    """RMS level of each window, dBFS."""
    levels = np.empty(len(windows.rows))
    for place, level in enumerate(on_cores(level_dbfs, windows.waveforms)):
        levels[place] = level
        if place % _AT_ONCE == 0:
            forget_mapped()
    return levels


def _level(levels: npt.NDArray[np.float64]) -> LevelInfo:
    middle = float(np.median(levels))
    spread = float(np.median(np.abs(levels - middle)))
    return LevelInfo(median_dbfs=round(middle, 2), spread_db=round(spread, 2))


def _trained_on(
    origin: Origin, machine: Machine, windows: WindowSet, levels: npt.NDArray[np.float64]
) -> TrainedOn:
    used = {row.source: row for row in windows.rows}
    digest = hashlib.sha256()
    seconds = 0.0
    for source in sorted(used):
        path = machine.root / source
        digest.update(f"{source}\0{file_record(path).sha256}\n".encode())
        seconds += audio_info(path).seconds
    domains: dict[str, int] = {}
    for _, row in sorted(used.items()):
        domains[row.domain] = domains.get(row.domain, 0) + 1
    level = np.percentile(levels, [1.0, 99.0])
    return TrainedOn(
        machine=origin.machine,
        preset=origin.recipe.name,
        seed=origin.seed,
        recordings=len(used),
        seconds=round(seconds, 3),
        domains=domains,
        classes=origin.classes,
        class_rule=origin.class_rule,
        level_dbfs=(round(float(level[0]), 2), round(float(level[1]), 2)),
        data_sha256=digest.hexdigest(),
    )
