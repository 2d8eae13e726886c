"""Every scorer: trained, exported, run by the agent in one process; and damaged files refused."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile
from pydantic import TypeAdapter
from scipy.stats import ks_2samp

from agent.bundle.manifest import MANIFEST, ROW_CONSTANTS, Manifest, digest_of
from agent.bundle.seal import seal
from agent.bundle.verify import read_manifest
from agent.capture.files import read_audio
from agent.config.scorer import ScorerConfig
from agent.core.errors import BundleError
from agent.deploy.load import open_bundle
from agent.offline.clips import score_clip
from agent.recordings.load import load_machines
from export.bundle import export_bundle
from trainer.graph import graph_cache
from trainer.graph.onnx_graph import export_graph
from trainer.learn import train_machine
from trainer.preset import Preset

RATE = 16000
SECONDS = 1.0
WHINE_BAND = 86  # mel band of 2900 Hz
SCORERS = {
    "knn": {"kind": "knn", "metric": "euclidean"},
    "mahalanobis": {"kind": "mahalanobis"},
    "density_softmax": {"kind": "density_softmax", "dims": 4, "clusters": 2},
    "gmm": {"kind": "gmm", "dims": 4, "components": 2},
    "ocsvm": {"kind": "ocsvm", "dims": 4},
    "mcv": {"kind": "mcv", "own_threshold": True},
    "value": {"kind": "value", "column": WHINE_BAND},
    "fusion": {
        "kind": "fusion",
        "combine": "rank",
        "clip": "max",
        "parts": [
            {"columns": [0, 128], "scorer": {"kind": "knn", "metric": "euclidean"}},
            {"columns": [128, 256], "scorer": {"kind": "mahalanobis"}, "weight": 0.5},
            {"scorer": {"kind": "gmm", "dims": 4}},
        ],
    },
}


def sound(seed: int, seconds: float, *, whine: bool = False) -> np.ndarray:
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hum = 0.1 * np.sin(2 * np.pi * (120 + seed % 7) * time) * (1 + 0.3 * np.sin(19 * time))
    odd = 0.1 * np.sin(2 * np.pi * 2900 * time) if whine else 0.0
    return (hum + odd + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def one_graph():
    """The encoder is the same for every scorer: its graph is traced once and copied after."""
    made = {}

    def export_once(encoder, path):
        if "graph" not in made:
            made["graph"] = export_graph(encoder, path)
            made["bytes"] = path.read_bytes()
        path.write_bytes(made["bytes"])
        return replace(made["graph"], path=path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(graph_cache, "export_graph", export_once)
        yield


@pytest.fixture(scope="module")
def bundles(tmp_path_factory, one_graph):
    """A bundle of each scorer, of one machine."""
    root = tmp_path_factory.mktemp("scorers")
    for seed in range(12):
        path = root / "data" / "fan" / "normal" / f"{seed:02}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, sound(seed, 3 * SECONDS), RATE)
    (machine,) = load_machines(root / "data")
    for name, scorer in SCORERS.items():
        preset = Preset.model_validate(
            {
                "name": name,
                "summary": "for tests",
                "encoder": {"kind": "log_mel"},
                "window": {
                    "seconds": SECONDS, "hop_seconds": SECONDS, "train_hop_seconds": SECONDS,
                },
                "scorer": scorer,
                "quantization": {"mode": "none"},
                "drift": {"enabled": False},
            }
        )  # fmt: skip
        train_machine(machine, preset, root / "runs" / name)
        export_bundle(root / "runs" / name, root / name, test=False)
    return root


@pytest.fixture(scope="module")
def heard(bundles):
    path = bundles / "heard.wav"
    parts = [sound(50, 4 * SECONDS), sound(51, 3 * SECONDS, whine=True)]
    soundfile.write(path, np.concatenate(parts), RATE)
    return path


@pytest.fixture(scope="module")
def published(bundles, heard):
    """What one agent with a machine for every scorer says of the sound, by machine."""
    machines = "".join(
        f"- name: {name}\n  bundle: {name}\n"
        f"  source: {{kind: replay, paths: [{heard}], speed: max}}\n"
        for name in SCORERS
    )
    (bundles / "agent.yaml").write_text(f"device: dev\nmachines:\n{machines}")
    out = bundles / "out.jsonl"
    done = subprocess.run(
        [sys.executable, "-m", "agent.cli", "run", "--config", bundles / "agent.yaml",
         "--jsonl", out],
        capture_output=True, text=True, timeout=900, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in out.read_text().splitlines()]
    return [line for line in lines if line["kind"] == "score"]


@pytest.mark.parametrize("name", sorted(SCORERS))
def test_exported_and_run_by_the_agent(bundles, heard, published, name):
    scores = [line["raw_score"] for line in published if line["machine"] == name]
    bundle = open_bundle(bundles / name)
    try:
        samples = read_audio(heard, rate=RATE)
        vectors = bundle.encoder.encode(samples.reshape(len(scores), -1))
        offline, nearest = bundle.scorer.score(vectors)
        clip = score_clip(bundle, samples)
        healthy = np.stack([sound(seed, SECONDS) for seed in range(60, 90)])
        fresh, _ = bundle.scorer.score(bundle.encoder.encode(healthy))
    finally:
        bundle.close()
    np.testing.assert_allclose(scores, offline, rtol=1e-3, atol=1e-4)
    threshold = bundle.manifest.threshold
    assert min(scores[4:]) > threshold.value, "the whine is anomalous"
    assert max(scores[:4]) < min(scores[4:])
    assert np.mean(fresh > threshold.value) <= 0.1
    assert (nearest >= 0).all() == (name in {"knn", "fusion"})
    assert bundle.manifest.scorer == TypeAdapter(ScorerConfig).validate_python(
        SCORERS[name]
    ) or "dropped" in " ".join(bundle.manifest.notes)
    wanted = np.max(offline) if name == "fusion" else np.mean(offline)
    assert clip.value == pytest.approx(float(wanted), rel=1e-4)
    if name == "mcv":
        assert threshold.value == 1.0


@pytest.mark.parametrize("name", ["mahalanobis", "ocsvm"])
def test_healthy_scores_are_what_new_sound_gets(bundles, name):
    """The scores of windows that a density was fitted to are not."""
    healthy = np.load(bundles / name / "healthy_scores.npy")
    bundle = open_bundle(bundles / name)
    try:
        own, _ = bundle.scorer.score(bundle.bank.vectors)
        fresh, _ = bundle.scorer.score(
            bundle.encoder.encode(np.stack([sound(seed, SECONDS) for seed in range(60, 90)]))
        )
    finally:
        bundle.close()
    assert ks_2samp(healthy, fresh).statistic < 0.5 * ks_2samp(own, fresh).statistic


@pytest.mark.parametrize("name", sorted(set(SCORERS) - {"value"}))
@pytest.mark.parametrize("damage", ["flip", "absent", "shape", "nan"])
def test_a_damaged_parameter_file_is_refused_by_name(bundles, tmp_path, name, damage):
    folder = shutil.copytree(bundles / name, tmp_path / "b")
    files = sorted(file for file in read_manifest(folder).files if file.startswith("scorer."))
    victim = folder / (files[-1] if files else ROW_CONSTANTS)
    if damage == "flip":
        data = bytearray(victim.read_bytes())
        data[-1] ^= 1
        victim.write_bytes(data)
    else:
        # Sealed anew: what the checksum cannot tell, the shapes and numbers must.
        array = np.load(victim)
        if damage == "absent":
            victim.unlink()
        elif damage == "shape":
            np.save(victim, np.zeros((3, 1, 2), np.float32))
        else:
            np.save(victim, np.full_like(array, np.nan))
        seal(folder, read_manifest_unverified(folder))
    with pytest.raises(BundleError, match=victim.name):
        open_bundle(folder)


def read_manifest_unverified(folder):
    return Manifest.model_validate_json((folder / MANIFEST).read_bytes())


def test_a_bundle_of_schema_version_1_still_opens(bundles, tmp_path):
    folder = shutil.copytree(bundles / "knn", tmp_path / "old")
    data = json.loads((folder / MANIFEST).read_text())
    data["schema_version"] = 1
    del data["threshold"]["rule"]
    data["scorer"] = {key: data["scorer"][key] for key in (
        "kind", "metric", "k", "normalization", "density_k", "clip",
    )}  # fmt: skip
    data["digest"] = digest_of(data)
    (folder / MANIFEST).write_text(json.dumps(data))
    bundle = open_bundle(folder)
    bundle.close()
    assert bundle.manifest.threshold.rule is None
