"""Selection from healthy sound: what it is made of, that it chooses well, and when it does not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
import soxr

from agent.bundle.manifest import Row
from agent.config.scorer import FusionConfig
from agent.config.scorer_knn import KnnConfig
from agent.core.errors import ConfigError
from agent.recordings.load import load_machines
from agent.score.scorer import HealthySet
from export.bundle import export_run
from trainer.encoder_config import EncoderConfig
from trainer.fit.densities import ScikitFitter
from trainer.learn import train_machine
from trainer.preset import Preset
from trainer.preset_file import load_preset
from trainer.run import load_run
from trainer.selection.judge import Heard, judge
from trainer.selection.pseudo import STRENGTHS, change_windows
from trainer.selection.usual import with_selection

RATE = 16000
SECONDS = 2.0


def hum(rng: np.random.Generator, pitch: float = 120.0, rate: int = RATE) -> np.ndarray:
    time = np.arange(int(SECONDS * rate)) / rate
    tone = sum(np.sin(2 * np.pi * pitch * k * time) / k for k in range(1, 6))
    return (0.05 * tone + 0.02 * rng.normal(size=len(time))).astype(np.float32)


def rms(sound: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean(np.square(sound, dtype=np.float64), axis=-1))


@pytest.mark.parametrize("kind", list(STRENGTHS))
def test_faults_change_the_sound_and_not_its_loudness(kind):
    rng = np.random.default_rng(0)
    windows = np.stack([hum(rng) for _ in range(4)])
    others = np.stack([hum(rng, pitch) for pitch in (500.0, 700.0, 900.0)])
    away = []
    for level in range(3):
        changed = change_windows(windows, kind, level, RATE, others=others, seed=1)
        assert changed.dtype == np.float32
        np.testing.assert_allclose(rms(changed), rms(windows), rtol=1e-4)
        spectra = [np.abs(np.fft.rfft(sound)) for sound in (windows, changed)]
        away.append(np.linalg.norm(spectra[1] - spectra[0], axis=1) / np.linalg.norm(spectra[0]))
    assert np.all(away[0] > 0.003)
    assert np.mean(away[2]) > np.mean(away[0]), "each strength is stronger"
    again = change_windows(windows, kind, 2, RATE, others=others, seed=1)
    np.testing.assert_array_equal(again, changed)
    assert not np.array_equal(change_windows(windows, kind, 2, RATE, others=others, seed=2), again)


@pytest.mark.parametrize("kind", [kind for kind in STRENGTHS if kind != "mixture"])
def test_encoders_of_other_rates_hear_the_same_fault(kind):
    fine = hum(np.random.default_rng(0), rate=32000)
    coarse = soxr.resample(fine, 32000, RATE, quality="VHQ")
    changed = change_windows(fine[None], kind, 2, 32000, seed=3)[0]
    expected = soxr.resample(changed, 32000, RATE, quality="VHQ")
    found = change_windows(coarse[None], kind, 2, RATE, seed=3)[0]
    inside = slice(400, -400)
    error = rms((found * rms(expected) / rms(found) - expected)[inside]) / rms(expected)
    # A share of the level: speeds are rounded to whole samples, and bands end between two rates.
    assert error < 0.2


def healthy_set(rng, source=60, target=10) -> HealthySet:
    """Source windows lie close together, target windows elsewhere and far apart."""
    near = rng.normal(size=(source, 8)) + 20
    far = 4 * rng.normal(size=(target, 8)) - 20
    rows = [
        Row(source=f"{i}", start=0, group=f"{i}", domain=domain, section="", attributes={})
        for i, domain in enumerate(["source"] * source + ["target"] * target)
    ]
    return HealthySet(np.concatenate([near, far]).astype(np.float32), rows)


def test_a_scorer_that_calls_the_target_domain_strange_pays_for_it():
    rng = np.random.default_rng(0)
    healthy = healthy_set(rng)
    chosen = np.arange(60)
    moved = healthy.vectors[:60] + 6 * rng.normal(size=(60, 8)).astype(np.float32) / np.sqrt(8)
    heard = Heard(healthy, chosen, {"moved": [moved]})
    plain = KnnConfig(metric="euclidean", normalization="none")
    scaled = plain.model_copy(update={"banks": "domains", "domain_scale": "median"})
    one, two = (
        judge(heard, config, ScikitFitter(), seed=0, displacing=False) for config in (plain, scaled)
    )
    assert one.auc_source > 0.9
    assert two.auc_source > 0.9
    assert one.auc_target < 0.4
    assert two.auc_target > 0.6
    assert two.figure > one.figure + 0.1
    assert np.mean(two.resampled > one.resampled) > 0.95
    assert np.quantile(one.resampled, 0.02) < one.figure < np.quantile(one.resampled, 0.98)


def test_the_faults_of_both_domains_weigh_the_same():
    # Found at once in the source domain, not at all in the target domain of few recordings.
    rng = np.random.default_rng(2)
    healthy = healthy_set(rng, source=60, target=12)
    changed = healthy.vectors.copy()
    changed[:60] += 1000
    heard = Heard(healthy, np.arange(72), {"half": [changed]})
    plain = KnnConfig(metric="euclidean", normalization="none")
    found = judge(heard, plain, ScikitFitter(), seed=0, displacing=False)
    # Source normals lie below all faults; target normals below the source's and among their own.
    assert found.auc_source > 0.99
    assert found.auc_target == pytest.approx((1.0 + 0.5) / 2, abs=0.01)


def test_nothing_is_compared_with_itself():
    # Each recording is its own island: a window left in the bank would find itself at once.
    rng = np.random.default_rng(1)
    vectors = (rng.normal(size=(30, 8)) * 50).astype(np.float32)
    rows = [
        Row(source=f"{i // 3}", start=i, group=f"{i // 3}", domain="x", section="", attributes={})
        for i in range(30)
    ]
    vectors = np.repeat(vectors[::3], 3, axis=0) + rng.normal(size=(30, 8)).astype(np.float32) / 99
    heard = Heard(HealthySet(vectors, rows), np.arange(30), {"none": [vectors + np.float32(0.01)]})
    plain = KnnConfig(metric="euclidean", normalization="none")
    found = judge(heard, plain, ScikitFitter(), seed=0, displacing=False)
    assert found.auc_source == pytest.approx(0.5, abs=0.05)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(0)
    for machine, pitch in (("fan", 120.0), ("saw", 700.0)):
        for i in range(10):
            place = root / machine / "normal" / f"{i}.wav"
            place.parent.mkdir(parents=True, exist_ok=True)
            gain = 10 ** rng.uniform(-0.2, 0.2)
            soundfile.write(place, gain * hum(rng, pitch + rng.uniform(-1, 1)), RATE)
    return root


def preset(own: str, *others: str, **fields) -> Preset:
    cut = {"seconds": SECONDS, "hop_seconds": SECONDS, "train_hop_seconds": SECONDS}
    return Preset.model_validate(
        {
            "name": "chosen",
            "summary": "for tests",
            "encoder": {"kind": own},
            "scorer": {"kind": "knn", "metric": "euclidean", "normalization": "none"},
            "selection": {"encoders": [{"kind": kind} for kind in others], "windows": 8},
            "window": cut,
            "drift": {"enabled": False},
            "quantization": {"mode": "none"},
            **fields,
        }
    )


def test_what_hears_faults_takes_the_place_of_what_does_not(tmp_path, data):
    fan, saw = load_machines(data)
    train_machine(fan, preset("loudness", "spectral_shape"), tmp_path / "run", others=[saw])
    record, encoder = load_run(tmp_path / "run")
    assert encoder.kind == record.preset.encoder.kind == "spectral_shape"
    selection = record.selection
    assert selection is not None
    assert selection.chosen == 1
    own, better = selection.judged
    assert better.figure > own.figure + 0.1
    assert better.better == 1.0
    assert set(own.kinds) == {*STRENGTHS, "displaced"}
    manifest = export_run(tmp_path / "run", tmp_path / "bundle", test=False)
    assert manifest.encoder.kind == "spectral_shape"
    assert any("chosen among 2" in note for note in manifest.notes)


def test_the_presets_own_stays_unless_it_is_beaten(tmp_path, data):
    fan, _ = load_machines(data)
    record = train_machine(fan, preset("spectral_shape", "loudness"), tmp_path / "run")
    assert record.preset.encoder.kind == "spectral_shape"
    assert record.selection is not None
    assert record.selection.chosen == 0
    assert "mixture" not in record.selection.judged[0].kinds, "there is no other machine"
    assert "is kept" in record.selection.note


def test_one_recording_decides_nothing(tmp_path, data):
    lone = tmp_path / "lone" / "normal"
    lone.mkdir(parents=True)
    (lone / "0.wav").write_bytes((data / "fan" / "normal" / "0.wav").read_bytes())
    (machine,) = load_machines(lone.parent)
    record = train_machine(machine, preset("loudness", "spectral_shape"), tmp_path / "run")
    assert record.preset.encoder.kind == "loudness"
    assert "nothing to compare" in record.selection.note


def test_a_fusion_is_tried_with_the_encoders_that_have_its_parts(tmp_path, data):
    fan, _ = load_machines(data)
    knn = {"kind": "knn", "normalization": "none"}
    joined = {"kind": "joined", "parts": [{"kind": "log_mel"}, {"kind": "spectral_shape"}]}
    parts = [{"encoder": 0, "scorer": knn}, {"encoder": 1, "scorer": knn}]
    fusion = {"kind": "fusion", "parts": parts}
    selection = {"encoders": [joined], "scorers": [fusion], "windows": 8}
    record = train_machine(fan, preset("loudness", selection=selection), tmp_path / "run")
    assert record.selection is not None
    assert len(record.selection.judged) == 3, "loudness has no second part"
    assert record.preset.encoder.kind == "joined"
    if isinstance(record.preset.scorer, FusionConfig):
        assert all(part.columns is not None for part in record.preset.scorer.parts)


def test_the_usual_candidates_are_of_the_presets_own_encoder():
    plain = load_preset("spectral_shape")
    assert with_selection(plain, None).selection is None
    found = with_selection(plain, wanted=True).selection
    assert found is not None
    assert found.encoders == ()
    assert len(found.scorers) > 3
    fused = with_selection(load_preset("auscult_small"), wanted=True).selection
    assert fused is not None
    assert all(isinstance(scorer, FusionConfig) for scorer in fused.scorers)
    chosen = with_selection(plain, wanted=True)
    assert with_selection(chosen, wanted=True) is chosen, "a preset's own list stays"
    assert with_selection(chosen, wanted=False).selection is None


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"training": {"kind": "classify"}}, "for training.kind: frozen"),
        ({"selection": {"encoders": [{"kind": "beats"}]}}, "beats is pre-trained"),
    ],
)
def test_candidates_that_cannot_be_are_refused(fields, says):
    with pytest.raises(ValueError, match=says):
        preset("spectral_shape", "loudness", **fields)


def test_a_candidates_missing_checkpoint_is_named(tmp_path, data):
    fan, _ = load_machines(data)
    weights = EncoderConfig(kind="mn04", weights="absent.pt").model_dump()
    with pytest.raises(ConfigError, match=r"absent\.pt"):
        train_machine(
            fan,
            preset("loudness", selection={"encoders": [weights], "windows": 8}),
            tmp_path / "run",
        )
