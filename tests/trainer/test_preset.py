"""Presets validate, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agent.core.errors import ConfigError
from trainer.preset_file import load_preset, preset_names


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


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_says_whose_it_is_and_is_told_of(name):
    page = Path(__file__).parents[2] / "docs" / "reference" / "presets.md"
    assert f"`{name}`" in page.read_text(encoding="utf-8")
    preset = load_preset(name)
    if preset.floor:
        return
    assert preset.source
    # What differs from the report, or what it does not say.
    assert preset.source.startswith("Report ") == (preset.report is not None)
    if preset.report is not None:
        assert preset.report.deviations or preset.report.chosen or preset.members


def test_misspelt_names_and_fields_are_answered_with_the_nearest(tmp_path):
    with pytest.raises(ConfigError, match=r"'dual_pth', did you mean 'dual_path'\?"):
        load_preset("dual_pth")
    place = tmp_path / "mine.yaml"
    place.write_text("name: mine\nsummary: x\nencoder: {kind: loudness}\ntraining: {epoch: 3}\n")
    with pytest.raises(ConfigError, match=r"training\.epoch: .* did you mean 'epochs'\?"):
        load_preset(place)
    place.write_text("name: mine\n summary: x\n")
    with pytest.raises(ConfigError, match=r"is not YAML: line 2, column 9: "):
        load_preset(place)
