"""Fusion from end to end: of an evaluation's scores, and of encoders of two rates in one bundle."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import soundfile
import yaml
from click.testing import CliRunner

from agent.capture.files import read_audio
from agent.commands.score import score
from agent.config.scorer import FusionConfig
from agent.deploy.load import open_bundle
from agent.offline.clips import score_clip
from agent.recordings.load import load_machines
from export.bundle import export_run
from export.commands.evaluate import evaluate
from trainer.commands.fuse import fuse
from trainer.fusion.healthy import read_healthy
from trainer.learn import train_machine
from trainer.preset import Preset

RATE = 24000
SECONDS = 2.0


def hum(path: Path, rng: np.random.Generator, *, whine: float = 0.0) -> Path:
    time = np.arange(int(SECONDS * RATE)) / RATE
    tone = 0.1 * np.sin(2 * np.pi * (120 + rng.uniform(-2, 2)) * time)
    tone += whine * np.sin(2 * np.pi * 2900 * time)
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, (tone + 0.02 * rng.normal(size=len(time))).astype(np.float32), RATE)
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("data") / "pump"
    rng = np.random.default_rng(0)
    for i in range(8):
        hum(root / "normal" / f"{i}.wav", rng)
        hum(root / "test" / "normal" / f"{i}.wav", rng)
        hum(root / "test" / "anomaly" / f"{i}.wav", rng, whine=0.01)
    return root


def run(command, *arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_what_an_evaluation_leaves_is_fused(tmp_path, data):
    done = run(evaluate, data, "--preset", "loudness", "--out", tmp_path / "ev", "--discard")
    assert done.exit_code == 0, done.output
    assert len(read_healthy(tmp_path / "ev" / "scores" / "log_mel")["pump"]) == 8
    out = tmp_path / "fused"
    done = run(fuse, tmp_path / "ev", "--weights", "2,1", "--out", out, "--resamples", 100)
    assert done.exit_code == 0, done.output
    about = json.loads((out / "fusion.json").read_text())
    assert about["systems"]["log_mel"]["weight"] == pytest.approx(2 / 3)
    sections = yaml.safe_load((out / "fusion.yaml").read_text())
    preset = Preset.model_validate({"name": "fused", "summary": "for tests", **sections})
    assert [part.kind for part in preset.encoder.parts] == ["log_mel", "loudness"]


def test_encoders_of_two_rates_are_one_bundle(tmp_path, data):
    knn = {"kind": "knn", "normalization": "none"}
    kinds: list[dict] = [
        {"kind": "spectral_shape"},
        {"kind": "log_mel"},
        {"kind": "muq", "size": "tiny"},
    ]
    cut = {"seconds": SECONDS, "hop_seconds": SECONDS, "train_hop_seconds": SECONDS}
    preset = Preset.model_validate(
        {
            "name": "fused",
            "summary": "for tests",
            "encoder": {"kind": "joined", "together": False, "parts": kinds},
            "scorer": {
                "kind": "fusion",
                "parts": [{"encoder": i, "weight": 3 - i, "scorer": knn} for i in range(3)],
            },
            "window": cut,
            "quantization": {"min_cosine": 0.9},
        }
    )
    (machine,) = load_machines(data)
    trained = train_machine(machine, preset, tmp_path / "run").preset.scorer
    assert isinstance(trained, FusionConfig)
    spans = [part.columns for part in trained.parts]
    assert all(first[1] == second[0] for first, second in pairwise(spans))

    manifest = export_run(tmp_path / "run", tmp_path / "bundle", test=False)
    assert manifest.encoder.sample_rate == 24000
    assert manifest.encoder.dim == spans[-1][1]
    assert manifest.quantization.int8_nodes > 0
    bundle = open_bundle(tmp_path / "bundle")
    try:
        found = {
            kind: [
                score_clip(bundle, read_audio(path, rate=24000), hop_seconds=SECONDS).value
                for path in sorted((data / "test" / kind).iterdir())
            ]
            for kind in ("normal", "anomaly")
        }
    finally:
        bundle.close()
    assert max(found["normal"]) < min(found["anomaly"])
    wav = data / "test" / "anomaly" / "0.wav"
    told = run(score, wav, "--bundle", tmp_path / "bundle", "--json", tmp_path / "s.json")
    assert told.exit_code in {0, 1}, told.output
    (file,) = json.loads((tmp_path / "s.json").read_text())["files"]
    assert file["raw_score"] == pytest.approx(found["anomaly"][0], abs=1e-4)
