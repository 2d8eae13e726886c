"""An autoencoder's threshold: from recordings that it has not learnt, or with a warning."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile

from export.bundle import export_run
from tests.support.presets import SECONDS, shrunk
from trainer.learn import train_machine
from trainer.preset import load_preset
from trainer.recordings.load import load_machines

RATE = 16000
RECORDINGS = 12


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "fan"
    (root / "normal").mkdir(parents=True)
    random = np.random.default_rng(0)
    for i in range(RECORDINGS):
        time = np.arange(round(SECONDS * RATE)) / RATE
        hum = 0.1 * np.sin(2 * np.pi * 120 * time) + 0.02 * random.standard_normal(len(time))
        soundfile.write(root / "normal" / f"{i}.wav", hum.astype(np.float32), RATE)
    return root


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_only_recordings_that_it_has_not_learnt_calibrate_the_threshold(tmp_path, data, share):
    preset = shrunk(load_preset("baseline_mse"))
    training = preset.training.model_copy(update={"held_out": share})
    preset = preset.model_copy(update={"training": training})
    (machine,) = load_machines(data)
    record = train_machine(machine, preset, tmp_path / "run")
    manifest = export_run(tmp_path / "run", tmp_path / "bundle", precision="float32")
    held = {name.removeprefix("fan/") for name in record.held_out}
    assert len(held) == share * RECORDINGS
    assert manifest.threshold.healthy_recordings == (len(held) or RECORDINGS)
    assert manifest.trained_on.recordings == RECORDINGS
    warned = any("learnt to restore" in note for note in manifest.notes)
    assert warned == (not held)
    scores = np.load(tmp_path / "bundle" / "healthy_scores.npy")
    rows = json.loads((tmp_path / "bundle" / "rows.json").read_text())
    counted = {
        row["source"] for row, score in zip(rows, scores, strict=True) if not np.isnan(score)
    }
    assert counted == (held or {row["source"] for row in rows})
