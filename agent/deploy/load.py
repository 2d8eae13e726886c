"""Opens a bundle that was verified: what each of its files is loaded as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from agent.activity.levels import BANDS
from agent.activity.still import StillFrames, StillGate
from agent.bundle.files import state_file
from agent.bundle.manifest import (
    BANK,
    BODY,
    DRIFT,
    ENCODER,
    ENCODER_DATA,
    FAULTS,
    FRAMES,
    GATE,
    HEALTHY_SCORES,
    HEALTHY_SPECTRUM,
    MANIFEST,
    PATCH_FILES,
    ROWS,
    STILL_FILES,
    Manifest,
    Row,
)
from agent.bundle.plain import altered
from agent.bundle.private import SealedCopy, private_copy
from agent.bundle.rows import read_rows
from agent.calibrate.limits import HealthyScores, Significance, significance
from agent.config.encode import InferenceConfig
from agent.core.errors import AuscultError, BundleError
from agent.core.records import Matrix
from agent.deploy.parity import Parity, agreeing_encoder
from agent.drift.baseline import Baseline, DriftError, load_baseline
from agent.encode.frames import Encoder
from agent.encode.onnx import OnnxEncoder
from agent.explain.patches import HealthyPatches
from agent.explain.spectrum import HealthySpectrum
from agent.score.build import build_scorer, read_indexes, read_state
from agent.score.gate import IdleGate
from agent.score.knn import EXACT_UP_TO, KnnScorer
from agent.score.mapped import map_array
from agent.score.scorer import HealthySet, Scorer, State, StateError
from agent.score.space import space_of


@dataclass(frozen=True, slots=True)
class Bundle:
    """An opened bundle.

    Attributes:
        manifest: What the bundle says of itself.
        encoder: Its encoder, started.
        scorer: Its scorer, ready to score.
        bank: Its healthy windows: embeddings and where each came from.
        path: Its folder.
        state: What its scorer learnt of them.
        healthy: Its healthy scores; None when it was exported without.
        gate: Tells an idle machine; None when it was exported without.
        still: Tells its half seconds from a running one's; None when it was exported without.
        drift: What the machine's drift is measured from; None when it was exported without.
        significance: Gives p-values; None unless its threshold is conformal.
        spectrum: What healthy sound is like, for explanations; None when it was exported without.
        patches: The same as the encoder sees it; None of an encoder without patches.
        parity: How its answers here agree with those at export; None of older bundles.
        faults: Embeddings of the faults that its manifest tells scores of, float32
            `(faults, dim)`; None when it was exported without.
    """

    manifest: Manifest
    encoder: Encoder
    scorer: Scorer
    bank: HealthySet
    path: Path
    state: State
    healthy: HealthyScores | None = None
    gate: IdleGate | None = None
    still: StillGate | None = None
    drift: Baseline | None = None
    significance: Significance | None = None
    spectrum: HealthySpectrum | None = None
    patches: HealthyPatches | None = None
    parity: Parity | None = None
    faults: Matrix | None = None

    @property
    def rows(self) -> Sequence[Row]:
        """Where each row of the bank came from."""
        return self.bank.rows

    @property
    def fallback(self) -> str:
        """Why its float32 graph judges; empty when the exported one does, as it should."""
        return "" if self.parity is None else self.parity.fallback

    def close(self) -> None:
        """Free the encoder's session."""
        self.encoder.stop()


def encoder_of(
    path: Path,
    manifest: Manifest,
    *,
    threads: int | None = None,
    inference: InferenceConfig | None = None,
    cache: Path | None = None,
    graph: str = ENCODER,
    framed: bool | None = None,
    shown: Path | None = None,
) -> OnnxEncoder:
    """An encoder of one graph of a bundle, not started yet.

    Args:
        path: The bundle's folder.
        manifest: What it says of itself.
        threads: As of `load`.
        inference: As of `load`.
        cache: As of `load`.
        graph: The graph's file.
        framed: Whether in parts as well; where the bundle has them when None.
        shown: The folder that messages name; `path` when None.
    """
    return OnnxEncoder(
        path / graph,
        manifest.encoder,
        threads=threads,
        inference=inference,
        cache=cache,
        framed={FRAMES, BODY} <= set(manifest.files) if framed is None else framed,
        shown=None if shown is None else shown / graph,
        digests=_graph_digests(manifest),
    )


