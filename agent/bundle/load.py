"""Opens a bundle: every byte is verified before any of it is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from agent.bundle.manifest import (
    BANK,
    DRIFT,
    ENCODER,
    ENCODER_DATA,
    GATE,
    GATE_ROWS,
    HEALTHY_SCORES,
    HEALTHY_SPECTRUM,
    MANIFEST,
    ROWS,
    SCHEMA_VERSION,
    SIGNATURE,
    Manifest,
    Row,
    digest_of,
)
from agent.drift.baseline import Baseline, DriftError, load_baseline
from agent.encode.onnx import CPU, OnnxEncoder
from agent.errors import AuscultError, BundleError
from agent.explain.spectrum import HealthySpectrum
from agent.frames import Matrix
from agent.schema import explain
from agent.score.bank import prepare
from agent.score.build import build_scorer, is_state_file, read_indexes, read_state, state_file
from agent.score.calibrate import HealthyScores, Significance, significance
from agent.score.config import neighbourhood
from agent.score.gate import IdleGate
from agent.score.knn import KnnScorer
from agent.score.scorer import HealthySet, Scorer, State, StateError

log = logging.getLogger(__name__)

REQUIRED = (ENCODER, BANK, ROWS)
_KNOWN = {*REQUIRED, ENCODER_DATA, HEALTHY_SCORES, GATE, GATE_ROWS, DRIFT, HEALTHY_SPECTRUM}
# A plain name inside the folder: nothing that could lead out of it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_MANIFEST_LIMIT = 16 * 2**20  # bytes; a real one has a few kilobytes
_COPY_AGAIN = "The bundle was altered or cut short: copy it again, or export it again."
_ROWS = TypeAdapter(tuple[Row, ...])


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
        drift: What the machine's drift is measured from; None when it was exported without.
        significance: Gives p-values; None unless its threshold is conformal.
        spectrum: What healthy sound is like, for explanations; None when it was exported without.
    """

    manifest: Manifest
    encoder: OnnxEncoder
    scorer: Scorer
    bank: HealthySet
    path: Path
    state: State
    healthy: HealthyScores | None = None
    gate: IdleGate | None = None
    drift: Baseline | None = None
    significance: Significance | None = None
    spectrum: HealthySpectrum | None = None

    @property
    def rows(self) -> Sequence[Row]:
        """Where each row of the bank came from."""
        return self.bank.rows

    def close(self) -> None:
        """Free the encoder's session."""
        self.encoder.stop()


def read_manifest(path: Path) -> Manifest:
    """Read and validate `manifest.json`; the files it names are not looked at.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: It is missing, unreadable, too new, misspelt, or names a file elsewhere.
    """
    place = path / MANIFEST
    if not path.is_dir():
        raise BundleError(
            "there is no bundle here" if not path.exists() else "a bundle is a folder, this is not",
            where=path,
            remedy="Give the folder that `auscult export --out` wrote.",
        )
    try:
        if place.stat().st_size > _MANIFEST_LIMIT:
            raise BundleError("is far too large for a manifest", where=place, remedy=_COPY_AGAIN)
        data = json.loads(place.read_bytes(), object_pairs_hook=_each_once)
    except FileNotFoundError as fault:
        raise BundleError(
            f"there is no {MANIFEST} in this folder",
            where=path,
            remedy="It is not a bundle, or its export did not finish: export it again.",
        ) from fault
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=place) from fault
    except (ValueError, RecursionError) as fault:
        raise BundleError(f"is not JSON: {fault}", where=place, remedy=_COPY_AGAIN) from fault
    version = data.get("schema_version") if isinstance(data, dict) else None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise BundleError(
            f"has schema version {version}, this auscult reads up to {SCHEMA_VERSION}",
            where=place,
            remedy="Install a newer auscult on this device.",
        )
    try:
        manifest = Manifest.model_validate(data)
    except ValidationError as fault:
        raise BundleError(explain(fault), where=place, remedy=_COPY_AGAIN) from fault
    if digest_of(data) != manifest.digest:
        raise BundleError(
            "is not the manifest that was exported (its digest differs)",
            where=place,
            remedy=_COPY_AGAIN,
        )
    _check(manifest, place)
    return manifest


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object as JSON, where a field given twice is an error and not the last one's win."""
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"'{max(names, key=names.count)}' is given twice")
    return found


