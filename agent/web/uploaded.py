"""What an uploaded bundle is beside the one in use: for somebody who is to decide."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import soxr

from agent.bundle.manifest import SIGNATURE, Manifest
from agent.bundle.verify import read_manifest
from agent.core.errors import AuscultError
from agent.core.text import local_time, plural
from agent.deploy.load import Bundle
from agent.evidence.ring import Clip
from agent.web.upload_models import Compared


def compared(now: Path, new: Path) -> list[Compared]:
    """Rows of what differs and what matters.

    Args:
        now: The machine's bundle; it may be missing.
        new: The one that was uploaded, verified.

    Raises:
        BundleError: The new one's manifest cannot be read.
    """
    try:
        there = _told(read_manifest(now), now)
    except AuscultError:
        there = {}
    return [
        Compared(what=what, now=there.get(what, ""), new=text)
        for what, text in _told(read_manifest(new), new).items()
    ]


def heard_words(bundle: Bundle, clip: Clip) -> str:
    """What the bundle makes of what was heard lately, in a sentence; empty of too little sound."""
    info = bundle.manifest.encoder
    sound = clip.samples
    if clip.rate != info.sample_rate:
        sound = soxr.resample(sound, clip.rate, info.sample_rate)
    count = len(sound) // info.window_samples
    if not count:
        return ""
    windows = np.ascontiguousarray(sound[: count * info.window_samples], np.float32)
    scores = [
        float(bundle.scorer.score(bundle.encoder.encode(window[None]))[0][0])
        for window in windows.reshape(count, info.window_samples)
    ]
    above = sum(score > bundle.manifest.threshold.value for score in scores)
    return (
        f"Of what was heard last ({plural(count, 'window')}), it finds {above} above its threshold"
    )


def _told(manifest: Manifest, folder: Path) -> dict[str, str]:
    trained, encoder, sight = manifest.trained_on, manifest.encoder, manifest.sight
    kept = None if sight is None else sight.kept
    return {
        "Made": local_time(manifest.created),
        "Machine": manifest.machine,
        "Preset": trained.preset,
        "Encoder": f"{encoder.kind}, {encoder.precision}",
        "Healthy sound": f"{plural(trained.recordings, 'recording')}, "
        f"{trained.seconds / 60:.0f} min",
        "Promise": "none" if kept is None else kept.words,
        "Windows above the threshold when healthy": f"{manifest.threshold.false_alarm_rate:.3g}",
        "Idle told apart": "no" if manifest.gate is None else "yes",
        "Watches drift": "no" if manifest.drift is None else "yes",
        "Signed": "yes" if (folder / SIGNATURE).is_file() else "no",
        "Size": f"{sum(one.size for one in manifest.files.values()) / 1e6:.1f} MB",
        "Digest": manifest.digest[:12],
    }
