"""The synthetic machine sounds as its physics says, and cannot be told by loudness."""

from __future__ import annotations

import math

import numpy as np
import pytest
import soundfile
from scipy import signal
from sklearn.metrics import roc_auc_score

from trainer.synth import (
    Counts,
    Fault,
    design_machine,
    render,
    render_background,
    steady,
    varying,
    write_dataset,
)
from trainer.synth.design import Bearing
from trainer.synth.sources import bearing_impacts, belt_scrape, phase_of, wander

RATE = 16000


def rng(seed=0):
    return np.random.default_rng(seed)


def line_level(sound, hz, *, width=0.02):
    """Peak power near a frequency over the median around it, dB."""
    f, p = signal.welch(sound, RATE, nperseg=RATE * 2)
    near = (f > hz * (1 - width)) & (f < hz * (1 + width))
    around = (f > hz * 0.7) & (f < hz * 1.3) & ~near
    return 10 * math.log10(p[near].max() / np.median(p[around]))


def test_bpfo_of_a_known_bearing():
    # 6205: nine balls of 7.94 mm on a 39.04 mm pitch circle; its maker states order 3.585.
    order = Bearing(9, 7.94 / 39.04, 0.0, 3000, 1e-3, 0.01).outer_race_order()
    assert order == pytest.approx(3.585, abs=0.001)


def test_same_seed_same_sound_and_other_seed_other_machine():
    a = render(design_machine(3), steady(design_machine(3), "mid"), 1.0, rng())
    b = render(design_machine(3), steady(design_machine(3), "mid"), 1.0, rng())
    np.testing.assert_array_equal(a, b)
    designs = [design_machine(s) for s in range(6)]
    assert len({d.shaft_hz for d in designs}) == 6
    assert len({d.blades for d in designs}) > 2
    assert len({d.casing for d in designs}) == 6


