"""A fault in a known place of time and frequency, found there by the encoder's own patches."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from click.testing import CliRunner
from scipy.signal import butter, sosfilt

from agent.bundle.manifest import PATCH_FILES
from agent.bundle.seal import seal
from agent.commands.score import score
from agent.core.errors import BundleError
from agent.deploy.load import open_bundle
from agent.machine.account import explain_window
from agent.recordings.load import load_machines
from export.bundle import export_bundle
from trainer.learn import train_machine
from trainer.preset import Preset

RATE = 16000
SECONDS = 5.0
ENCODERS = {
    "mn04": {"kind": "mn04", "features": "block12_balanced", "weights": "mn04_as_mAP_432.pt"},
    "eat": {"kind": "eat", "size": "tiny"},
    "dasheng": {"kind": "dasheng", "size": "tiny"},
    "joined": {
        "kind": "joined",
        "parts": [{"kind": "spectral_shape"}, {"kind": "eat", "size": "tiny"}],
    },
}


def sound(seed: int, seconds: float = SECONDS) -> np.ndarray:
    """A hum with a little unsteady noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    hum = sum(0.05 / k * np.sin(2 * np.pi * 120 * k * time + rng.uniform(0, 6)) for k in (1, 2, 3))
    return (hum + 0.02 * rng.standard_normal(len(time))).astype(np.float32)


def faulty(
    seed: int, low: float, high: float, start: float, end: float, level: float = 0.1
) -> np.ndarray:
    """The same with noise in a band for a while."""
    samples = sound(seed)
    part = slice(round(start * RATE), round(end * RATE))
    noise = np.random.default_rng(seed).standard_normal(part.stop - part.start)
    noise = sosfilt(butter(4, (low, high), "bandpass", fs=RATE, output="sos"), noise)
    samples[part] += (level * noise / noise.std() * np.hanning(len(noise)) ** 0.2).astype(
        np.float32
    )
    return samples


def make(root: Path, name: str, weights: Path | None) -> Path:
    data = root / "fan" / "normal"
    data.mkdir(parents=True)
    for seed in range(12):
        soundfile.write(data / f"{seed}.wav", sound(seed, 2 * SECONDS), RATE)
    preset = Preset.model_validate(
        {
            "name": f"patches_{name}",
            "summary": "for tests",
            "encoder": ENCODERS[name],
            "training": {"kind": "frozen"},
            "window": {"seconds": SECONDS, "hop_seconds": 1.0, "train_hop_seconds": SECONDS},
            # mn04's static INT8 takes minutes; the transformers' matrix products seconds.
            "quantization": {"mode": "none" if name == "mn04" else "dynamic", "min_cosine": 0.9},
        }
    )
    (machine,) = load_machines(root / "fan")
    train_machine(machine, preset, root / "run", weights=weights)
    export_bundle(root / "run", root / "bundle")
    return root / "bundle"


@pytest.fixture(scope="module")
def made(request, tmp_path_factory):
    """Makes the bundle of an encoder once."""
    bundles = {}

    def give(name: str) -> Path:
        if name not in bundles:
            weights = request.getfixturevalue("shared") / "weights" if name == "mn04" else None
            bundles[name] = make(tmp_path_factory.mktemp(name), name, weights)
        return bundles[name]

    return give


@pytest.fixture(params=sorted(ENCODERS))
def bundle(request, made):
    return made(request.param)


def test_a_fault_is_found_where_it_is(bundle):
    opened = open_bundle(bundle)
    try:
        assert opened.patches is not None
        rows = len(opened.patches.table)
        assert sum((bundle / name).stat().st_size for name in PATCH_FILES) < 400_000
        hits = 0
        for seed, (low, high, start) in enumerate([(1500, 2500, 1.0), (3000, 4000, 3.0)]):
            window = faulty(70 + seed, low, high, start, start + 1.0)
            rate = opened.manifest.encoder.sample_rate
            heard = np.repeat(window, rate // RATE)
            if rate != RATE:
                from agent.capture.files import read_audio

                soundfile.write(bundle.parent / "x.wav", window, RATE)
                heard = read_audio(bundle.parent / "x.wav", rate=rate)
            (vector,) = opened.encoder.encode(heard[None])
            account = explain_window(opened, heard, vector)
            assert account.by_patches
            first = account.explanation.regions[0]
            in_time = first.start < start + 1.2 and first.end > start - 0.2
            in_band = rows == 1 or (first.low_hz < high and first.high_hz > low)
            hits += in_time and in_band
            assert "strangest at" in account.explanation.text
        assert hits == 2
        heard = np.zeros(opened.manifest.encoder.window_samples, np.float32)
    finally:
        opened.close()


@pytest.mark.parametrize("bundle", sorted({*ENCODERS} - {"mn04"}), indirect=True)
def test_healthy_windows_are_mostly_left_alone(bundle):
    opened = open_bundle(bundle)
    try:
        marked = 0
        for seed in range(200, 220):
            found = opened.patches.map(opened.encoder.patches(sound(seed)), SECONDS)
            marked += bool(found.marked.any())
    finally:
        opened.close()
    assert marked <= 4


@pytest.fixture
def joined(made):
    return made("joined")


def test_a_bundle_without_patches_explains_by_levels(joined, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(joined, copy)
    for name in PATCH_FILES:
        (copy / name).unlink()
    opened = open_bundle(joined)
    opened.close()
    seal(copy, opened.manifest)
    old = open_bundle(copy)
    try:
        window = faulty(90, 3000, 4000, 2, 4)
        account = explain_window(old, window, old.encoder.encode(window[None])[0])
    finally:
        old.close()
    assert not account.by_patches
    assert account.explanation.regions
    assert account.explanation.regions[0].low_hz < 4000


def test_damaged_patches_are_refused(joined, tmp_path):
    copy = tmp_path / "bundle"
    shutil.copytree(joined, copy)
    opened = open_bundle(joined)
    opened.close()
    np.save(copy / PATCH_FILES[0], np.zeros((1, 2, 3), np.float16))
    seal(copy, opened.manifest)
    with pytest.raises(BundleError, match="do not belong together"):
        open_bundle(copy)


def test_score_tells_where(joined, tmp_path):
    soundfile.write(tmp_path / "x.wav", faulty(91, 3000, 4000, 0, 5, 0.25), RATE)
    asked = ["--bundle", str(joined), str(tmp_path / "x.wav"), "--explain"]
    told = CliRunner().invoke(score, [*asked, "--json", str(tmp_path / "o.json")])
    assert told.exit_code == 0, told.output
    (window,) = json.loads((tmp_path / "o.json").read_text())["files"][0]["windows"]
    assert window["explanation"]["regions"][0]["low_hz"] < 4000
    assert "strangest at" in told.stdout