def _check(manifest: Manifest, place: Path) -> None:
    """What the schema cannot say: names stay in the folder, numbers agree with each other."""
    for name in manifest.files:
        if not _NAME.fullmatch(name) or name in {MANIFEST, SIGNATURE}:
            raise BundleError(
                f"files: '{name}' is not the name of a file in this folder",
                where=place,
                remedy="Do not use this bundle: export it again.",
            )
    absent = [name for name in REQUIRED if name not in manifest.files]
    if absent:
        raise BundleError(f"files: lists no {', '.join(absent)}", where=place, remedy=_COPY_AGAIN)
    # JSON as Python reads it may hold NaN, and nothing is ever above a NaN: no alarm would come.
    for field, value in (
        ("threshold.value", manifest.threshold.value),
        ("threshold.clip_value", manifest.threshold.clip_value),
        ("window_seconds", manifest.window_seconds),
        ("hop_seconds", manifest.hop_seconds),
        ("clip_hop_seconds", manifest.clip_hop_seconds),
    ):
        if not math.isfinite(value):
            raise BundleError(f"{field}: is {value}", where=place, remedy=_COPY_AGAIN)
    try:
        json.dumps([manifest.scorer.model_dump()], allow_nan=False)
    except ValueError as fault:
        raise BundleError(
            "scorer: holds a number that is not finite", where=place, remedy=_COPY_AGAIN
        ) from fault
    samples = manifest.window_seconds * manifest.encoder.sample_rate
    if abs(samples - manifest.encoder.window_samples) > 1:
        raise BundleError(
            f"encoder.window_samples: {manifest.encoder.window_samples} is not window_seconds "
            f"{manifest.window_seconds:g} at {manifest.encoder.sample_rate} Hz",
            where=place,
            remedy=_COPY_AGAIN,
        )


def verify_bundle(path: Path) -> Manifest:
    """Check that every file is there with the length and SHA-256 that the manifest states.

    A file that the manifest does not list is never read; its presence is logged.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: Naming the first file that is missing, cut short or altered.
    """
    manifest = read_manifest(path)
    for name, record in manifest.files.items():
        place = path / name
        if not place.is_file():
            raise BundleError("is missing from the bundle", where=place, remedy=_COPY_AGAIN)
        try:
            size = place.stat().st_size
            if size != record.size:
                raise BundleError(
                    f"has {size} bytes where the manifest says {record.size}",
                    where=place,
                    remedy=_COPY_AGAIN,
                )
            digest = _sha256(place)
        except OSError as fault:
            raise BundleError(f"cannot be read: {fault.strerror}", where=place) from fault
        if digest != record.sha256:
            raise BundleError(
                "is not the file that was exported (its SHA-256 differs from the manifest's)",
                where=place,
                remedy=_COPY_AGAIN,
            )
    extra = sorted(
        {entry.name for entry in path.iterdir()} - set(manifest.files) - {MANIFEST, SIGNATURE}
    )
    if extra:
        log.info("%s: ignoring what the manifest does not list: %s", path, ", ".join(extra))
    unknown = sorted(
        name for name in manifest.files if name not in _KNOWN and not is_state_file(name)
    )
    if unknown:
        log.info("%s: this auscult has no use for %s", path, ", ".join(unknown))
    return manifest


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def open_bundle(path: Path, *, threads: int = 1, providers: Sequence[str] = (CPU,)) -> Bundle:
    """Verify a bundle and make it ready to score.

    Args:
        path: The bundle's folder.
        threads: Threads one inference may use.
        providers: onnxruntime execution providers, the preferred first.

    Returns:
        The bundle, its encoder started and warmed up.

    Raises:
        BundleError: A file is missing, altered or not what the manifest says.
    """
    manifest = verify_bundle(path)
    vectors = _array(path / BANK, manifest.encoder.dim, "(rows, encoder.dim)")
    rows = _rows(path / ROWS)
    if not len(vectors) == len(rows) > 0:
        raise BundleError(
            f"{BANK} and {ROWS} hold {len(vectors)} and {len(rows)} rows: not the same number, or "
            "none",
            where=path,
            remedy=_COPY_AGAIN,
        )
    bank, state = HealthySet(vectors, rows), read_state(path, manifest.files)
    scorer = _scorer(path, manifest, bank, state)
    encoder = OnnxEncoder(path / ENCODER, manifest.encoder, threads=threads, providers=providers)
    encoder.start()
    healthy, rule = _healthy(path, manifest, rows), manifest.threshold.rule
    return Bundle(
        manifest,
        encoder,
        scorer,
        bank,
        path,
        state,
        healthy=healthy,
        gate=_gate(path, manifest, scorer, bank),
        drift=_drift(path, manifest),
        significance=None
        if healthy is None or rule is None
        else significance(healthy, rule, manifest.scorer.clip),
        spectrum=_spectrum(path, manifest),
    )


