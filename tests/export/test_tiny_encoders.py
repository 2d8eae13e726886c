"""Every encoder, in tiny form: trained, exported in INT8, run by the agent; they agree.

Published checkpoints are not needed: the tiny models begin with random values.
"""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from agent.capture.files import read_audio
from agent.deploy.load import open_bundle
from agent.recordings.load import load_machines
from export.bundle import export_bundle
from trainer.learn import train_machine
from trainer.preset import Preset

RATE = 16000
SECONDS = 2.0
SIZES = {
    "beats": "tiny",
    "eat": "tiny",
    "m2d": "tiny_80x608p16x16",
    "dasheng": "tiny",
    "muq": "tiny",
}
TRAININGS = {
    "frozen": {"kind": "frozen"},
    "full": {"kind": "classify", "epochs": 1, "batch": 8, "learning_rate": 1e-4},
    "lora": {
        "kind": "classify",
        "tune": "lora",
        "lora": {"rank": 4, "targets": ["q", "v", "out"]},
        "epochs": 1,
        "batch": 8,
        "learning_rate": 1e-4,
    },
}


def sound(seed: int, seconds: float, *, speed: str = "slow") -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hertz = {"slow": 120.0, "fast": 190.0, "faulty": 2900.0}[speed]
    hum = 0.1 * np.sin(2 * np.pi * hertz * time) * (1 + 0.3 * np.sin(2 * np.pi * 3 * time))
    return (hum + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "fan"
    (root / "normal").mkdir(parents=True)
    for seed in range(10):
        speed = ("slow", "fast")[seed % 2]
        soundfile.write(
            root / "normal" / f"{speed}{seed}.wav", sound(seed, SECONDS, speed=speed), RATE
        )
    return root


@pytest.fixture(scope="module")
def heard(tmp_path_factory):
    """What the agent's microphone hears: healthy, then a whine."""
    path = tmp_path_factory.mktemp("heard") / "sound.wav"
    parts = [sound(50, 4 * SECONDS), sound(51, 2 * SECONDS, speed="faulty")]
    soundfile.write(path, np.concatenate(parts), RATE)
    return path


def learn(data, kind, training):
    return Preset.model_validate(
        {
            "name": f"tiny_{kind}",
            "summary": "for tests",
            "encoder": {"kind": kind, "size": SIZES[kind]},
            "training": training,
            "window": {"seconds": SECONDS, "hop_seconds": SECONDS, "train_hop_seconds": SECONDS},
            "quantization": {"mode": "dynamic", "min_cosine": 0.95},
        }
    )


def listen(root, heard, kinds):
    """Scores of the windows of one agent with a machine for every kind, in order, by kind."""
    machines = "".join(
        f"- name: {kind}\n  bundle: {kind}\n"
        f"  source: {{kind: replay, paths: [{heard}], speed: max}}\n"
        for kind in kinds
    )
    config, out = root / "agent.yaml", root / "out.jsonl"
    config.write_text(f"device: dev\nmachines:\n{machines}")
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "run", "--config", config, "--jsonl", out],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return {
        kind: [
            one["raw_score"] for one in lines if one["kind"] == "score" and one["machine"] == kind
        ]
        for kind in kinds
    }


# Every kind once in `make test`, every kind in every way in `make test-all`.
WAYS = {
    "once": {kind: "full" if kind in {"beats", "dasheng"} else "frozen" for kind in SIZES},
    **{training: dict.fromkeys(SIZES, training) for training in TRAININGS},
}


@pytest.fixture(
    scope="module",
    params=["once", *(pytest.param(one, marks=pytest.mark.slow) for one in TRAININGS)],
)
def made(request, tmp_path_factory, data, heard):
    """A bundle of each kind, and what one agent says with all of them: a process costs seconds."""
    root = tmp_path_factory.mktemp(request.param)
    (machine,) = load_machines(data)
    exported = {}
    for kind, training in sorted(WAYS[request.param].items()):
        preset = learn(data, kind, TRAININGS[training])
        record = train_machine(machine, preset, root / "runs" / kind)
        assert bool(record.losses) == (training != "frozen")
        exported[kind] = export_bundle(root / "runs" / kind, root / kind)
    return root, exported, listen(root, heard, sorted(SIZES))


@pytest.mark.parametrize("kind", sorted(SIZES))
def test_trained_exported_and_run_by_the_agent(made, heard, kind):
    root, exported, told = made
    manifest, scores = exported[kind].manifest, told[kind]
    assert manifest.encoder.precision == "int8"
    assert manifest.quantization.int8_nodes > 0
    assert manifest.quantization.torch_cosine_min > 0.999

    bundle = open_bundle(root / kind)
    try:
        samples = read_audio(heard, rate=bundle.manifest.encoder.sample_rate)
        windows = samples[: len(scores) * bundle.manifest.encoder.window_samples]
        vectors = bundle.encoder.encode(windows.reshape(len(scores), -1))
        offline, _ = bundle.scorer.score(vectors)
    finally:
        bundle.close()
    assert len(scores) == 6
    # The agent resamples as the sound comes in, the offline reader all at once.
    np.testing.assert_allclose(scores, offline, rtol=0.05, atol=2e-3)
    assert min(scores[4:]) > max(scores[:4]), "the whine is stranger than the hum"
