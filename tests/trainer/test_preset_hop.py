"""Bundles of every preset are heard at the default hop, and their promise was found for it."""

from __future__ import annotations

import pytest

from agent.config.agent import MachineConfig
from agent.config.decide import DecideConfig
from agent.decide.thresholds import counting_of
from agent.learn.promise import window_rule
from trainer.preset_file import load_preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_a_preset_is_calibrated_for_the_steps_that_a_device_takes_by_default(name):
    preset = load_preset(name)
    window = preset.window
    hop = MachineConfig(name="pump").hop_of(window.hop_seconds, window.seconds)
    # Calm windows leave none of the sound out, and lie on the grid of the close ones.
    assert hop.varies
    assert hop.seconds < hop.calm <= min(5.0, window.seconds)
    promise = window_rule(preset).promise
    if promise is not None:
        counted = counting_of(DecideConfig().amounts, hop.seconds, window.seconds)
        assert promise.hop_seconds == counted.hop_seconds == hop.seconds
