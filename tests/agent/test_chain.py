"""The chain from microphone to feature: one meter of a stream, laid over training's spectrum."""

from __future__ import annotations

import functools
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import soxr
from scipy import signal

from agent.bundle.facts import ConditionsInfo
from agent.chain.compare import compare_chain
from agent.chain.stream import StreamMeter
from agent.chain.watch import ChainWatch, chain_file, hum_share
from agent.core.records import Recorded, Validity, Window
from agent.explain.spectrum import measure_healthy
from agent.hygiene.measure import measure
from agent.window.condition import ConditionStatus, SensorMonitor
from agent.window.conditions import compare_conditions
from agent.window.validity import assess

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


@pytest.mark.parametrize("rate", [1600, 8000, 16000, 32000, 44100, 48000])
@pytest.mark.parametrize("hum", [0.0, 0.003, 0.03, 3.0])
def test_the_share_of_hum_is_that_of_the_whole_spectrum(rate, hum):
    time = np.arange(10 * rate) / rate
    sound = machine(2, rate=rate) + hum * np.sin(2 * np.pi * 50 * time) + 0.2
    sound += 0.3 * hum * np.sin(2 * np.pi * 150 * time)
    sound = sound.astype(np.float32)
    power = np.abs(np.fft.rfft((sound - sound.mean()) * np.hanning(len(sound)))) ** 2
    hertz = np.fft.rfftfreq(len(sound), 1 / rate)
    shares = [
        sum(power[np.abs(hertz - n * mains) <= 0.6].sum() for n in range(1, 7)) / power.sum()
        for mains in (50, 60)
    ]
    # The resampler passes all of them within a tenth of a per cent.
    assert hum_share(sound, rate) == pytest.approx(max(shares), abs=2e-3)


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


# --- a microphone against its own past


SECONDS = 4  # long enough, and quick


@functools.cache
def short(seed):
    return machine(seed, SECONDS)


def steady(number):
    return short(number % 8)


def windows(sound_of, count, start=0, origin="mic"):
    for number in range(start, start + count):
        at = float(SECONDS * number)
        yield Window(sound_of(number), RATE, number, at, at, origin=origin)


def watched(watch, sound_of, count, start=0, healthy=None, **about):
    for window in windows(sound_of, count, start, **about):
        watch.take(window, healthy, None)
    return watch


def low_passed(hertz):
    sos = signal.butter(8, hertz, fs=RATE, output="sos")
    return lambda number: signal.sosfilt(sos, steady(number)).astype(np.float32)


def humming(number):
    t = np.arange(SECONDS * RATE) / RATE
    lines = sum(np.sin(2 * np.pi * 50 * k * t) / k for k in (1, 2, 3))
    return (steady(number) + 0.5 * lines).astype(np.float32)


def test_a_microphone_that_hears_what_it_always_heard_is_not_doubted():
    watch = watched(ChainWatch("pump"), steady, 100)
    assert watch.doubt == ""


def test_a_muffled_microphone_is_doubted_and_trusted_again_once_it_is_cleaned():
    watch = watched(ChainWatch("pump"), steady, 70)
    watched(watch, low_passed(3000), 35, 70)
    assert "muffled: above 3" in watch.doubt
    watched(watch, steady, 30, 105)
    assert watch.doubt == ""


def test_a_humming_microphone_is_doubted():
    watch = watched(ChainWatch("pump"), steady, 70)
    watched(watch, humming, 35, 70)
    assert watch.doubt.startswith("it hums")


def test_a_machine_that_has_always_hummed_is_a_transformer():
    watch = watched(ChainWatch("pump"), humming, 110)
    assert watch.doubt == ""


@pytest.mark.parametrize("gain", [0.05, 0.3, 4.0])
def test_a_quieter_or_louder_machine_is_no_fault_of_the_microphone(gain):
    watch = watched(ChainWatch("pump"), steady, 70)
    watched(watch, lambda number: np.float32(gain) * steady(number), 40, 70)
    assert watch.doubt == ""


