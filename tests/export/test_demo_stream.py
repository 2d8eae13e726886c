"""The stream that the demonstration plays changes where it says it does."""

from __future__ import annotations

import numpy as np
import pytest
import soundfile

from agent.core.errors import ConfigError
from agent.recordings.model import Machine, Recording
from export.demo.stream import FADE_SECONDS, join, splice_stream, synthesize_stream
from trainer.synth import Fault, design_machine

RATE = 16000


def tone(path, hz, seconds, label, *, rate=RATE):
    path.parent.mkdir(parents=True, exist_ok=True)
    t = np.arange(round(seconds * rate)) / rate
    soundfile.write(path, 0.3 * np.sin(2 * np.pi * hz * t), rate, subtype="PCM_16")
    return Recording(path, "fan", "test", label)


def test_splice_puts_the_onset_between_healthy_and_anomalous(tmp_path):
    recordings = [
        *(tone(tmp_path / f"n{i}.wav", 500, 5.0, "normal") for i in range(6)),
        *(tone(tmp_path / f"a{i}.wav", 3000, 5.0, "anomaly") for i in range(6)),
    ]
    machine = Machine("fan", tmp_path, tuple(recordings))
    stream = splice_stream(
        tmp_path / "out" / "stream.wav", machine, healthy_seconds=18, faulty_seconds=9, seed=0
    )
    sound, rate = soundfile.read(stream.path)
    assert rate == stream.rate == RATE
    assert len(sound) / rate == pytest.approx(stream.seconds, abs=1e-4)
    # Four healthy recordings reach 18 s, two anomalous ones 9 s, less five fades.
    assert stream.seconds == pytest.approx(6 * 5.0 - 5 * FADE_SECONDS)
    onset = round(stream.onset * rate)
    high = np.abs(np.diff(sound, 2))  # small for 500 Hz, large for 3 kHz
    assert high[: onset - 2].max() < 0.02
    assert high[onset + round(FADE_SECONDS * rate) :][: RATE // 10].max() > 0.2


def test_splice_refuses_a_machine_without_anomalies(tmp_path):
    machine = Machine("fan", tmp_path, (tone(tmp_path / "n.wav", 500, 5.0, "normal"),))
    with pytest.raises(ConfigError, match="test/anomaly"):
        splice_stream(tmp_path / "s.wav", machine, healthy_seconds=9, faulty_seconds=9, seed=0)


def test_joints_neither_click_nor_clip():
    t = np.arange(RATE) / RATE
    sounds = [(0.5 * np.sin(2 * np.pi * 100 * t + p)).astype(np.float32) for p in (0.0, 2.0, 4.0)]
    joined = join(sounds, RATE)
    assert len(joined) == 3 * RATE - 2 * round(FADE_SECONDS * RATE)
    step = 0.5 * 2 * np.pi * 100 / RATE
    assert np.abs(np.diff(joined)).max() < 1.6 * step
    assert np.abs(joined).max() < 0.75


def test_the_synthetic_stream_breaks_at_the_onset(tmp_path):
    design = design_machine(0)
    made = [
        synthesize_stream(
            tmp_path / f"{severity}.wav",
            design,
            Fault("bearing", severity),
            healthy_seconds=6.0,
            faulty_seconds=3.0,
            seed=0,
        )
        for severity in (1.0, 0.01)
    ]
    strong, weak = (soundfile.read(stream.path)[0] for stream in made)
    onset = round(made[0].onset * RATE)
    assert len(strong) == 9 * RATE
    assert np.abs(strong[:onset] - weak[:onset]).max() < 1e-4
    assert np.abs(strong[onset:] - weak[onset:]).max() > 1e-2
