"""A bundle that judges without level: `level: ignore`.

The columns with level are taken against each window's own loudness, in the bank as in what is
heard, and what judges the loudness alone judges nothing. Scorer, healthy scores and threshold are
learnt again from the bundle's bank, by its own rule, on the device; the bundle stays as it is. What
was learnt is kept beside the state, for the next start.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter

from agent.bundle.manifest import Threshold
from agent.calibrate.fit import FittedScorer, fit_scorer
from agent.calibrate.limits import HealthyScores, significance
from agent.calibrate.sight import rescored
from agent.config.scorer import FusionConfig, ScorerConfig
from agent.config.threshold import ThresholdRule
from agent.core.errors import AuscultError, BundleError
from agent.core.records import Matrix
from agent.core.storage import write_atomic
from agent.deploy.load import Bundle
from agent.level.columns import LevelColumns, level_columns
from agent.score.build import build_scorer
from agent.score.fitter import WorkstationError
from agent.score.scorer import HealthySet, IntVector, Scorer, State, Vector

log = logging.getLogger(__name__)

# Changes when what is learnt, or how it is kept, does.
_FORMAT = 1
# What other versions of a bundle have learnt: so many are kept.
_KEPT = 4
_CONFIG: TypeAdapter[ScorerConfig] = TypeAdapter(ScorerConfig)
_STATE, _SCORES, _ABOUT = "state.", "healthy_scores", "about"


class LevelFreeScorer:
    """Scores embeddings by all but their level.

    Args:
        scorer: Judges embeddings without level.
        columns: Which columns bear it.
    """

    def __init__(self, scorer: Scorer, columns: LevelColumns) -> None:
        self.scorer = scorer
        self._columns = columns

    def start(self) -> None:
        """Prepare. Idempotent."""
        self.scorer.start()

    def score(self, embeddings: Matrix) -> tuple[Vector, IntVector]:
        """Judge embeddings, float32 `(m, dim)`; see `Scorer`."""
        return self.scorer.score(self._columns.without(embeddings))


@dataclass(frozen=True, slots=True)
class _Learnt:
    config: ScorerConfig
    state: State
    scores: Vector
    threshold: Threshold
    note: str = ""


def without_loudness(config: ScorerConfig, columns: LevelColumns) -> ScorerConfig | None:
    """A scorer without what judges the loudness alone; None when nothing is left.

    Args:
        config: The bundle's.
        columns: Its columns.
    """
    if not isinstance(config, FusionConfig):
        return config
    only = (columns.loudness, columns.loudness + 1)
    parts = tuple(part for part in config.parts if part.columns != only)
    return config.model_copy(update={"parts": parts}) if parts else None


def level_free(bundle: Bundle, cache: Path | None = None) -> Bundle:
    """A bundle that judges without level.

    Args:
        bundle: Opened.
        cache: Folder for what was learnt; None keeps nothing.

    Returns:
        The same bundle with another scorer, healthy scores and threshold; as it is, when it names
        no views: then it isn't known what of it bears level (`LEVEL_UNKNOWN` says so to people).

    Raises:
        BundleError: It judges nothing but loudness, or its scorer cannot be learnt on a device.
    """
    columns = level_columns(bundle.manifest)
    if columns is None:
        return bundle
    config = without_loudness(bundle.manifest.scorer, columns)
    if config is None:
        raise BundleError(
            "judges nothing but loudness, so it cannot judge with `level: ignore`",
            where=bundle.path,
            remedy="Set `level: judge` for the machine, or train it with another preset.",
        )
    bank = HealthySet(columns.without(np.asarray(bundle.bank.vectors)), bundle.bank.rows)
    place = None if cache is None else cache / f"{_key(bundle, config)}.npz"
    learnt = None if place is None else _read(place, bank)
    if learnt is None:
        learnt = _learn(bundle, bank, config)
        if place is not None:
            _keep(place, learnt)
    scorer = build_scorer(learnt.config, bank, learnt.state)
    scorer.start()
    healthy = HealthyScores(learnt.scores, bundle.bank.rows)
    rule = learnt.threshold.rule
    notes = (*bundle.manifest.notes, *((learnt.note,) if learnt.note else ()))
    heard = LevelFreeScorer(scorer, columns)
    sight = bundle.manifest.sight
    if sight is not None:
        # What faults scored at export is on the axis of the scorer that hears level.
        sight = rescored(sight, bundle.faults, heard)
    manifest = bundle.manifest.model_copy(
        update={"threshold": learnt.threshold, "notes": notes, "sight": sight}
    )
    return replace(
        bundle,
        scorer=heard,
        healthy=healthy,
        manifest=manifest,
        significance=None if rule is None else significance(healthy, rule, learnt.config.clip),
    )


LEVEL_UNKNOWN = (
    "this bundle names no views, so its level cannot be taken out: it judges with whatever level "
    "its encoder hears. A bundle exported anew with a default preset can"
)


def _learn(bundle: Bundle, bank: HealthySet, config: ScorerConfig) -> _Learnt:
    manifest = bundle.manifest
    rule = manifest.threshold.rule
    if rule is None:
        rule = ThresholdRule(false_alarm_rate=manifest.threshold.false_alarm_rate)
    uncounted = None
    if bundle.healthy is not None:
        # What was left out of the bundle's own calibration is left out of this one.
        uncounted = ~np.isfinite(bundle.healthy.scores)
    log.info("%s: learnt again without level, from %d rows", bundle.path, len(bank))
    try:
        fitted: FittedScorer = fit_scorer(
            bank, config, rule, window_seconds=manifest.window_seconds, uncounted=uncounted
        )
    except WorkstationError as fault:
        raise BundleError(
            f"cannot judge with `level: ignore`: {fault.problem}",
            where=bundle.path,
            remedy="Set `level: judge` for the machine, or export it with a scorer that a device "
            "can learn (nearest neighbours).",
        ) from fault
    except AuscultError as fault:
        raise BundleError(
            f"cannot judge with `level: ignore`: {fault.problem}",
            where=bundle.path,
            remedy=fault.remedy,
        ) from fault
    return _Learnt(
        fitted.config, fitted.state, fitted.healthy_scores, fitted.threshold,
        "; ".join(fitted.notes),
    )  # fmt: skip


def _key(bundle: Bundle, config: ScorerConfig) -> str:
    text = f"{_FORMAT} {bundle.manifest.digest} {config.model_dump_json()}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _keep(place: Path, learnt: _Learnt) -> None:
    """Write what was learnt; a full disk only means learning it again."""
    about = {
        "config": _CONFIG.dump_python(learnt.config, mode="json"),
        "threshold": learnt.threshold.model_dump(mode="json"),
        "note": learnt.note,
    }
    buffer = io.BytesIO()
    arrays: dict[str, Any] = {f"{_STATE}{name}": array for name, array in learnt.state.items()}
    arrays[_SCORES] = learnt.scores
    arrays[_ABOUT] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    np.savez(buffer, allow_pickle=False, **arrays)
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(place, buffer.getvalue())
        old = sorted(place.parent.glob("*.npz"), key=lambda one: one.stat().st_mtime)
        for gone in old[:-_KEPT]:
            gone.unlink()
    except (OSError, AuscultError) as fault:
        log.warning("%s: not kept for the next start: %s", place, fault)


def _read(place: Path, bank: HealthySet) -> _Learnt | None:
    """What an earlier run has learnt; None when that is not there or cannot be used."""
    try:
        with np.load(place, allow_pickle=False) as kept:
            about = json.loads(kept[_ABOUT].tobytes())
            state = {
                name.removeprefix(_STATE): kept[name]
                for name in kept.files
                if name.startswith(_STATE)
            }
            scores = kept[_SCORES]
        config = _CONFIG.validate_python(about["config"])
        if scores.shape != (len(bank),):
            raise ValueError("another number of rows")  # noqa: TRY301
        threshold = Threshold.model_validate(about["threshold"])
        build_scorer(config, bank, state).start()
        return _Learnt(config, state, scores, threshold, str(about["note"]))
    except FileNotFoundError:
        return None
    except Exception as fault:  # noqa: BLE001 - whatever is wrong with it, it is learnt again
        log.warning("%s: cannot be used, learnt again: %s", place, fault)
        return None
