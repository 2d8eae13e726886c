"""DtMM as a score: against the analytic divergence, and on its way from training to the agent."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
from pydantic import ValidationError
from sklearn.metrics import roc_auc_score

from agent.bundle.manifest import Row
from agent.calibrate.fit import fit_scorer
from agent.config.scorer_density import DtmmConfig
from agent.config.threshold import ThresholdRule
from agent.core.errors import ConfigError
from agent.deploy.load import open_bundle
from agent.drift.evolve import ProcessNoise, evolve
from agent.drift.mixture import Mixture
from agent.recordings.load import load_machines
from agent.score.build import build_scorer, fit_state, healthy_scores
from agent.score.dtmm import DtmmScorer
from agent.score.fitter import WorkstationError
from agent.score.scorer import HealthySet, StateError
from export.bundle import export_bundle
from trainer.fit.densities import ScikitFitter
from trainer.learn import train_machine
from trainer.preset import Preset

WIDE = {"noise_mean": 1e3, "noise_log_scale": 1e3, "noise_logit": 1.0}


def one_gaussian(center, scale, frames, **changes):
    """A scorer of one component that is as good as Gaussian, over raw features."""
    dims = len(center)
    state = {
        "center": np.zeros(dims), "scale": np.ones(dims), "axes": np.eye(dims),
        "logits": np.zeros(1), "means": np.array([center]), "log_scales": np.log([scale]),
        "dof": np.array([1e7]),
    }  # fmt: skip
    return DtmmScorer(DtmmConfig(frames=frames, **{**WIDE, **changes}), state, frames * dims)


def test_one_component_is_the_analytic_divergence():
    """With a wide prior the evolved Gaussian is the window's own: KL of two Gaussians."""
    rng = np.random.default_rng(0)
    mean, scale = np.array([1.0, -2.0, 0.5]), np.array([0.5, 2.0, 1.0])
    frames = rng.normal(mean + np.array([0.6, 0, -1]), scale * [1.0, 0.7, 1.5], (400, 3))
    (found,), rows = one_gaussian(mean, scale, 400).score(frames.reshape(1, -1).astype(np.float32))
    m, s = frames.mean(axis=0), frames.std(axis=0)
    wanted = np.sum(np.log(scale / s) + (s**2 + (m - mean) ** 2) / (2 * scale**2) - 0.5)
    assert found == pytest.approx(wanted, rel=1e-3)
    assert rows.tolist() == [-1]


def test_the_score_is_the_monitor_s_distance():
    """The same arithmetic as the drift monitor: a bound on the divergence of what evolved."""
    rng = np.random.default_rng(1)
    frames = rng.normal(0.4, 1.2, (12, 3))
    noise = ProcessNoise(3.0, 0.5, 1.0)
    mixture = Mixture(np.zeros(1), np.zeros((1, 3)), np.zeros((1, 3)), 1e7)
    evolved = evolve(mixture, frames, noise)
    s, m = evolved.scales[0], evolved.means[0]
    wanted = np.sum(-np.log(s) + (s**2 + m**2) / 2 - 0.5)
    scorer = one_gaussian(
        np.zeros(3), np.ones(3), 12, noise_mean=3.0, noise_log_scale=0.5, noise_logit=1.0
    )
    (found,), _ = scorer.score(frames.reshape(1, -1).astype(np.float32))
    assert found == pytest.approx(wanted, rel=1e-5)


def healthy_set(count, frames, seed, shift=0.0):
    """Windows of a machine in one of three states, whose frames scatter around it."""
    rng = np.random.default_rng(seed)
    states = np.random.default_rng(99).normal(0, 3, (3, 6))
    of = rng.integers(3, size=count)
    own = rng.normal(0, 0.3, (count, 1, 6))
    vectors = states[of][:, None] + own + rng.normal(0, 1, (count, frames, 6)) + shift
    rows = [Row(source=f"{i}.wav", start=0.0, group=f"{i}.wav") for i in range(count)]
    return HealthySet(vectors.reshape(count, -1).astype(np.float32), rows)


def test_it_finds_a_shift_and_gains_by_frames():
    found = []
    for frames in (1, 10):
        config = DtmmConfig(frames=frames, axes=4, components=5)
        healthy = healthy_set(80, frames, 0)
        scorer = build_scorer(config, healthy, fit_state(healthy, config, ScikitFitter()))
        good, _ = scorer.score(healthy_set(60, frames, 1).vectors)
        bad, _ = scorer.score(healthy_set(60, frames, 2, shift=1.2).vectors)
        found.append(roc_auc_score([0] * 60 + [1] * 60, np.concatenate([good, bad])))
    assert found[1] > 0.9
    assert found[1] > found[0] + 0.1


