"""A microphone's level, as doctor and `run --check` judge it: silence is no microphone that is well."""

from __future__ import annotations

import numpy as np
import pytest

from agent.capture import probe as probing
from agent.capture.level import measure_channels
from agent.capture.probe import Probe, check_source
from agent.config.agent import AgentConfig
from agent.config.capture import MicrophoneSource
from agent.core.errors import AudioError
from agent.doctor.examine import check_microphone
from agent.doctor.finding import Grade

NOISE = np.random.default_rng(0).standard_normal((4800, 2)).astype(np.float32)


@pytest.fixture
def hears(monkeypatch):
    """Has every microphone hear this, float32 `(n, channels)`."""

    def give(frames):
        found = Probe("USB (hw:1,0)", 48000.0, measure_channels(frames))
        monkeypatch.setattr(probing, "probe", lambda _: found)

    return give


def doctor(channel=None):
    source = {"kind": "microphone", "device": "USB", "channel": channel}
    config = AgentConfig.model_validate({"machines": [{"name": "pump", "source": source}]})
    return check_microphone(config, config.machines[0])


@pytest.mark.parametrize(
    ("frames", "grade", "told"),
    [
        (0 * NOISE, Grade.FAIL, "not one sample moves"),
        (1e-7 * NOISE, Grade.FAIL, "nothing but silence (level -140 dBFS)"),
        (1e-10 * NOISE, Grade.FAIL, "nothing but silence"),  # -200 dBFS, which was called OK
        (1e-5 * NOISE, Grade.WARN, "hardly more than the noise"),
        (0.01 * NOISE, Grade.OK, "level -40 dBFS"),
        (np.clip(NOISE, -1, 1), Grade.WARN, "full scale"),
        (0 * NOISE + 0.1, Grade.FAIL, "nothing but silence"),
    ],
)
def test_the_level_decides(hears, frames, grade, told):
    hears(frames.astype(np.float32))

    found = doctor()

    assert found.grade is grade
    assert told in found.text
    assert bool(found.remedy) == (grade is not Grade.OK)


def test_the_channel_in_use_decides(hears):
    hears(np.stack([0.01 * NOISE[:, 0], 0 * NOISE[:, 0]], axis=1))

    assert doctor().grade is Grade.OK
    assert doctor(0).grade is Grade.OK
    assert doctor(1).grade is Grade.FAIL
    with pytest.raises(AudioError, match="silence"):
        check_source(MicrophoneSource(device="USB", channel=1))
