"""Where the test recordings lie among the healthy ones: embeddings on their principal plane."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from agent.bundle.manifest import BANK
from agent.capture.files import read_audio
from agent.core.errors import AudioError
from agent.core.records import Matrix, Validity
from agent.deploy.load import Bundle, open_bundle
from agent.recordings.model import ANOMALY, Machine
from agent.score.bank import prepare
from agent.window.clip import clip_windows
from agent.window.validity import assess
from trainer.report.paint import FAULTY, HEALTHY, OTHER, draw, scatter

# Recordings drawn: more make the picture no clearer and take their time.
_MOST = 100
_COLOURS = {"memory bank": "#BBBBBB", "normal": HEALTHY, "normal, target": OTHER, "anomaly": FAULTY}


def draw_map(folder: Path, machine: Machine, *, channel: int | None) -> bytes | None:
    """A PNG of the bank's rows and the test recordings' windows; None without test recordings.

    Args:
        folder: The bundle.
        machine: Its test recordings, evenly thinned, are shown.
        channel: Channel of multi-channel recordings; None averages.
    """
    tests = sorted((r for r in machine.of("test") if r.label), key=lambda r: r.path)
    tests = [tests[i] for i in np.unique(np.linspace(0, len(tests) - 1, _MOST).astype(int))]
    bundle = open_bundle(folder, threads=2)
    try:
        # The file, not the scorer: not every scorer keeps the bank.
        bank = prepare(np.load(folder / BANK, allow_pickle=False), "cosine")
        points: dict[str, list[Matrix]] = {}
        for recording in tests:
            found = _first_window(bundle, recording.path, channel)
            if found is None:
                continue
            kind = str(recording.label)
            if kind != ANOMALY and recording.domain == "target":
                kind = "normal, target"
            points.setdefault(kind, []).append(prepare(found, "cosine"))
    finally:
        bundle.close()
    if not points or len(bank) < 3 or bank.shape[1] < 2:
        return None
    plane = PCA(2, random_state=0)
    joined = {name: np.concatenate(vectors) for name, vectors in points.items()}
    plane.fit(np.concatenate([bank, *joined.values()]))
    shares = plane.explained_variance_ratio_
    groups = {"memory bank": plane.transform(bank)}
    groups |= {name: plane.transform(joined[name]) for name in _COLOURS if name in joined}
    title = (
        "Embeddings at unit length on their principal plane, which holds "
        f"{100 * float(shares.sum()):.0f} % of the variance"
    )
    return draw((10, 4.6), scatter(groups, _COLOURS, title))


def _first_window(bundle: Bundle, path: Path, channel: int | None) -> Matrix | None:
    encoder = bundle.manifest.encoder
    try:
        sound = read_audio(
            path,
            rate=encoder.sample_rate,
            channel=channel,
            seconds=bundle.manifest.window_seconds,
        )
    except AudioError:
        return None
    cut = clip_windows(
        sound, window_samples=encoder.window_samples, hop_samples=encoder.window_samples
    )
    if not cut or assess(cut[0][1], encoder.sample_rate)[0] is not Validity.VALID:
        return None
    return bundle.encoder.encode(cut[0][1][None])
