"""A run folder that cannot be written, or holds a run already, is refused before the training."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner

from agent.core.errors import ConfigError
from trainer.commands.train import train
from trainer.run import load_record, prepare_run


def test_a_folder_is_made_and_left_empty(tmp_path):
    prepare_run(tmp_path / "runs" / "pump")
    assert list((tmp_path / "runs" / "pump").iterdir()) == []


def test_a_file_in_its_place_is_named(tmp_path):
    place = tmp_path / "pump"
    place.write_text("mine")
    with pytest.raises(ConfigError, match="pump: cannot be written to"):
        prepare_run(place)
    assert place.read_text() == "mine"


@pytest.fixture
def data(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(4):
        place = tmp_path / "pump" / "normal" / f"{n}.wav"
        place.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(place, 0.1 * rng.standard_normal(80_000), 8000)
    return tmp_path / "pump"


def run(data, out, *options):
    given = [str(data), "--preset", "loudness", "--out", str(out), *options]
    return CliRunner().invoke(train, given)


def test_a_run_is_replaced_only_when_that_is_asked_for(data, tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    assert run(data, out).exit_code == 0
    before = (out / "run.json").read_bytes()
    again = run(data, out, "--seed", "1")
    assert isinstance(again.exception, ConfigError)
    assert "holds a run already (pump with loudness, " in str(again.exception)
    assert "--force" in str(again.exception)
    finished = run(data, out, "--resume")
    assert "finished run" in str(finished.exception)
    assert "--force" in str(finished.exception)
    assert (out / "run.json").read_bytes() == before
    forced = run(data, out, "--seed", "1", "--force")
    assert forced.exit_code == 0, forced.output
    assert json.loads((out / "run.json").read_text())["seed"] == 1
    assert run(data, out, "--resume", "--force").exit_code == 2


def test_an_interrupted_training_is_not_begun_anew_unasked(data, tmp_path):
    out = tmp_path / "run"
    (out / "checkpoint" / "00000001").mkdir(parents=True)
    refused = run(data, out)
    assert "holds an interrupted training" in str(refused.exception)
    assert "--resume" in str(refused.exception)
    assert (out / "checkpoint" / "00000001").is_dir()
    assert run(data, out, "--force").exit_code == 0
    assert not (out / "checkpoint").exists()


def test_a_training_that_was_to_replace_a_run_can_be_gone_on_with(data, tmp_path):
    out = tmp_path / "run"
    assert run(data, out).exit_code == 0
    (out / "checkpoint").mkdir()  # of a training with --force that died
    assert "interrupted" in str(run(data, out).exception)
    assert run(data, out, "--resume").exit_code == 0


def test_a_path_of_weights_or_recordings_that_is_not_there_is_said_at_once(data, tmp_path):
    refused = run(data, tmp_path / "run", "--weights", str(tmp_path / "nowhere"))
    assert refused.exit_code == 2
    assert "nowhere' does not exist" in refused.output
    assert run(data, tmp_path / "run").exit_code == 0
    with pytest.raises(ConfigError, match=r"nowhere: the recordings' folder does not exist"):
        load_record(tmp_path / "run").to_machine(tmp_path / "nowhere")


@pytest.mark.parametrize("seed", [-1, 2**32])
def test_a_seed_that_no_generator_takes_is_said_at_once(data, tmp_path, seed):
    refused = run(data, tmp_path / "run", "--seed", str(seed))
    assert refused.exit_code == 2
    assert "4294967295" in refused.output