def _graph_digests(manifest: Manifest) -> dict[str, str]:
    """Digest of each graph of a bundle by its name, that of the file beside it included."""
    found = {name: one.sha256 for name, one in manifest.files.items() if name.endswith(".onnx")}
    if ENCODER in found and ENCODER_DATA in manifest.files:
        both = found[ENCODER] + manifest.files[ENCODER_DATA].sha256
        found[ENCODER] = sha256(both.encode()).hexdigest()
    return found


def open_bundle(path: Path, *, threads: int | None = None) -> Bundle:
    """Verify a bundle and make it ready to score, from a private copy of its bytes.

    Args:
        path: The bundle's folder.
        threads: Threads one inference may use; one when None.

    Returns:
        The bundle, its encoder started and warmed up.

    Raises:
        BundleError: A file is missing, altered or not what the manifest says, or no graph gives
            the answers here that it gave at export.
    """
    with private_copy(path) as copy:
        return load(copy, threads=threads)


def load(
    copy: SealedCopy,
    *,
    threads: int | None = None,
    inference: InferenceConfig | None = None,
    cache: Path | None = None,
) -> Bundle:
    """Make a bundle ready to score that was verified; its copy need not outlive this.

    Args:
        copy: Its bytes.
        threads: Threads one inference may use; what `inference` says when None.
        inference: How the encoder is run.
        cache: Folder for what an execution provider makes of the graph; None keeps nothing.

    Raises:
        BundleError: As `open_bundle`.
    """
    path, manifest = copy.folder, copy.manifest
    vectors = _array(path / BANK, manifest.encoder.dim, "(rows, encoder.dim)")
    rows = read_rows(path / ROWS)
    if not len(vectors) == len(rows) > 0:
        raise altered(
            f"{BANK} and {ROWS} hold {len(vectors)} and {len(rows)} rows: not the same number, or "
            "none",
            path,
        )
    bank, state = HealthySet(vectors, rows), read_state(path, manifest.files)
    scorer = _scorer(path, manifest, bank, state)
    encoder, parity = agreeing_encoder(
        path,
        manifest,
        scorer,
        lambda graph, framed: encoder_of(
            path, manifest, threads=threads, inference=inference, cache=cache,
            graph=graph, framed=framed, shown=copy.source,
        ),
        shown=copy.source,
    )  # fmt: skip
    healthy, rule = _healthy(path, manifest, rows), manifest.threshold.rule
    return Bundle(
        manifest,
        encoder,
        scorer,
        bank,
        copy.source,
        state,
        healthy=healthy,
        gate=_gate(path, manifest, scorer, bank),
        still=_still(path, manifest),
        drift=_drift(path, manifest),
        significance=None
        if healthy is None or rule is None
        else significance(healthy, rule, manifest.scorer.clip),
        spectrum=_spectrum(path, manifest),
        patches=_patches(path, manifest),
        parity=parity,
        faults=_faults(path, manifest),
    )


def _scorer(path: Path, manifest: Manifest, bank: HealthySet, state: State) -> Scorer:
    try:
        scorer = build_scorer(manifest.scorer, bank, state, read_indexes(path, manifest.files))
        scorer.start()
    except StateError as fault:
        raise BundleError(
            fault.problem, where=path / state_file(fault.name), remedy=fault.remedy
        ) from fault
    except BundleError:  # an index, which names itself
        raise
    except AuscultError as fault:
        raise altered(fault.problem, path) from fault
    except (ValueError, RuntimeError) as fault:
        raise BundleError(f"the scorer cannot be used: {fault}", where=path) from fault
    return scorer


def _healthy(path: Path, manifest: Manifest, rows: Sequence[Row]) -> HealthyScores | None:
    if HEALTHY_SCORES not in manifest.files:
        return None
    place = path / HEALTHY_SCORES
    scores = _load(place)
    # NaN is allowed: what could not be scored for want of other recordings.
    if getattr(scores, "dtype", None) != np.float32 or scores.shape != (len(rows),):
        raise altered(f"should hold float32 ({len(rows)},), one score a row", place)
    return HealthyScores(scores, rows)


def _gate(path: Path, manifest: Manifest, scorer: Scorer, bank: HealthySet) -> IdleGate | None:
    config = manifest.gate
    if config is None:
        return None
    if GATE not in manifest.files or not math.isfinite(config.margin + config.reach):
        raise altered(f"gate: needs {GATE} and finite numbers", path / MANIFEST)
    vectors = _array(path / GATE, manifest.encoder.dim, "(rows, encoder.dim)")
    if len(vectors) != config.rows:
        raise altered(
            f"holds {len(vectors)} rows where the manifest says {config.rows}", path / GATE
        )
    space = space_of(manifest.scorer, bank.vectors)
    # A nearest-neighbour scorer has prepared its bank already: shared, not copied. A large one
    # stays in its file.
    if isinstance(scorer, KnnScorer) and scorer.indexed:
        return IdleGate(vectors, scorer.nearest, space, config)
    ready = scorer.ready if isinstance(scorer, KnnScorer) else space.prepare(bank.vectors)
    return IdleGate(vectors, ready, space, config)