def _scorer(path: Path, manifest: Manifest, bank: HealthySet, state: State) -> Scorer:
    try:
        scorer = build_scorer(manifest.scorer, bank, state, read_indexes(path, manifest.files))
        scorer.start()
    except StateError as fault:
        raise BundleError(
            fault.problem, where=path / state_file(fault.name), remedy=fault.remedy
        ) from fault
    except AuscultError as fault:
        raise BundleError(fault.problem, where=path, remedy=_COPY_AGAIN) from fault
    except (ValueError, RuntimeError) as fault:
        raise BundleError(f"the scorer cannot be used: {fault}", where=path) from fault
    return scorer


def _healthy(path: Path, manifest: Manifest, rows: tuple[Row, ...]) -> HealthyScores | None:
    if HEALTHY_SCORES not in manifest.files:
        return None
    place = path / HEALTHY_SCORES
    scores = _load(place)
    # NaN is allowed: what could not be scored for want of other recordings.
    if getattr(scores, "dtype", None) != np.float32 or scores.shape != (len(rows),):
        raise BundleError(
            f"should hold float32 ({len(rows)},), one score a row", where=place, remedy=_COPY_AGAIN
        )
    return HealthyScores(scores, rows)


def _gate(path: Path, manifest: Manifest, scorer: Scorer, bank: HealthySet) -> IdleGate | None:
    config = manifest.gate
    if config is None:
        return None
    if GATE not in manifest.files or not math.isfinite(config.margin + config.reach):
        raise BundleError(
            f"gate: needs {GATE} and finite numbers", where=path / MANIFEST, remedy=_COPY_AGAIN
        )
    vectors = _array(path / GATE, manifest.encoder.dim, "(rows, encoder.dim)")
    if len(vectors) != config.rows:
        raise BundleError(
            f"holds {len(vectors)} rows where the manifest says {config.rows}",
            where=path / GATE,
            remedy=_COPY_AGAIN,
        )
    metric, spans = neighbourhood(manifest.scorer)
    # A nearest-neighbour scorer has prepared its bank already: shared, not copied.
    ready = scorer.ready if isinstance(scorer, KnnScorer) else prepare(bank.vectors, metric, spans)
    return IdleGate(vectors, ready, metric, config, spans)


def _drift(path: Path, manifest: Manifest) -> Baseline | None:
    if manifest.drift is None:
        return None
    place = path / DRIFT
    if DRIFT not in manifest.files or not math.isfinite(manifest.drift.step_seconds):
        raise BundleError(
            f"drift: needs {DRIFT} and finite numbers", where=path / MANIFEST, remedy=_COPY_AGAIN
        )
    try:
        baseline = load_baseline(place)
    except DriftError as fault:
        raise BundleError(fault.problem, where=place, remedy=_COPY_AGAIN) from fault
    features, threshold = len(baseline.record.features), baseline.record.threshold
    if features != manifest.encoder.dim or not math.isfinite(threshold):
        raise BundleError(
            f"is of {features} features and threshold {threshold:g}, where the encoder gives "
            f"{manifest.encoder.dim}",
            where=place,
            remedy=_COPY_AGAIN,
        )
    return baseline


def _spectrum(path: Path, manifest: Manifest) -> HealthySpectrum | None:
    if HEALTHY_SPECTRUM not in manifest.files:
        return None
    place = path / HEALTHY_SPECTRUM
    try:
        return HealthySpectrum.of(_load(place), manifest.encoder.sample_rate)
    except (ValueError, AttributeError) as fault:
        raise BundleError(str(fault), where=place, remedy=_COPY_AGAIN) from fault


def _array(path: Path, columns: int, shape: str) -> Matrix:
    """A finite float32 matrix with so many columns."""
    array = _load(path)
    fits = getattr(array, "dtype", None) == np.float32 and array.shape[1:] == (columns,)
    if not fits or not np.isfinite(array).all():
        found = f"{getattr(array, 'dtype', type(array))} {getattr(array, 'shape', '')}"
        raise BundleError(
            f"should hold finite float32 {shape}, {columns} columns, but holds {found}",
            where=path,
            remedy="Export the bundle again with `auscult export`.",
        )
    return np.ascontiguousarray(array)


def _load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except Exception as fault:
        # NumPy reads a header with Python's own parser, whose errors are of many kinds.
        raise BundleError(f"is not a NumPy array: {fault}", where=path) from fault


def _rows(path: Path) -> tuple[Row, ...]:
    try:
        return _ROWS.validate_json(path.read_bytes())
    except ValidationError as fault:
        raise BundleError(explain(fault), where=path, remedy=_COPY_AGAIN) from fault
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=path) from fault
