"""Presets with views from files that a user adds: trained, exported in INT8, judged by the agent."""

from __future__ import annotations

import json

import numpy as np
import pytest
import soundfile
import yaml
from support.trained import RATE, sound

from agent.bundle.verify import read_manifest
from agent.config.agent import load_config
from agent.recordings.load import load_machines
from agent.service import Agent
from export.bundle import export_run
from trainer.learn import train_machine
from trainer.preset_file import load_preset

# As a user would write it: the small speech embedding beside the views that need no file.
_OWN = """
name: with_speech
summary: The speech embedding beside the views of the spectrum.
source: a user
encoder:
  kind: joined
  parts:
    - {kind: sound_views}
    - {kind: speech_embedding, level: remove, weights: speech_embedding.onnx}
scorer:
  kind: fusion
  parts:
    - view: peaks
      standardize: robust
      scorer: {kind: knn, metric: euclidean, k: 1, normalization: varmin}
    - encoder: 1
      standardize: robust
      scorer: {kind: knn, metric: euclidean, k: 1, normalization: varmin}
"""


def judged(place, bundle, samples):
    """What the agent tells of a sound that it plays to itself: (scores on the scale, events)."""
    place.mkdir()
    soundfile.write(place / "sound.wav", samples, RATE, subtype="FLOAT")
    machine = {
        "name": "pump", "bundle": str(bundle), "hop_seconds": 1.0, "queue_windows": 64,
        "source": {"kind": "replay", "paths": [str(place / "sound.wav")], "speed": "max"},
    }  # fmt: skip
    config = {"device": "hall", "machines": [machine], "state_dir": str(place / "state"),
              "jsonl": str(place / "told.jsonl")}  # fmt: skip
    (place / "agent.yaml").write_text(yaml.safe_dump(config))
    agent = Agent(load_config(place / "agent.yaml"))
    agent.prepare()
    try:
        agent.start()
        agent.wait()
    finally:
        agent.stop()
    told = [json.loads(line) for line in (place / "told.jsonl").read_text().splitlines()]
    scores = [m["score"] for m in told if m["kind"] == "score" and m["score"] is not None]
    return scores, [m["data"]["event"] for m in told if m["kind"] == "event"]


@pytest.mark.slow
@pytest.mark.shared
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["auscult_yamnet", "with_speech"])
def test_the_agent_tells_a_fault_from_healthy_sound(shared, tmp_path, name):
    random = np.random.default_rng(0)
    (tmp_path / "pump/normal").mkdir(parents=True)
    for n in range(12):
        place = tmp_path / f"pump/normal/{n:02}.wav"
        soundfile.write(place, sound(random), RATE, subtype="FLOAT")
    (tmp_path / "with_speech.yaml").write_text(_OWN)
    own = name == "with_speech"
    preset = load_preset(tmp_path / "with_speech.yaml" if own else name)
    (machine,) = load_machines(tmp_path / "pump")
    weights = shared / "weights"
    train_machine(machine, preset, tmp_path / "run", weights=weights)
    export_run(tmp_path / "run", tmp_path / "bundle", test=False)

    manifest = read_manifest(tmp_path / "bundle")
    assert manifest.encoder.precision == "int8"
    assert manifest.quantization.int8_nodes > 0
    assert manifest.float_encoder is not None
    healthy = sound(random, 60)
    scores, events = judged(tmp_path / "healthy", tmp_path / "bundle", healthy)
    assert len(scores) > 40
    assert np.median(scores) < 1.0
    assert not events
    # A bearing that knocks nine times a second.
    t = np.arange(RATE // 20) / RATE
    ring = np.exp(-t / 0.004) * np.sin(2 * np.pi * 3000.0 * t)
    strikes = np.zeros(len(healthy))
    strikes[:: RATE // 9] = 0.8
    knocking = (healthy + np.convolve(strikes, ring)[: len(healthy)]).astype(np.float32)
    scores, events = judged(tmp_path / "faulty", tmp_path / "bundle", knocking)
    assert min(scores) > 1.0
    assert "raised" in events