def _still(path: Path, manifest: Manifest) -> StillGate | None:
    config = manifest.still
    if config is None:
        return None
    if not set(STILL_FILES) <= set(manifest.files) or not math.isfinite(
        config.margin + config.reach
    ):
        raise altered(
            f"still: needs {' and '.join(STILL_FILES)} and finite numbers", path / MANIFEST
        )
    still, running = (_array(path / name, BANDS, "(half seconds, bands)") for name in STILL_FILES)
    if not len(still) or not len(running):
        raise altered("holds no half second", path / STILL_FILES[0])
    return StillGate(StillFrames(still, running, config))


def _drift(path: Path, manifest: Manifest) -> Baseline | None:
    if manifest.drift is None:
        return None
    place = path / DRIFT
    if DRIFT not in manifest.files or not math.isfinite(manifest.drift.step_seconds):
        raise altered(f"drift: needs {DRIFT} and finite numbers", path / MANIFEST)
    try:
        baseline = load_baseline(place)
    except DriftError as fault:
        raise altered(fault.problem, place) from fault
    features, threshold = len(baseline.record.features), baseline.record.threshold
    if features != manifest.encoder.dim or not math.isfinite(threshold):
        raise altered(
            f"is of {features} features and threshold {threshold:g}, where the encoder gives "
            f"{manifest.encoder.dim}",
            place,
        )
    return baseline


def _spectrum(path: Path, manifest: Manifest) -> HealthySpectrum | None:
    if HEALTHY_SPECTRUM not in manifest.files:
        return None
    place = path / HEALTHY_SPECTRUM
    try:
        return HealthySpectrum.of(_load(place), manifest.encoder.sample_rate)
    except (ValueError, AttributeError) as fault:
        raise altered(str(fault), place) from fault


def _patches(path: Path, manifest: Manifest) -> HealthyPatches | None:
    if not set(PATCH_FILES) <= set(manifest.files):
        return None
    try:
        return HealthyPatches.of(*(_load(path / name) for name in PATCH_FILES))
    except (ValueError, AttributeError) as fault:
        raise altered(str(fault), path / PATCH_FILES[0]) from fault


def _faults(path: Path, manifest: Manifest) -> Matrix | None:
    sight = manifest.sight
    if FAULTS not in manifest.files or sight is None:
        return None
    found = _array(path / FAULTS, manifest.encoder.dim, "(faults, encoder.dim)")
    told = len(sight.planted) + len(sight.recorded)
    if len(found) != told:
        raise altered(
            f"holds {len(found)} faults where the manifest tells of {told}", path / FAULTS
        )
    return found


def _array(path: Path, columns: int, shape: str) -> Matrix:
    """A finite float32 matrix with so many columns."""
    array = _load(path, mapped=True)
    fits = getattr(array, "dtype", None) == np.float32 and array.shape[1:] == (columns,)
    if fits and len(array) <= EXACT_UP_TO:
        # Of a bank that is compared row by row, every row is wanted for every window.
        array = np.ascontiguousarray(_load(path))
    if not fits or not _finite(array):
        found = f"{getattr(array, 'dtype', type(array))} {getattr(array, 'shape', '')}"
        raise BundleError(
            f"should hold finite float32 {shape}, {columns} columns, but holds {found}",
            where=path,
            remedy="Export the bundle again with `auscult export`.",
        )
    return array  # type: ignore[no-any-return]  # checked above


def _finite(array: Matrix) -> bool:
    """Whether every number is; a block at a time, since a mapped array may exceed the memory."""
    return all(
        bool(np.isfinite(array[at : at + EXACT_UP_TO]).all())
        for at in range(0, len(array), EXACT_UP_TO)
    )


def _load(path: Path, *, mapped: bool = False) -> Any:
    """An array of a file; read as it is used, when `mapped`."""
    try:
        return map_array(path) if mapped else np.load(path, allow_pickle=False)
    except Exception as fault:
        # NumPy reads a header with Python's own parser, whose errors are of many kinds.
        raise BundleError(f"is not a NumPy array: {fault}", where=path) from fault
