"""The chain from microphone to feature: one meter of a stream, laid over training's spectrum."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile
import soxr
from scipy import signal

from agent.bundle.facts import ConditionsInfo
from agent.chain.compare import compare_chain
from agent.chain.stream import StreamMeter
from agent.explain.spectrum import measure_healthy
from agent.window.conditions import compare_conditions
from trainer.hygiene.measure import measure

RATE = 16000


def machine(seed, seconds=10, rate=RATE):
    """Noise that falls by 6 dB an octave, a hum and a tone: a motor of a kind."""
    random = np.random.default_rng(seed)
    n = seconds * rate
    t = np.arange(n) / rate
    noise = signal.lfilter([0.02], [1.0, -0.7], random.standard_normal(n))
    return (noise + 0.03 * np.sin(2 * np.pi * 1480 * t)).astype(np.float32)


@pytest.fixture(scope="module")
def healthy():
    return measure_healthy([machine(seed) for seed in range(12)], RATE)


def heard(sound, block=RATE // 10):
    meter = StreamMeter(RATE)
    for start in range(0, len(sound), block):
        meter.push(sound[start : start + block])
    return meter.facts()


@pytest.mark.parametrize("block", [160, 1600, 16000, 77777])
def test_facts_of_a_stream_do_not_depend_on_its_blocks(block):
    sound = machine(3, 30)
    whole, cut = heard(sound, len(sound)), heard(sound, block)
    np.testing.assert_allclose(cut.levels_db, whole.levels_db)
    assert cut.bandwidth_hz == whole.bandwidth_hz == RATE / 2
    assert cut.seconds == 30


def test_agent_and_inspect_measure_alike(tmp_path):
    sound = soxr.resample(soxr.resample(machine(5, 20), RATE, 7500), 7500, RATE)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    found = heard(sound)
    assert measure(tmp_path / "a.wav").bandwidth_hz == found.bandwidth_hz
    assert found.bandwidth_hz == pytest.approx(3600, rel=0.1)


def test_silence_and_next_to_nothing_have_no_facts():
    assert heard(np.zeros(RATE * 3, np.float32)) is None
    assert heard(np.ones(100, np.float32)) is None
    assert heard(machine(1, 1)[: RATE // 2]).bandwidth_hz is not None


def test_the_same_chain_is_not_remarked_on(healthy):
    found = compare_chain(heard(machine(50, 60)), healthy)
    assert found.text == ()
    assert abs(found.gain_db) < 0.5


def test_a_muffled_microphone_is_told_in_words(healthy):
    sos = signal.butter(8, 4000, fs=RATE, output="sos")
    sound = signal.sosfilt(sos, machine(51, 60)).astype(np.float32)
    text = " ".join(compare_chain(heard(sound), healthy).text)
    assert "above 4" in text
    assert "lower than in training: another microphone or a filter" in text


def test_a_high_pass_and_a_gain_are_told_apart(healthy):
    sos = signal.butter(6, 300, "highpass", fs=RATE, output="sos")
    sound = 0.2 * signal.sosfilt(sos, machine(52, 60)).astype(np.float32)
    found = compare_chain(heard(sound), healthy)
    assert found.gain_db == pytest.approx(-14, abs=0.7)
    assert found.text[0].startswith("14 dB quieter than in training")
    assert any(one.startswith("below 2") and "high-pass" in one for one in found.text)


def test_bands_that_training_had_no_sound_in_are_left_out_and_said(healthy):
    found = compare_chain(heard(0.1 * machine(53, 30)), healthy, trained_bandwidth_hz=5000)
    assert min(one.low_hz for one in found.left_out) < 4600
    assert "not compared" in found.text[-1]


def test_another_rate_is_no_comparison(healthy):
    meter = StreamMeter(48000)
    meter.push(machine(1, 2, 48000))
    with pytest.raises(ValueError, match="48000"):
        compare_chain(meter.facts(), healthy)


@pytest.mark.parametrize("quality", ["HQ", "MQ", "LQ", "QQ"])
def test_the_edge_of_a_resampler_is_no_change_of_bandwidth(quality):
    wide = machine(9, 20, 48000)
    edge = heard(soxr.resample(wide, 48000, RATE, quality=quality)).bandwidth_hz
    trained = ConditionsInfo(sample_rates=(RATE,), bandwidth_range_hz=(8000.0, 8000.0))
    assert compare_conditions(trained, bandwidth_hz=edge, encoder_rate=RATE) == []
