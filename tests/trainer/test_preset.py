"""Presets validate, and say what is wrong with them."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from trainer.preset import load_preset, preset_names


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_validates_under_its_own_name(name):
    assert load_preset(name).name == name


def test_a_pre_trained_encoder_without_weights_is_refused(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsummary: x\nencoder: {kind: mn04}\n")
    with pytest.raises(ConfigError, match="name its checkpoint"):
        load_preset(path)


def test_an_unknown_name_lists_what_there_is():
    with pytest.raises(ConfigError, match="spectral_shape"):
        load_preset("spectral_shap")


def test_a_misspelt_field_is_named(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nsummary: x\nencoder: {kind: log_mel}\ntraining: {epoch: 3}\n")
    with pytest.raises(ConfigError, match=r"training\.epoch"):
        load_preset(path)


def test_a_name_that_cannot_be_is_refused_in_words(tmp_path):
    place = tmp_path / "mine.yaml"
    place.write_text("name: My Preset\nsummary: mine\nencoder: {kind: loudness}\n")
    with pytest.raises(ConfigError, match=r"name: should be lower-case letters, digits and '_'"):
        load_preset(place)
