"""Growing a bundle of any scorer: what the device can fit anew it does, by the same rule."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from support.bundles import FAULTY_HZ, RATE, WINDOW, tone, write

from agent.bank.draft import GrowthError, draft_add
from agent.bank.grow import make_version, rule_of
from agent.bank.sound import Embedded, embed_sound, find_sound
from agent.bundle.manifest import BANK, HEALTHY_SCORES, ROW_CONSTANTS, ROWS, Row
from agent.bundle.seal import seal
from agent.calibrate.fit import fit_scorer
from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_density import (
    CoveringConfig,
    DensitySoftmaxConfig,
    MahalanobisConfig,
    MixtureConfig,
)
from agent.config.scorer_knn import KnnConfig
from agent.config.threshold import AlarmPromise, ThresholdRule
from agent.core.storage import write_json
from agent.deploy.load import open_bundle
from agent.deploy.versions import Versions, beside
from agent.offline.clips import score_clip
from agent.score.build import write_scorer
from agent.score.scorer import HealthySet
from trainer.fit.densities import ScikitFitter

PROMISED = ThresholdRule(
    false_alarm_rate=0.02,
    promise=AlarmPromise(
        per_second=1 / 86_400, hop_seconds=0.5, raise_windows=3, of_windows=5, clear_windows=10
    ),
)
PLAIN = ThresholdRule(false_alarm_rate=0.02)
NUMPY_ONLY = {
    "knn": KnnConfig(),
    "mahalanobis": MahalanobisConfig(),
    "mcv": CoveringConfig(covered=0.99),
    "density": DensitySoftmaxConfig(dims=4),
    "fusion": FusionConfig(
        parts=(
            Part(columns=(0, 8), scorer=KnnConfig()),
            Part(columns=(8, 16), scorer=MahalanobisConfig()),
        ),
        combine="max",
    ),
}


def running(seed: int) -> np.ndarray:
    """Two conditions, a little off pitch each time."""
    hertz = (440.0, 560.0)[seed % 2] + np.random.default_rng(seed).normal(0, 8)
    return tone(1, hertz, seed=seed)


@pytest.fixture
def bundle_of(tmp_path, tiny_bundle):
    """A bundle with a scorer and a rule, of thirty recordings."""

    def make(config, rule):
        folder = shutil.copytree(tiny_bundle, tmp_path / "pump")
        bundle = open_bundle(folder)
        vectors = bundle.encoder.encode(np.stack([running(seed) for seed in range(30)]))
        bundle.close()
        rows = [
            Row(
                source=f"h{i}.wav", start=0, group=f"h{i}.wav",
                attributes={"speed": ("low", "high")[i % 2]},
            )
            for i in range(30)
        ]  # fmt: skip
        healthy = HealthySet(vectors, rows)
        fitted = fit_scorer(
            healthy, config, rule, window_seconds=WINDOW / RATE, fitter=ScikitFitter()
        )
        (folder / ROW_CONSTANTS).unlink()
        np.save(folder / BANK, vectors)
        np.save(folder / HEALTHY_SCORES, fitted.healthy_scores)
        write_json(folder / ROWS, [row.model_dump(mode="json") for row in rows])
        write_scorer(folder, fitted.config, healthy, fitted.state)
        seal(
            folder,
            bundle.manifest.model_copy(
                update={"scorer": fitted.config, "threshold": fitted.threshold}
            ),
        )
        return folder

    return make


@pytest.fixture
def new_sound(tmp_path):
    for seed in range(100, 108):
        write(tmp_path / "new" / f"n{seed}.wav", running(seed))
    return tmp_path / "new"


def grow(folder, place, **options):
    """The version made of a bundle with more sound, opened."""
    bundle = open_bundle(folder)
    try:
        sound = embed_sound(find_sound([place], label="healthy"), bundle)
        versions = Versions(folder, beside(folder))
        report = make_version(bundle, versions, draft_add(bundle, sound), **options)
    finally:
        bundle.close()
    return open_bundle(versions.path(report.version))


@pytest.mark.parametrize("name", sorted(NUMPY_ONLY))
def test_a_grown_bundle_is_fitted_anew_and_keeps_its_rule(bundle_of, new_sound, name):
    # A promise takes seconds to work out: two kinds of scorer are enough for it.
    rule = PROMISED if name in {"knn", "mahalanobis"} else PLAIN
    folder = bundle_of(NUMPY_ONLY[name], rule)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    grown = grow(folder, new_sound, max_rise=1e9)
    try:
        manifest = grown.manifest
        assert manifest.threshold.rule == rule
        if rule.promise is not None:
            assert "90 % confidence" in manifest.threshold.method
            # The share of windows follows from the promise; it is not that of whole recordings.
            assert manifest.threshold.false_alarm_rate < 0.5 * rule.false_alarm_rate
        assert manifest.threshold.healthy_recordings == 38
        # As if exported from all of it: nothing of the parent's fit is left.
        fresh = fit_scorer(grown.bank, NUMPY_ONLY[name], rule, window_seconds=WINDOW / RATE)
        assert manifest.threshold == fresh.threshold
        for array, wanted in fresh.state.items():
            np.testing.assert_array_equal(grown.state[array], wanted)
        assert set(grown.state) == set(fresh.state)
        assert score_clip(grown, tone(1, FAULTY_HZ)).value > manifest.threshold.value
    finally:
        grown.close()
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("name", ["mahalanobis", "mcv", "fusion"])
def test_a_fault_taken_for_healthy_is_refused_though_no_threshold_rises(
    bundle_of, tmp_path, new_sound, name
):
    folder = bundle_of(NUMPY_ONLY[name], PLAIN)
    # One recording each of many faults: nothing that a domain of its own could cover closely.
    for n, hertz in enumerate(range(700, 1600, 60)):
        write(tmp_path / "faults" / f"f{n}.wav", tone(1, hertz, seed=n))
    with pytest.raises(GrowthError, match=r"no longer find \d+% of the sounds.*Listen"):
        grow(folder, tmp_path / "faults")
    # More of the same machine passes.
    grow(folder, new_sound).close()


def test_what_takes_a_workstation_is_refused_and_nothing_is_written(bundle_of, new_sound):
    folder = bundle_of(MixtureConfig(dims=4, components=2), PLAIN)
    with pytest.raises(GrowthError, match=r"gmm.*cannot be fitted on this device.*auscult export"):
        grow(folder, new_sound)
    assert not Versions(folder, beside(folder)).all()[1:]


def test_the_idle_gate_alone_grows_without_a_workstation(bundle_of):
    folder = bundle_of(MixtureConfig(dims=4, components=2), PLAIN)
    bundle = open_bundle(folder)
    try:
        rng = np.random.default_rng(0)
        hiss = [0.01 * rng.standard_normal(WINDOW).astype(np.float32) for _ in range(6)]
        rows = [Row(source=f"i{n}.wav", start=0, group=f"i{n}.wav") for n in range(6)]
        quiet = Embedded(bundle.encoder.encode(np.stack(hiss)), rows, [-40.0] * 6)
        nothing = Embedded(np.empty((0, bundle.manifest.encoder.dim), np.float32))
        versions = Versions(folder, beside(folder))
        report = make_version(bundle, versions, draft_add(bundle, nothing, quiet))
        opened = open_bundle(versions.path(report.version))
        opened.close()
        assert opened.gate is not None
        assert opened.gate.idle(quiet.vectors).all()
        assert not opened.gate.idle(bundle.bank.vectors).any()
        assert opened.manifest.threshold == bundle.manifest.threshold
        for array, wanted in bundle.state.items():
            np.testing.assert_array_equal(opened.state[array], wanted)
    finally:
        bundle.close()


def test_the_rule_of_an_older_bundle_is_read_from_its_method(bundle_of):
    bundle = open_bundle(bundle_of(KnnConfig(), PROMISED))
    bundle.close()
    old = bundle.manifest.threshold.model_copy(update={"rule": None})
    assert rule_of(old).sure
    assert rule_of(old).false_alarm_rate == old.false_alarm_rate
    assert not rule_of(old.model_copy(update={"method": "quantile of 90 windows counted"})).sure