def test_a_machine_that_gets_louder_in_some_bands_is_no_fault_of_the_microphone():
    sos = signal.butter(2, [2000, 5000], "bandpass", fs=RATE, output="sos")

    def faulty(number):
        extra = signal.sosfilt(sos, steady(number + 3))
        return (steady(number) + 5 * extra).astype(np.float32)

    watch = watched(ChainWatch("pump"), steady, 70)
    assert watched(watch, faulty, 40, 70).doubt == ""


def test_the_past_outlives_the_agent(tmp_path):
    place = chain_file(tmp_path, "pump")
    watched(ChainWatch("pump", place), steady, 70).close()
    watch = watched(ChainWatch("pump", place), low_passed(3000), 35, 70)
    assert "muffled" in watch.doubt


def test_another_microphone_has_a_past_of_its_own(tmp_path):
    place = chain_file(tmp_path, "pump")
    watched(ChainWatch("pump", place), steady, 70).close()
    watch = watched(ChainWatch("pump", place), low_passed(3000), 100, 70, origin="another")
    assert watch.doubt == ""


def test_a_damaged_past_is_begun_anew(tmp_path, caplog):
    place = chain_file(tmp_path, "pump")
    place.parent.mkdir()
    place.write_text("{")
    assert watched(ChainWatch("pump", place), steady, 3).doubt == ""
    assert place.with_name(f"{place.name}.damaged").read_text() == "{", "kept for people to look at"
    assert "its past begins anew" in caplog.text


def test_another_bundle_is_compared_with_by_its_own_training():
    (window,) = windows(steady, 1)
    window = replace(window, recorded=Recorded(RATE, 2))
    watch = ChainWatch("pump")
    watch.take(window, None, ConditionsInfo(channels=(1,), sample_rates=(RATE,)))
    assert watch.differences[0].startswith("2 channels are averaged, where training had 1")
    later = replace(window, monotonic=window.monotonic + 10)
    watch.take(later, None, ConditionsInfo(channels=(2,), sample_rates=(RATE,)))
    assert watch.differences == ()


def test_a_different_chain_is_told_after_five_minutes_of_running(healthy):
    watch = ChainWatch("pump")
    watched(watch, low_passed(3000), 29, healthy=healthy)
    assert watch.differences == ()
    watched(watch, low_passed(3000), 1, 29, healthy=healthy)
    assert any("another microphone or a filter" in one for one in watch.differences)
    same = watched(ChainWatch("pump"), steady, 31, healthy=healthy)
    assert same.differences == ()


def test_windows_that_overlap_are_heard_once():
    watch = ChainWatch("pump")
    for number in range(140):
        watch.take(Window(steady(number), RATE, number, number, number, origin="m"), None, None)
    assert watch._past.windows == 140 // SECONDS - 30


def test_a_doubted_microphone_needs_maintenance():
    monitor = SensorMonitor()
    window = Window(machine(1), RATE, 0, 0.0, 0.0)
    condition = monitor.observe(window, doubt="it hums")
    assert condition.status is ConditionStatus.MAINTENANCE_REQUIRED
    assert condition.reason == "it hums"


# --- a buffer that is given again and again


@pytest.mark.parametrize("period", [256, 1024, 4410, 12000])
def test_a_frozen_buffer_is_no_sound(period):
    sound = np.tile(machine(1, 2)[:period], 10 * RATE // period + 1)[: 10 * RATE]
    validity, reason = assess(sound, RATE)
    assert validity is Validity.SILENT
    assert "frozen" in reason


def test_tones_and_noise_are_not_frozen():
    t = np.arange(10 * RATE) / RATE
    tone = sum(np.sin(2 * np.pi * f * t) for f in (50, 100, 1000)) / 4
    coarse = np.round(tone * 32767) / 32768
    for sound in (tone, coarse, machine(2), 0.5 * machine(3) + 0.2 * tone):
        assert assess(sound.astype(np.float32), RATE)[0] is Validity.VALID
