"""A new version of a bank: everything that is learnt from its rows anew, checked, and written.

Nothing here changes what is in use: `make_version` writes a version beside the others, and only a
version that passed its checks is written at all.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from agent import __version__
from agent.bank.draft import Draft, GrowthError
from agent.bank.probation import KnownAlarm, Verdict, try_alarms
from agent.bank.rise import MAX_RISE, check_rise
from agent.bank.sound import ANSWERED
from agent.bundle.facts import BankVersion, IndexInfo, SightInfo
from agent.bundle.files import is_state_file
from agent.bundle.manifest import (
    BANK,
    GATE,
    GATE_ROWS,
    HEALTHY_SCORES,
    ROWS,
    SCHEMA_VERSION,
    Gate,
    Manifest,
    Threshold,
)
from agent.bundle.private import private_copy
from agent.bundle.seal import seal
from agent.bundle.verify import Head
from agent.calibrate.fit import FittedScorer, fit_scorer
from agent.calibrate.limits import scale_info
from agent.calibrate.sight import rescored
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import ThresholdRule
from agent.core.errors import AuscultError, BundleError
from agent.core.storage import write_json
from agent.core.text import plural
from agent.deploy.load import Bundle, open_bundle
from agent.deploy.parity import renew_scores
from agent.deploy.versions import Versions
from agent.score.bank import MemoryBank
from agent.score.build import build_scorer, write_scorer
from agent.score.fitter import WorkstationError
from agent.score.gate import IdleGate, fit_gate
from agent.score.index_state import index_notes
from agent.score.knn import KnnScorer
from agent.score.scorer import HealthySet, Scorer
from agent.score.space import space_of

# What a grown bundle makes anew, beside its scorer; every other file is its parent's.
_REMADE = frozenset({BANK, ROWS, HEALTHY_SCORES, GATE, GATE_ROWS})
_NO_FAULTS = (
    "what faults score with the new bank is not known: this bundle was exported without their "
    "embeddings. Export it again with `auscult export` to be told what its threshold lets pass"
)


@dataclass(frozen=True, slots=True)
class Report:
    """What a change did.

    Attributes:
        version: Number of the version written.
        rows: Rows of its bank.
        added: Rows that are new.
        removed: Rows that are gone.
        before: Threshold of the parent.
        after: Its own.
        rise: How much less sensitive it is than its parent, see `check_rise`.
        novel: Share of the new rows that the parent would have called anomalous.
        alarms: What becomes of the known alarms.
        notes: What a person should know.
        digest: Its manifest's.
    """

    version: int
    rows: int
    added: int
    removed: int
    before: Threshold
    after: Threshold
    rise: float
    novel: float
    alarms: tuple[Verdict, ...]
    notes: tuple[str, ...]
    digest: str


def make_version(
    bundle: Bundle,
    versions: Versions,
    draft: Draft,
    *,
    alarms: Sequence[KnownAlarm] = (),
    forced: Sequence[str] = (),
    max_rise: float = MAX_RISE,
    tell: Callable[[str], None] = lambda _: None,
    sign: Callable[[Path, str], None] = lambda *_: None,
) -> Report:
    """Calibrate a draft, check it, and write it as a version; it is not used yet.

    Args:
        bundle: The version in use, opened.
        versions: Where the new one goes.
        draft: Its rows.
        alarms: Known alarms that it must still raise.
        forced: Ids of those it may silence.
        max_rise: How much less sensitive it may become, see `check_rise`.
        tell: Told what is being done.
        sign: Signs the version's folder, on a device that takes only signed ones; told its digest.

    Raises:
        GrowthError: A check failed; the message says which. Nothing was written.
        BundleError: It cannot be written.
    """
    tell("calibrating")
    parent = bundle.manifest
    fitted = _fit(draft, bundle)
    tell("checking")
    scorer = build_scorer(fitted.config, HealthySet(draft.vectors, draft.rows), fitted.state)
    scorer.start()
    _finds_itself(draft)
    gate, gate_note = _gate(draft, fitted)
    novel: float | None = None
    if draft.added:
        judged, _ = bundle.scorer.score(draft.vectors[-draft.added :])
        novel = float(np.mean(judged > parent.threshold.value))
    rise, note = check_rise(bundle, fitted, scorer, novel=novel, allowed=max_rise)
    verdicts = try_alarms(alarms, bundle, scorer, fitted.threshold.value, gate)
    silenced = [verdict.alarm_id for verdict in verdicts if verdict.silenced]
    refused = sorted(set(silenced) - set(forced))
    if refused:
        raise GrowthError(
            f"it would silence known alarms: {', '.join(refused)}",
            remedy="Take out the recordings that sound like them; or, if these alarms were false, "
            f"repeat with {' '.join(f'--force {alarm}' for alarm in refused)}.",
        )
    # On the axis of the new bank: what is said of them is held against its threshold.
    sight = None if parent.sight is None else rescored(parent.sight, bundle.faults, scorer)
    tell("writing")
    origin = parent.growth.origin if parent.growth else parent.digest
    with (
        private_copy(bundle.path, vouch=partial(_unchanged, parent)) as copy,
        versions.new() as (number, folder),
    ):
        growth = BankVersion(
            version=number,
            origin=origin,
            parent=parent.digest,
            change=draft.change,
            added=draft.added,
            removed=draft.removed,
            forced=tuple(sorted(set(silenced) & set(forced))),
        )
        manifest = _manifest(
            parent, draft, fitted, growth, None if gate is None else gate.config, sight
        )
        indexes = _write(folder, copy.folder, parent.files, draft, fitted)
        manifest = manifest.model_copy(update={"indexes": indexes})
        if parent.parity is not None:
            # The embeddings that its graphs must give stay; what the new bank scores for them not.
            parity = renew_scores(
                folder, parent.parity, scorer, fitted.healthy_scores, fitted.threshold.value
            )
            manifest = manifest.model_copy(update={"parity": parity})
        sign(folder, seal(folder, manifest).digest)
        # What the agent does first: nothing becomes a version that it would refuse.
        digest = _as_written(folder, draft, scorer)
    untold = _NO_FAULTS if bundle.faults is None and parent.sight != sight else ""
    notes = tuple(
        text for text in (note, gate_note, untold, *fitted.notes, *index_notes(indexes)) if text
    )
    return Report(
        number, len(draft.rows), draft.added, draft.removed, parent.threshold, fitted.threshold,
        rise, novel or 0.0, tuple(verdicts), notes, digest,
    )  # fmt: skip


def _fit(draft: Draft, bundle: Bundle) -> FittedScorer:
    """The parent's scorer and threshold rule, applied to the draft's rows."""
    parent = bundle.manifest
    healthy = HealthySet(draft.vectors, draft.rows)
    try:
        return fit_scorer(
            healthy,
            parent.scorer,
            rule_of(parent.threshold),
            window_seconds=parent.window_seconds,
            uncounted=_uncounted(draft, bundle),
        )
    except WorkstationError as fault:
        if not draft.added and not draft.removed and bundle.healthy is not None:
            # Only the idle gate changes.
            return FittedScorer(
                parent.scorer, bundle.state, bundle.healthy.scores, parent.threshold, ()
            )
        raise GrowthError(fault.problem, remedy=fault.remedy) from fault
    except AuscultError as fault:
        raise GrowthError(fault.problem, remedy=fault.remedy) from fault


def _uncounted(draft: Draft, bundle: Bundle) -> npt.NDArray[np.bool_]:
    """Rows that calibrate nothing.

    Windows of answered alarms, which were chosen for their scores, and what calibrated nothing in
    the parent: recordings that an autoencoder has learnt to restore.
    """
    silent: set[tuple[str, float]] = set()
    if bundle.healthy is not None:
        known = np.isfinite(bundle.healthy.scores)
        silent = {
            (row.source, row.start)
            for row, counts in zip(bundle.healthy.rows, known, strict=True)
            if not counts
        }
    return np.array(
        [row.domain == ANSWERED or (row.source, row.start) in silent for row in draft.rows]
    )


def rule_of(threshold: Threshold) -> ThresholdRule:
    """What a threshold was asked to be; older bundles tell only how it was found."""
    if threshold.rule is not None:
        return threshold.rule
    return ThresholdRule(
        false_alarm_rate=threshold.false_alarm_rate, sure="confidence" in threshold.method
    )


def _gate(draft: Draft, fitted: FittedScorer) -> tuple[IdleGate | None, str]:
    """The idle gate, fitted anew to the healthy rows as they now are."""
    if not draft.gate_rows:
        return None, ""
    space = space_of(fitted.config, draft.vectors)
    config, note = fit_gate(
        draft.gate_vectors,
        [row.group for row in draft.gate_rows],
        draft.vectors,
        [row.group for row in draft.rows],
        space,
    )
    if config is None:
        return None, note
    ready = space.prepare(draft.vectors)
    return IdleGate(draft.gate_vectors, ready, space, config), note


def _finds_itself(draft: Draft) -> None:
    """Every new row must be found as its own nearest: else it was mixed up on the way."""
    if not draft.added:
        return
    plain = np.tile(np.array([1.0, 0.0], np.float32), (len(draft.rows), 1))
    config = KnnConfig(metric="euclidean", normalization="none")
    found = KnnScorer(MemoryBank(draft.vectors, plain, draft.rows), config)
    new = draft.vectors[-draft.added :]
    _, nearest = found.score(new)
    apart = np.linalg.norm(draft.vectors[nearest] - new, axis=1)
    size = np.maximum(np.linalg.norm(new, axis=1), 1e-12)
    lost = np.flatnonzero(apart > 1e-3 * size)
    if len(lost):
        row = draft.rows[len(draft.rows) - draft.added + int(lost[0])]
        raise GrowthError(
            f"{plural(len(lost), 'new row')} not found in the new bank (first: {row.source})",
            remedy="Report this: the bank would not be what was recorded.",
        )


def _manifest(
    parent: Manifest,
    draft: Draft,
    fitted: FittedScorer,
    growth: BankVersion,
    gate: Gate | None,
    sight: SightInfo | None,
) -> Manifest:
    trained = parent.trained_on.model_copy(update={"level_dbfs": draft.level_dbfs})
    return parent.model_copy(
        update={
            "schema_version": SCHEMA_VERSION,
            "auscult_version": __version__,
            "created": datetime.now(timezone.utc).isoformat(timespec="seconds"),
            "scorer": fitted.config,
            "threshold": fitted.threshold,
            "scale": scale_info(fitted.threshold, fitted.healthy_scores),
            "sight": sight,
            "trained_on": trained,
            "growth": growth,
            "gate": gate,
            "files": {},
            "digest": "",
        }
    )


def _write(
    folder: Path,
    parent: Path,
    listed: Collection[str],
    draft: Draft,
    fitted: FittedScorer,
) -> dict[str, IndexInfo]:
    """Write every file but the manifest: the bank anew, the rest from its parent.

    Returns:
        What the manifest tells of the indexes of large banks, by file.
    """
    for name in listed:
        if name not in _REMADE and not is_state_file(name):
            # Copied, not linked: writing over the exported file must not reach the versions.
            shutil.copyfile(parent / name, folder / name)
    np.save(folder / BANK, draft.vectors, allow_pickle=False)
    np.save(folder / HEALTHY_SCORES, fitted.healthy_scores, allow_pickle=False)
    write_json(folder / ROWS, [row.model_dump(mode="json") for row in draft.rows])
    if draft.gate_rows:
        np.save(folder / GATE, draft.gate_vectors, allow_pickle=False)
        write_json(folder / GATE_ROWS, [row.model_dump(mode="json") for row in draft.gate_rows])
    return write_scorer(
        folder,
        fitted.config,
        HealthySet(draft.vectors, draft.rows),
        fitted.state,
        parent=parent,
    )


def _unchanged(parent: Manifest, head: Head) -> None:
    """What is copied to the version is what was opened, whatever lies there by now."""
    if head.manifest.digest != parent.digest:
        raise BundleError(
            "the bundle in use was replaced meanwhile", remedy="Repeat this to grow the new one."
        )


def _as_written(folder: Path, draft: Draft, scorer: Scorer) -> str:
    """Open the version as the agent will, and hold it to what was calibrated; gives its digest."""
    opened = open_bundle(folder)
    try:
        some = draft.vectors[:: max(1, len(draft.vectors) // 64)]
        wanted, _ = scorer.score(some)
        found, _ = opened.scorer.score(some)
        if not np.allclose(wanted, found, atol=1e-4, rtol=1e-3):
            raise GrowthError(
                "the version as written does not score as it was calibrated",
                where=folder,
                remedy="Check the disk, and repeat.",
            )
        return opened.manifest.digest
    finally:
        opened.close()