def test_left_out_scores_are_those_of_new_windows():
    config = DtmmConfig(frames=5, axes=3, components=4)
    healthy = healthy_set(50, 5, 3)
    fitted = fit_scorer(
        healthy, config, ThresholdRule(false_alarm_rate=0.1, kind="mean_sigma", sigmas=3.0),
        window_seconds=10.0, fitter=ScikitFitter(),
    )  # fmt: skip
    scorer = build_scorer(config, healthy, fitted.state)
    fresh, _ = scorer.score(healthy_set(200, 5, 4).vectors)
    assert np.mean(fresh > fitted.threshold.value) < 0.06
    assert np.median(fitted.healthy_scores) == pytest.approx(np.median(fresh), rel=0.35)


def test_what_cannot_be_is_refused():
    healthy = healthy_set(20, 2, 5)
    with pytest.raises(ConfigError, match="5 vectors"):
        fit_state(healthy, DtmmConfig(frames=5), ScikitFitter())
    with pytest.raises(WorkstationError, match="dtmm"):
        fit_state(healthy, DtmmConfig(frames=2))
    state = dict(fit_state(healthy, DtmmConfig(frames=2), ScikitFitter()))
    for name, wrong in {
        "scale": np.zeros(6), "dof": np.array([1.0]), "log_scales": np.zeros((1, 99)),
    }.items():  # fmt: skip
        with pytest.raises(StateError, match=name):
            DtmmScorer(DtmmConfig(frames=2), {**state, name: wrong}, 12)
    with pytest.raises(StateError):
        DtmmScorer(DtmmConfig(frames=5), state, 12)
    with pytest.raises(ValidationError, match="encoder gives 1 vectors"):
        preset(frames=10, segments=1)


def preset(frames, segments):
    return Preset.model_validate(
        {
            "name": "dtmm", "summary": "for tests",
            "encoder": {"kind": "log_mel", "segments": segments},
            "window": {"seconds": 2.0, "hop_seconds": 1.0, "train_hop_seconds": 2.0},
            "scorer": {"kind": "dtmm", "frames": frames, "axes": 4, "components": 3},
            "threshold": {"rule": "mean_sigma", "sigmas": 4.0},
            "quantization": {"mode": "none"},
            "drift": {"enabled": False},
        }
    )  # fmt: skip


def sound(seed, *, hiss=0.0):
    rng = np.random.default_rng(seed)
    time = np.arange(4 * 16000) / 16000
    hum = 0.1 * np.sin(2 * np.pi * (120 + seed % 3) * time)
    noise = np.convolve(rng.standard_normal(len(time)), np.ones(8) / 8, "same")
    return (hum + 0.03 * noise + hiss * rng.standard_normal(len(time))).astype(np.float32)


def test_trained_exported_and_run(tmp_path):
    for seed in range(16):
        path = tmp_path / "data" / "fan" / "normal" / f"{seed:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(seed), 16000)
    (machine,) = load_machines(tmp_path / "data")
    train_machine(machine, preset(frames=5, segments=5), tmp_path / "run")
    export_bundle(tmp_path / "run", tmp_path / "bundle", test=False)
    bundle = open_bundle(tmp_path / "bundle")
    try:
        assert bundle.manifest.encoder.dim == 5 * 256
        assert bundle.manifest.threshold.rule.kind == "mean_sigma"
        # Each piece is embedded as if it came alone.
        window = sound(50)[:32000]
        whole = bundle.encoder.encode(window[None]).reshape(5, 256)
        again = np.concatenate([window[6400:12800]] * 5)
        piece = bundle.encoder.encode(again[None]).reshape(5, 256)
        np.testing.assert_allclose(whole[1], piece[3], atol=1e-4)
        good = bundle.encoder.encode(np.stack([sound(s)[:32000] for s in range(60, 75)]))
        bad = bundle.encoder.encode(np.stack([sound(s, hiss=0.01)[:32000] for s in range(60, 75)]))
        threshold = bundle.manifest.threshold.value
        assert np.mean(bundle.scorer.score(good)[0] > threshold) <= 0.1
        assert (bundle.scorer.score(bad)[0] > threshold).all()
    finally:
        bundle.close()


def test_healthy_scores_need_no_state_of_their_own():
    config = DtmmConfig(frames=2, axes=3, components=2)
    healthy = healthy_set(20, 2, 6)
    (first,) = healthy_scores(healthy, config, ScikitFitter())
    (second,) = healthy_scores(healthy, config, ScikitFitter())
    np.testing.assert_array_equal(first, second)
