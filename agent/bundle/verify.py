"""Verifies a bundle: every byte of it, before any of it is loaded."""

from __future__ import annotations

import json
import logging
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from agent.bundle.files import is_state_file
from agent.bundle.manifest import (
    BANK,
    BODY,
    DRIFT,
    ENCODER,
    ENCODER_DATA,
    FAULTS,
    FLOAT_ENCODER,
    FLOAT_PARITY_FILES,
    FRAMES,
    GATE,
    GATE_ROWS,
    HEALTHY_SCORES,
    HEALTHY_SOUND,
    HEALTHY_SOUND_INDEX,
    HEALTHY_SPECTRUM,
    MANIFEST,
    PARITY_FILES,
    PATCH_FILES,
    ROWS,
    SCHEMA_VERSION,
    SIGNATURE,
    STILL_FILES,
    Manifest,
    digest_of,
)
from agent.bundle.plain import Folder, altered, held_folder
from agent.core.errors import BundleError
from agent.core.schema import explain

log = logging.getLogger(__name__)

REQUIRED = (ENCODER, BANK, ROWS)
_KNOWN = {
    *REQUIRED,
    ENCODER_DATA,
    FRAMES,
    BODY,
    HEALTHY_SCORES,
    GATE,
    GATE_ROWS,
    DRIFT,
    HEALTHY_SOUND,
    HEALTHY_SOUND_INDEX,
    HEALTHY_SPECTRUM,
    *PATCH_FILES,
    *STILL_FILES,
    FLOAT_ENCODER,
    *PARITY_FILES,
    *FLOAT_PARITY_FILES,
    FAULTS,
}
# A plain name inside the folder: nothing that could lead out of it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_MANIFEST_LIMIT = 16 * 2**20  # bytes; a real one has a few kilobytes
_SIGNATURE_LIMIT = 64 * 1024


@dataclass(frozen=True, slots=True)
class Head:
    """What a bundle says of itself, and who vouches for that: read once, and used as read.

    Attributes:
        manifest: Its manifest, validated.
        text: The bytes of `manifest.json`, which a signature is of.
        signature: The bytes of `manifest.sig`; None without one.
    """

    manifest: Manifest
    text: bytes
    signature: bytes | None


def read_manifest(path: Path) -> Manifest:
    """Read and validate `manifest.json`; the files it names are not looked at.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: It is missing, unreadable, too new, misspelt, or names a file elsewhere.
    """
    with held_folder(path) as folder:
        return _manifest(manifest_text(folder), path / MANIFEST)


def read_head(folder: Folder) -> Head:
    """Read a bundle's manifest and signature.

    Raises:
        BundleError: As `read_manifest`; or the signature is no plain file.
    """
    text = manifest_text(folder)
    return Head(_manifest(text, folder.path / MANIFEST), text, signature_text(folder))


def manifest_text(folder: Folder) -> bytes:
    """The bytes of `manifest.json`.

    Raises:
        BundleError: It is missing, no plain file, or far too large.
    """
    try:
        return folder.read(MANIFEST, _MANIFEST_LIMIT)
    except FileNotFoundError as fault:
        raise BundleError(
            f"there is no {MANIFEST} in this folder",
            where=folder.path,
            remedy="It is not a bundle, or its export did not finish: export it again.",
        ) from fault


def signature_text(folder: Folder) -> bytes | None:
    """The bytes of `manifest.sig`; None without one.

    Raises:
        BundleError: It is no plain file, or far too large.
    """
    try:
        return folder.read(SIGNATURE, _SIGNATURE_LIMIT)
    except FileNotFoundError:
        return None


def _manifest(text: bytes, place: Path) -> Manifest:
    try:
        data = json.loads(text, object_pairs_hook=_each_once)
    except (ValueError, RecursionError) as fault:
        raise altered(f"is not JSON: {fault}", place) from fault
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
        raise altered(explain(fault), place) from fault
    if digest_of(data) != manifest.digest:
        raise altered("is not the manifest that was exported (its digest differs)", place)
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
        raise altered(f"files: lists no {', '.join(absent)}", place)
    # JSON as Python reads it may hold NaN, and nothing is ever above a NaN: no alarm would come.
    for field, value in (
        ("threshold.value", manifest.threshold.value),
        ("threshold.clip_value", manifest.threshold.clip_value),
        ("window_seconds", manifest.window_seconds),
        ("hop_seconds", manifest.hop_seconds),
        ("clip_hop_seconds", manifest.clip_hop_seconds),
    ):
        if not math.isfinite(value):
            raise altered(f"{field}: is {value}", place)
    try:
        json.dumps([manifest.scorer.model_dump()], allow_nan=False)
    except ValueError as fault:
        raise altered("scorer: holds a number that is not finite", place) from fault
    graphs = [] if manifest.float_encoder is None else [manifest.float_encoder]
    named = list(graphs)
    for graph in () if manifest.parity is None else manifest.parity.graphs:
        named += [graph.graph, graph.embeddings, graph.scores]
        graphs.append(graph.graph)
    if lacking := [name for name in named if name not in manifest.files]:
        raise altered(f"files: lists no {', '.join(lacking)}", place)
    for name in graphs:
        if not name.endswith(".onnx"):  # another ending, and it is read as another format
            raise altered(f"'{name}' is not the name of a graph", place)
    samples = manifest.window_seconds * manifest.encoder.sample_rate
    if abs(samples - manifest.encoder.window_samples) > 1:
        raise altered(
            f"encoder.window_samples: {manifest.encoder.window_samples} is not window_seconds "
            f"{manifest.window_seconds:g} at {manifest.encoder.sample_rate} Hz",
            place,
        )


def verify_bundle(path: Path) -> Manifest:
    """Check that every file is there with the length and SHA-256 that the manifest states.

    A file that the manifest does not list is never read; its presence is logged.

    Args:
        path: The bundle's folder.

    Raises:
        BundleError: Naming the first file that is missing, cut short or altered.
    """
    with held_folder(path) as folder:
        manifest = _manifest(manifest_text(folder), path / MANIFEST)
        for name, record in manifest.files.items():
            folder.hold(name, record)
        tell_others(folder, manifest)
    return manifest


def tell_others(folder: Folder, manifest: Manifest) -> None:
    """Log what lies in a folder and the manifest does not list, and what it lists for others."""
    extra = sorted(folder.names() - set(manifest.files) - {MANIFEST, SIGNATURE})
    if extra:
        log.info("%s: ignoring what the manifest does not list: %s", folder.path, ", ".join(extra))
    unknown = sorted(
        name for name in manifest.files if name not in _KNOWN and not is_state_file(name)
    )
    if unknown:
        log.info("%s: this auscult has no use for %s", folder.path, ", ".join(unknown))
