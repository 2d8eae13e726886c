"""A tiny bundle that has a drift baseline, and a machine whose sound changes slowly."""

from __future__ import annotations

import shutil
from functools import cache
from pathlib import Path

import numpy as np

from agent.bundle.manifest import DRIFT, DriftInfo
from agent.bundle.seal import seal
from agent.deploy.load import open_bundle
from agent.drift.baseline import Baseline, save_baseline
from agent.drift.evolve import evolved_distance
from support.bundles import DIM, HEALTHY_HZ, RATE, WINDOW

WINDOWS = 96


def machine(windows: int, *, seed: int, wear=0.0) -> np.ndarray:
    """Two tones with independently varying loudness, and noise.

    Args:
        windows: Length, windows of one second.
        seed: Of its chance.
        wear: Amplitude of a growing third tone, at the end or window by window.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(windows * WINDOW) / RATE
    wear = np.repeat(np.broadcast_to(wear, windows), WINDOW)

    def loud():
        return np.repeat(1 + 0.08 * rng.standard_normal(windows), WINDOW)

    sound = 0.1 * loud() * np.sin(2 * np.pi * HEALTHY_HZ * time)
    sound += 0.05 * loud() * np.sin(2 * np.pi * 900 * time)
    sound += wear * np.sin(2 * np.pi * 1310 * time)
    sound += 0.01 * loud() * rng.standard_normal(len(time))
    return sound.astype(np.float32)


@cache
def _fitted(bundle: Path, seed: int) -> Baseline:
    from agent.drift_fit.fit import fit_baseline
    from agent.drift_fit.settings import DriftSettings, embedding_tolerance

    opened = open_bundle(bundle)
    features = opened.encoder.encode(machine(WINDOWS, seed=seed).reshape(-1, WINDOW))
    opened.close()
    return fit_baseline(
        features.astype(np.float64),
        names=[f"embedding {index}" for index in range(DIM)],
        unit="",
        source="tiny",
        tolerance=embedding_tolerance(DIM),
        settings=DriftSettings(mixtures=100, block=8),
    ).baseline


def add_baseline(bundle: Path, folder: Path, *, seed: int = 0) -> Path:
    """A copy of a bundle with a drift baseline fitted to its own embeddings of `machine`."""
    shutil.copytree(bundle, folder)
    baseline = _fitted(bundle, seed)
    opened = open_bundle(folder)
    opened.close()
    save_baseline(baseline, folder / DRIFT)
    info = DriftInfo(
        components=len(baseline.record.mixture.logits),
        dims=len(baseline.record.mixture.means[0]),
        block=baseline.record.block,
        step_seconds=1.0,
        threshold=baseline.record.threshold,
        windows=WINDOWS,
        recordings=1,
    )
    # Alarms of single windows are not what is tested here.
    threshold = opened.manifest.threshold.model_copy(update={"value": 99.0})
    seal(folder, opened.manifest.model_copy(update={"drift": info, "threshold": threshold}))
    return folder


def block_distance(baseline: Baseline, features: np.ndarray) -> float:
    """KL bound of the mixture that windows `(n, D)` make to the baseline's, nats."""
    reduced = baseline.reducer.reduce(features.astype(np.float64))
    return evolved_distance(baseline.mixture, reduced, baseline.noise)
