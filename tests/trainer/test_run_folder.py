"""A run folder that cannot be written is refused before the training."""

from __future__ import annotations

import pytest

from agent.errors import ConfigError
from trainer.run import prepare_run


def test_a_folder_is_made_and_left_empty(tmp_path):
    prepare_run(tmp_path / "runs" / "pump")
    assert list((tmp_path / "runs" / "pump").iterdir()) == []


def test_a_file_in_its_place_is_named(tmp_path):
    place = tmp_path / "pump"
    place.write_text("mine")
    with pytest.raises(ConfigError, match="pump: cannot be written to"):
        prepare_run(place)
    assert place.read_text() == "mine"
