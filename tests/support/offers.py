"""Signed bundles of one machine, each newer than the one before, and offers of them."""

from __future__ import annotations

import hashlib
from pathlib import Path

from agent.bundle.offer import BundleOffer
from agent.bundle.seal import seal
from agent.bundle.sign import load_private, make_keys, sign_folder
from agent.bundle.verify import read_manifest
from plant.rollout.signing import OfferSigner
from support.bundles import build_bundle


def keys(folder: Path) -> Path:
    """The site's private key; its public half is beside it as `site.pub`."""
    make_keys(folder / "site.key", folder / "site.pub")
    return folder / "site.key"


def release(
    folder: Path, key: Path, counter: int, *, threshold: float = 0.05, machine: str = "pump"
) -> Path:
    """A bundle, signed."""
    build_bundle(folder, threshold=threshold)
    manifest = read_manifest(folder)
    limit = manifest.threshold.model_copy(update={"value": threshold})
    told = {"machine": machine, "counter": counter, "threshold": limit}
    seal(folder, manifest.model_copy(update=told))
    sign_folder(folder, load_private(key))
    return folder


def sha(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def offer_of(bundle: Path, key: Path, sequence: int, **changes: object) -> bytes:
    """The payload of an offer of a bundle to `line-1/pump`."""
    signer = OfferSigner(key)
    signer.start()
    told = {
        "sequence": sequence, "device": "line-1", "machine": "pump",
        "digest": read_manifest(bundle).digest,
        "manifest": sha(bundle / "manifest.json"), "signature": sha(bundle / "manifest.sig"),
    }  # fmt: skip
    return signer.sign(BundleOffer.model_validate({**told, **changes}))
