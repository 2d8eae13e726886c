"""Where the test recordings lie among the healthy ones: embeddings on their principal plane."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.decomposition import PCA

from agent.bundle.manifest import BANK, Row
from agent.capture.files import read_audio
from agent.core.errors import AudioError
from agent.core.records import Matrix, Validity
from agent.deploy.load import Bundle, open_bundle
from agent.recordings.model import ANOMALY, Machine
from agent.report.charts import Group, Scatter, Tone
from agent.score.bank import prepare
from agent.window.clip import clip_windows
from agent.window.validity import assess
from export.clips import clip_name

# Recordings and rows of the bank drawn: more make the picture no clearer and take their time.
_MOST, _ROWS = 100, 1000
_BANK = "memory bank"
_TONES: dict[str, Tone] = {
    _BANK: "plain", "normal": "healthy", "normal, target": "other", "anomaly": "faulty",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Map:
    """What lies near what.

    Attributes:
        chart: The points.
        share: Of the variance that the plane holds.
    """

    chart: Scatter
    share: float


def map_of(folder: Path, machine: Machine, *, channel: int | None) -> Map | None:
    """The bank's rows and the test recordings' first windows; None without test recordings.

    Args:
        folder: The bundle.
        machine: Its test recordings, evenly thinned as the bank is, are shown.
        channel: Channel of multi-channel recordings; None averages.
    """
    tests = sorted((r for r in machine.of("test") if r.label), key=lambda r: r.path)
    tests = [tests[i] for i in _thinned(len(tests), _MOST)]
    bundle = open_bundle(folder, threads=2)
    try:
        # The file, not the scorer: not every scorer keeps the bank.
        bank = prepare(np.load(folder / BANK, allow_pickle=False), "cosine")
        kept = _thinned(len(bank), _ROWS)
        points: dict[str, list[Matrix]] = {_BANK: [bank[kept]]}
        names = {_BANK: [_row_name(bundle.rows[i]) for i in kept]}
        for recording in tests:
            found = _first_window(bundle, recording.path, channel)
            if found is None:
                continue
            kind = str(recording.label)
            if kind != ANOMALY and recording.domain == "target":
                kind = "normal, target"
            points.setdefault(kind, []).append(prepare(found, "cosine"))
            names.setdefault(kind, []).append(clip_name(machine, recording))
    finally:
        bundle.close()
    if len(points) < 2 or len(bank) < 3 or bank.shape[1] < 2:
        return None
    joined = {kind: np.concatenate(vectors) for kind, vectors in points.items()}
    plane = PCA(2, random_state=0).fit(np.concatenate(list(joined.values())))
    groups = [
        Group(kind, plane.transform(joined[kind]), tone, names[kind])
        for kind, tone in _TONES.items()
        if kind in joined
    ]
    share = float(plane.explained_variance_ratio_.sum())
    return Map(Scatter(groups, "first principal component", "second"), share)


def _thinned(count: int, most: int) -> list[int]:
    return [int(i) for i in np.unique(np.linspace(0, count - 1, min(most, count)).astype(int))]


def _row_name(row: Row) -> str:
    return f"{row.source} at {row.start:g} s"


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
