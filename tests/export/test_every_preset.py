"""Every preset, in small: trained, exported, its bundle evaluated, and run by the agent.

Three run always, the others with `make test-all`.
"""

from __future__ import annotations

import json
import subprocess
import sys
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest
import soundfile

from agent.capture.files import read_audio
from agent.deploy.load import open_bundle
from agent.recordings.load import load_machines
from export.bundle import export_bundle
from export.clips import score_tests
from export.compare import sections_hmean
from tests.support.presets import SECONDS, shrunk
from trainer.learn import train_machine
from trainer.preset_file import load_preset, preset_names

RATE = 16000
ALWAYS = {"spectral_shape", "baseline_mahala", "knn_beats"}
HERTZ = {"slow": 120.0, "fast": 190.0, "faulty": 2900.0}


def sound(seed: int, seconds: float, speed: str = "slow", *, noise: float = 0.02) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hum = np.sin(2 * np.pi * HERTZ[speed] * time) * (1 + 0.3 * np.sin(2 * np.pi * 3 * time))
    return (0.1 * hum + noise * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A machine of both domains, with attributes, clean and noise-only recordings, and tests."""
    root = tmp_path_factory.mktemp("data") / "fan"
    random = np.random.default_rng(9)

    def write(folder: str, name: str, samples: np.ndarray) -> None:
        place = root / folder
        place.mkdir(parents=True, exist_ok=True)
        soundfile.write(place / f"section_00_{name}.wav", samples, RATE)

    for i in range(20):
        domain, speed = "source" if i < 16 else "target", ("slow", "fast")[i % 2]
        write("train", f"{domain}_train_normal_{i:04}_spd_{speed}", sound(i, SECONDS, speed))
    for i in range(4):
        hiss = 0.02 * random.standard_normal(round(SECONDS * RATE))
        write("supplemental", f"noise_supplemental_normal_{i:04}", hiss.astype(np.float32))
        clean = sound(70 + i, SECONDS, noise=0.002)
        write("supplemental", f"source_supplemental_machine_{i:04}", clean)
        domain = ("source", "target")[i % 2]
        write("test", f"{domain}_test_normal_{i:04}", sound(90 + i, SECONDS))
        write("test", f"{domain}_test_anomaly_{i:04}", sound(95 + i, SECONDS, "faulty"))
    return root


@pytest.fixture(scope="module")
def heard(tmp_path_factory) -> Path:
    """What the agent's microphone hears: healthy, then a whine."""
    path = tmp_path_factory.mktemp("heard") / "sound.wav"
    parts = [sound(50, 4 * SECONDS), sound(51, 2 * SECONDS, "faulty")]
    soundfile.write(path, np.concatenate(parts), RATE)
    return path


def agent_scores(place: Path, heard: Path) -> dict[int, float]:
    """What a running agent gives for each stretch of the sound, by how many windows come before it.

    With an idle gate the first stretches are told twice: as a start, and once that has settled.
    """
    (place / "agent.yaml").write_text(
        "device: dev\nmachines:\n- name: fan\n  bundle: bundle\n"
        f"  source: {{kind: replay, paths: [{heard}], speed: max}}\n"
    )
    command = [sys.executable, "-m", "agent.cli", "run", "--config", place / "agent.yaml"]
    done = subprocess.run(
        [*command, "--jsonl", place / "out.jsonl"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (place / "out.jsonl").read_text().splitlines()]
    scores = [line for line in lines if line["kind"] == "score"]
    starts = [datetime.fromisoformat(line["start"].replace("Z", "+00:00")) for line in scores]
    return {
        round((start - starts[0]).total_seconds() / SECONDS): line["raw_score"]
        for start, line in zip(starts, scores, strict=True)
    }


@pytest.mark.parametrize(
    "name",
    [
        name if name in ALWAYS else pytest.param(name, marks=pytest.mark.slow)
        for name in preset_names()
    ],
)
def test_trained_exported_evaluated_and_run_by_the_agent(tmp_path, request, data, heard, name):
    preset = shrunk(load_preset(name))
    weights = None
    if any(part.weights for part in preset.encoder.each):  # only mn04 keeps a checkpoint
        weights = request.getfixturevalue("shared") / "weights"
    (machine,) = load_machines(data)
    record = train_machine(machine, preset, tmp_path / "run", weights=weights)
    assert bool(record.losses) == (preset.training.kind != "frozen")
    assert np.isfinite(record.losses).all()

    exported = export_bundle(tmp_path / "run", tmp_path / "bundle")
    changed = exported.manifest.quantization
    assert (changed.mode != "none") == (preset.quantization.mode != "none")
    assert (changed.int8_nodes > 0) == (preset.quantization.mode != "none")

    bundle = open_bundle(tmp_path / "bundle")
    try:
        scored = score_tests(
            bundle, machine, hop_seconds=SECONDS, channel=None, advance=lambda: None
        )
        samples = read_audio(heard, rate=bundle.manifest.encoder.sample_rate)
        size = bundle.manifest.encoder.window_samples
        windows = samples[: 6 * size].reshape(6, size)
        offline, _ = bundle.scorer.score(bundle.encoder.encode(windows))
    finally:
        bundle.close()
    assert not scored.unscored
    found = sections_hmean(scored.sections)
    assert found is not None
    hmean, clips = found
    assert clips == 8
    assert exported.comparison.test is not None
    assert exported.comparison.test.hmean == pytest.approx(hmean, abs=1e-9)

    online = agent_scores(tmp_path, heard)
    assert len(online) >= 5
    # The agent resamples as the sound comes in, the offline reader all at once.
    spread = float(offline.max() - offline.min())
    found_offline = offline[list(online)]
    whines = [score for place, score in online.items() if place >= 4]
    hums = [score for place, score in online.items() if place < 4]
    np.testing.assert_allclose(
        list(online.values()), found_offline, rtol=0.05, atol=0.02 * spread + 2e-3
    )
    if name == "loudness":
        assert spread > 0, "a level meter hears no whine, but it measures"
    elif any(part.size.startswith("tiny") for part in preset.encoder.each):
        # Random values hear a whine too, only not always more than all else.
        assert hmean > 0.7
        assert np.mean(whines) > np.mean(hums)
    else:
        assert hmean == pytest.approx(1.0), "a whine is found among hums"
        assert min(whines) > max(hums), "the whine is stranger than the hum"