def test_wander_is_slow_and_of_unit_variance():
    drift = wander(RATE * 400, RATE, 2.0, rng())
    assert drift.std() == pytest.approx(1.0, abs=0.15)
    steps = drift[:: RATE // 100]
    # Correlation of an Ornstein-Uhlenbeck process after its time constant is 1/e.
    assert np.corrcoef(steps[:-200], steps[200:])[0, 1] == pytest.approx(math.exp(-1), abs=0.15)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_healthy_spectrum_has_blade_pass_and_hum_where_they_belong(seed):
    design = design_machine(seed)
    sound = render(design, steady(design, "high"), 10.0, rng(seed))
    assert sound.dtype == np.float32
    assert sound.shape == (10 * RATE,)
    assert line_level(sound, design.blades * design.shaft_hz) > 6
    assert line_level(sound, 2 * design.line_hz) > 3


def test_a_change_of_load_moves_the_speed_smoothly():
    design = design_machine(1)
    operation = varying(design, 20.0, rng(5))
    assert len(operation.steps) > 2
    sound = render(design, operation, 20.0, rng(5))
    # A jump in phase would be a click: the second difference of a smooth sound stays small.
    low = signal.sosfilt(signal.butter(6, 300, fs=RATE, output="sos"), sound)[RATE:]
    jerk = np.abs(np.diff(low, 2))
    assert jerk.max() < 8 * np.quantile(jerk, 0.9)


def test_impacts_come_at_bpfo_with_jitter_and_ring_at_the_resonance():
    bearing = Bearing(8, 0.25, 0.0, 3200.0, 0.0008, 0.015)
    phase = phase_of(np.full(RATE * 10, 30.0), RATE)
    sound = bearing_impacts(phase, bearing, RATE, rng())
    f, p = signal.welch(sound, RATE, nperseg=2048)
    assert f[p.argmax()] == pytest.approx(3200, rel=0.05)
    # The envelope's spectrum is where analysts look for BPFO = 4 * 0.75 * 30 = 90 Hz.
    envelope = np.abs(signal.hilbert(sound))
    f, p = signal.welch(envelope - envelope.mean(), RATE, nperseg=RATE * 4)
    band = (f > 40) & (f < 140)
    assert f[band][p[band].argmax()] == pytest.approx(90, rel=0.02)
    peaks, _ = signal.find_peaks(envelope, height=envelope.max() / 4, distance=int(RATE / 150))
    gaps = np.diff(peaks)
    gaps = gaps[gaps < 1.5 * np.median(gaps)]
    assert 0.008 < gaps.std() / gaps.mean() < 0.03


def test_belt_scrapes_once_a_turn():
    phase = phase_of(np.full(RATE * 20, 30.0), RATE)
    sound = belt_scrape(phase, 0.2, RATE, rng())
    f, p = signal.welch(sound**2 - np.mean(sound**2), RATE, nperseg=RATE * 10)
    band = (f > 3) & (f < 50)
    assert f[band][p[band].argmax()] == pytest.approx(6.0, abs=0.2)


def test_imbalance_raises_the_shaft_line():
    design = design_machine(2)
    operation = steady(design, "high")
    healthy = render(design, operation, 10.0, rng(1))
    faulty = render(design, operation, 10.0, rng(1), faults=(Fault("imbalance"),))
    assert line_level(faulty, design.shaft_hz) > line_level(healthy, design.shaft_hz) + 3


@pytest.mark.parametrize("kind", ["imbalance", "bearing", "belt"])
def test_before_the_onset_nothing_differs(kind):
    design = design_machine(4)
    operation = steady(design, "mid")
    healthy = render(design, operation, 6.0, rng(2), faults=(Fault(kind, 0.0),), onset=3.0)
    faulty = render(design, operation, 6.0, rng(2), faults=(Fault(kind, 1.0),), onset=3.0)
    np.testing.assert_allclose(healthy[: 3 * RATE], faulty[: 3 * RATE], atol=1e-7)
    assert np.abs(healthy[3 * RATE :] - faulty[3 * RATE :]).max() > 1e-3


def test_severity_adds_little_to_the_level():
    design = design_machine(0)
    operation = steady(design, "mid")
    for kind in ("imbalance", "bearing", "belt"):
        faulty = render(design, operation, 5.0, rng(3), faults=(Fault(kind, 1.0),))
        healthy = render(design, operation, 5.0, rng(3), faults=(Fault(kind, 0.0),))
        assert abs(20 * math.log10(faulty.std() / healthy.std())) < 2.0


def test_background_is_quieter_than_the_machine():
    design = design_machine(0)
    machine = render(design, steady(design, "high"), 5.0, rng())
    assert render_background(design, 5.0, rng(), motor=True).std() < machine.std() / 1.5
    assert render_background(design, 5.0, rng()).std() < machine.std() / 2


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    counts = Counts(train_source=4, test_normal=40, test_anomaly=42, idle=1, noise=1)
    folder = tmp_path_factory.mktemp("plain")
    return write_dataset(
        folder, design_machine(5), layout="plain", counts=counts, seconds=3.0, rate=RATE
    )


def test_plain_layout(plain):
    names = {
        p.relative_to(plain).parent.as_posix(): len(list(p.parent.iterdir()))
        for p in plain.rglob("*.wav")
    }
    assert names == {"normal": 4, "test/normal": 40, "test/anomaly": 42, "idle": 1, "noise": 1}
    assert {p.name.split("_")[0] for p in (plain / "test/anomaly").iterdir()} == {
        "imbalance",
        "bearing",
        "belt",
    }


def test_loudness_does_not_tell_the_faulty(plain):
    levels, labels = [], []
    for path in sorted((plain / "test").rglob("*.wav")):
        sound, _ = soundfile.read(path)
        assert np.abs(sound).max() < 0.99
        levels.append(sound.std())
        labels.append(path.parent.name == "anomaly")
    assert 0.35 < roc_auc_score(labels, levels) < 0.68


def test_dcase_names_and_independence_of_counts(tmp_path):
    design = design_machine(6)
    few = Counts(train_source=2, train_target=1, test_normal=1, test_anomaly=1)
    more = Counts(train_source=5, train_target=1, test_normal=1, test_anomaly=3)
    a = write_dataset(tmp_path / "a", design, counts=few, seconds=1.0, machine="Fan7")
    b = write_dataset(tmp_path / "b", design, counts=more, seconds=1.0, machine="Fan7")
    names = {p.relative_to(a).as_posix() for p in a.rglob("*.wav")}
    assert "train/section_00_source_train_normal_0001_load_mid_valve_open.wav" in names
    assert len(names) == 2 + 1 + 2 * 2
    for name in names:
        assert (a / name).read_bytes() == (b / name).read_bytes()
