"""An autoencoder's threshold: from recordings that it has not learnt, or with a warning."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.bank.draft import draft_add
from agent.bank.grow import make_version
from agent.bank.sound import embed_sound, find_sound
from agent.deploy.load import open_bundle
from agent.deploy.versions import Versions, beside
from agent.recordings.load import load_machines
from export.bundle import export_run
from tests.support.presets import SECONDS, shrunk
from trainer.learn import train_machine
from trainer.preset_file import load_preset

RATE = 16000
RECORDINGS = 12


def hum(path: Path, *, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    time = np.arange(round(SECONDS * RATE)) / RATE
    noise = 0.02 * np.random.default_rng(seed).standard_normal(len(time))
    samples = 0.1 * np.sin(2 * np.pi * 120 * time) + noise
    soundfile.write(path, samples.astype(np.float32), RATE)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "fan"
    for i in range(RECORDINGS):
        hum(root / "normal" / f"{i}.wav", seed=i)
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
    warned = any("many more false alarms than promised" in note for note in manifest.notes)
    assert warned == (not held)
    assert counted(tmp_path / "bundle") == (held or recordings(tmp_path / "bundle"))

    # Grown on a device, it is calibrated on what the network has not learnt, old and new.
    for i in range(2):
        hum(tmp_path / "new" / f"n{i}.wav", seed=90 + i)
    before = recordings(tmp_path / "bundle")
    versions = Versions(tmp_path / "bundle", beside(tmp_path / "bundle"))
    bundle = open_bundle(tmp_path / "bundle")
    try:
        sound = embed_sound(find_sound([tmp_path / "new"], label="healthy"), bundle)
        report = make_version(bundle, versions, draft_add(bundle, sound), max_rise=1e9)
    finally:
        bundle.close()
    grown = versions.path(report.version)
    added = recordings(grown) - before
    assert len(added) == 2
    assert counted(grown) == (held or before) | added


def recordings(bundle: Path) -> set[str]:
    return {row["source"] for row in json.loads((bundle / "rows.json").read_text())}


def counted(bundle: Path) -> set[str]:
    rows = json.loads((bundle / "rows.json").read_text())
    scores = np.load(bundle / "healthy_scores.npy")
    return {row["source"] for row, score in zip(rows, scores, strict=True) if not np.isnan(score)}
