"""Each channel that the agent averages is judged, by the function that judges recordings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import soundfile

from agent.bundle.facts import ConditionsInfo
from agent.capture.convert import Converter
from agent.capture.replay import Replay
from agent.config.capture import ReplaySource
from agent.core.records import ChannelFault, Validity
from agent.deploy.load import open_bundle
from agent.machine.scoring import WindowScorer
from agent.window.channel_watch import ChannelWatch, channel_verdict
from agent.window.condition import ConditionStatus, SensorMonitor
from agent.window.rolling import RollingWindow

RATE = 16000
STEREO = ConditionsInfo(channels=(2,), channel_levels_db=(0.0, -1.0))
MONO = ConditionsInfo(channels=(1,))
T = np.arange(10 * RATE) / RATE
ONE = 0.05 * np.random.default_rng(0).standard_normal(len(T))
OTHERS = {
    "alike": (ONE, ""),
    "inverted": (-ONE, "cancel each other"),
    "dead": (0.0 * ONE, "channel 1 gives nothing"),
    "quiet": (0.01 * ONE, "channel 1 is 40 dB quieter"),
    "clipped": (np.clip(40 * ONE, -1, 1), "of channel 1 is clipped"),
    "hum": (0.1 * np.sin(2 * np.pi * 50 * T), "channel 1 holds nothing but mains hum"),
}


def windows(tmp_path, other, channel=None):
    path = tmp_path / "a.wav"
    soundfile.write(path, np.stack([ONE, other], 1), RATE, subtype="FLOAT")
    source = Replay(ReplaySource(paths=(str(path),), speed="max", channel=channel), RATE)
    source.start()
    rolling = RollingWindow(10 * RATE, 10 * RATE, RATE)
    return [window for block in source.blocks() for window in rolling.push(block)]


@pytest.mark.parametrize("how", OTHERS)
def test_what_is_wrong_with_a_channel_travels_with_the_window(tmp_path, how):
    other, words = OTHERS[how]
    (window,) = windows(tmp_path, other)
    said = "; ".join(fault.text for fault in window.channel_faults)
    assert (words in said) if words else said == ""
    if how == "inverted":
        assert window.validity is Validity.SILENT
        assert "dead" not in window.reason
        assert "wired the other way round" in window.reason
    # A channel that was chosen is averaged with none.
    (alone,) = windows(tmp_path, other, channel=0)
    assert (alone.channel_faults, alone.validity) == ((), Validity.VALID)


def test_a_device_is_judged_in_whatever_pieces_its_sound_comes():
    convert = Converter(None, RATE, "card")
    frames = np.stack([ONE, OTHERS["hum"][0]], 1).astype(np.float32)
    found = [
        convert(frames[start : start + 1600], RATE, start / RATE).channel_faults
        for start in range(0, len(frames), 1600)
    ]
    assert found[0] == ()
    assert "mains hum" in found[-1][0].text


@pytest.mark.parametrize("how", OTHERS)
def test_what_becomes_of_the_window_follows_training(tmp_path, how, tiny_bundle):
    (window,) = windows(tmp_path, OTHERS[how][0])
    bundle = open_bundle(tiny_bundle)
    size = bundle.manifest.encoder.window_samples
    window = replace(
        window, samples=window.samples[:size], rate=bundle.manifest.encoder.sample_rate
    )
    if window.validity is not Validity.VALID:  # cancelled: nothing is left to encode
        return
    fit = {
        conditions: WindowScorer("pump", _with(bundle, conditions)).judge(window).score
        for conditions in (None, MONO, STEREO)
    }
    assert fit[None].value is not None
    assert (fit[STEREO].value is None) == (how != "alike")
    assert (fit[MONO].value is None) == (how == "clipped")
    told = "; ".join(fault.text for fault in fit[MONO].window.channel_faults)
    assert bool(told) == (how in {"dead", "quiet", "hum"})
    bundle.close()


def _with(bundle, conditions):
    return replace(bundle, manifest=bundle.manifest.model_copy(update={"conditions": conditions}))


def test_a_channel_that_was_as_quiet_in_training_is_no_news():
    watch = ChannelWatch(RATE)
    faults = watch.push(np.stack([ONE, 0.01 * ONE], 1).astype(np.float32))
    assert len(faults) == 1
    usual = ConditionsInfo(channels=(2,), channel_levels_db=(0.0, -41.0))
    assert channel_verdict(faults, usual, live=True) == ((), ())
    assert channel_verdict(faults, STEREO, live=True) == (faults, ())


def test_a_faulty_channel_is_maintenance_while_windows_are_judged(tmp_path):
    (window,) = windows(tmp_path, ONE)
    monitor = SensorMonitor()
    assert monitor.observe(window).status is ConditionStatus.GOOD
    fault = ChannelFault(Validity.SILENT, (1,), "channel 1 gives nothing")
    for n in range(1, 40):
        later = replace(window, monotonic=window.monotonic + 10 * n, channel_faults=(fault,))
        condition = monitor.observe(later)
    assert condition.status is ConditionStatus.MAINTENANCE_REQUIRED
    assert condition.reason.startswith("channel 1 gives nothing")
    assert "`channel`" in condition.reason
    for n in range(40, 200):
        condition = monitor.observe(replace(window, monotonic=window.monotonic + 10 * n))
    assert condition.status is ConditionStatus.GOOD
