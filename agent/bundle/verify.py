"""Verifies a bundle: every byte of it, before any of it is loaded."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
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
}
# A plain name inside the folder: nothing that could lead out of it.
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_MANIFEST_LIMIT = 16 * 2**20  # bytes; a real one has a few kilobytes
COPY_AGAIN = "The bundle was altered or cut short: copy it again, or export it again."


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
        if place.is_symlink():
            raise BundleError("is a link, and a bundle has none", where=place, remedy=COPY_AGAIN)
        with place.open("rb") as file:
            text = file.read(_MANIFEST_LIMIT + 1)
        if len(text) > _MANIFEST_LIMIT:
            raise BundleError("is far too large for a manifest", where=place, remedy=COPY_AGAIN)
        data = json.loads(text, object_pairs_hook=_each_once)
    except FileNotFoundError as fault:
        raise BundleError(
            f"there is no {MANIFEST} in this folder",
            where=path,
            remedy="It is not a bundle, or its export did not finish: export it again.",
        ) from fault
    except OSError as fault:
        raise BundleError(f"cannot be read: {fault.strerror}", where=place) from fault
    except (ValueError, RecursionError) as fault:
        raise BundleError(f"is not JSON: {fault}", where=place, remedy=COPY_AGAIN) from fault
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
        raise BundleError(explain(fault), where=place, remedy=COPY_AGAIN) from fault
    if digest_of(data) != manifest.digest:
        raise BundleError(
            "is not the manifest that was exported (its digest differs)",
            where=place,
            remedy=COPY_AGAIN,
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
        raise BundleError(f"files: lists no {', '.join(absent)}", where=place, remedy=COPY_AGAIN)
    # JSON as Python reads it may hold NaN, and nothing is ever above a NaN: no alarm would come.
    for field, value in (
        ("threshold.value", manifest.threshold.value),
        ("threshold.clip_value", manifest.threshold.clip_value),
        ("window_seconds", manifest.window_seconds),
        ("hop_seconds", manifest.hop_seconds),
        ("clip_hop_seconds", manifest.clip_hop_seconds),
    ):
        if not math.isfinite(value):
            raise BundleError(f"{field}: is {value}", where=place, remedy=COPY_AGAIN)
    try:
        json.dumps([manifest.scorer.model_dump()], allow_nan=False)
    except ValueError as fault:
        raise BundleError(
            "scorer: holds a number that is not finite", where=place, remedy=COPY_AGAIN
        ) from fault
    named = [] if manifest.float_encoder is None else [manifest.float_encoder]
    for graph in () if manifest.parity is None else manifest.parity.graphs:
        named += [graph.graph, graph.embeddings, graph.scores]
    if lacking := [name for name in named if name not in manifest.files]:
        raise BundleError(f"files: lists no {', '.join(lacking)}", where=place, remedy=COPY_AGAIN)
    samples = manifest.window_seconds * manifest.encoder.sample_rate
    if abs(samples - manifest.encoder.window_samples) > 1:
        raise BundleError(
            f"encoder.window_samples: {manifest.encoder.window_samples} is not window_seconds "
            f"{manifest.window_seconds:g} at {manifest.encoder.sample_rate} Hz",
            where=place,
            remedy=COPY_AGAIN,
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
        if place.is_symlink():
            raise BundleError("is a link, and a bundle has none", where=place, remedy=COPY_AGAIN)
        if not place.is_file():
            raise BundleError("is missing from the bundle", where=place, remedy=COPY_AGAIN)
        try:
            size = place.stat().st_size
            if size != record.size:
                raise BundleError(
                    f"has {size} bytes where the manifest says {record.size}",
                    where=place,
                    remedy=COPY_AGAIN,
                )
            digest = _sha256(place)
        except OSError as fault:
            raise BundleError(f"cannot be read: {fault.strerror}", where=place) from fault
        if digest != record.sha256:
            raise BundleError(
                "is not the file that was exported (its SHA-256 differs from the manifest's)",
                where=place,
                remedy=COPY_AGAIN,
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
