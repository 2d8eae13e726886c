"""A real agent, a real broker, and a bundle of another machine that calls everything normal."""

from __future__ import annotations

import subprocess

import numpy as np
import pytest
import soundfile
from support import healthy
from support.broker import Broker
from support.rollout_plant import AUSCULT, RolloutPlant, waits_for

from agent.bundle.seal import seal
from agent.bundle.sign import load_private, sign_folder
from agent.bundle.verify import read_manifest

pytestmark = pytest.mark.slow
pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")
RATE = healthy.RATE


def whine(seed, seconds=12.0):
    """Another machine, as loud as the one that hums."""
    rng = np.random.default_rng(seed)
    t = np.arange(round(seconds * RATE)) / RATE
    turning = 2900 * (1 + 0.004 * rng.standard_normal())
    sound = 0.06 * np.sin(2 * np.pi * turning * t)
    return (sound + 0.03 * np.diff(rng.standard_normal(len(t) + 1))).astype(np.float32)


def learnt(root, name, make, key, first=0):
    """A bundle of eight recordings, signed, for the machine `pump`."""
    place = root / name / "pump" / "normal"
    place.mkdir(parents=True)
    for n in range(8):
        soundfile.write(place / f"{n}.flac", make(first + n), RATE)
    out = root / f"{name}.bundle"
    words = ["learn", place.parent, "--sign", key, "--out", out]
    done = subprocess.run(
        [*AUSCULT, *map(str, words)], capture_output=True, text=True, check=False
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return out


def test_a_silent_bundle_of_another_machine_is_taken_back_unless_it_is_meant(tmp_path):
    with Broker(tmp_path / "broker", ("allow_anonymous true", "persistence false")) as broker:
        plant = RolloutPlant(tmp_path, broker)
        try:
            _check(plant, tmp_path)
        finally:
            plant.end()


def _check(plant, root):
    first = learnt(root, "first", healthy.hum, plant.key)
    soundfile.write(root / "sound.wav", healthy.hum(70, 60.0), RATE)
    plant.run_first("line-1", bundle=first, machine={"hop": 1.0})
    # Of an older auscult, which told no faults: nothing says that its threshold is beyond them all.
    wrong = learnt(root, "wrong", whine, plant.key)
    manifest = read_manifest(wrong)
    far = manifest.threshold.model_copy(update={"value": 1000 * manifest.threshold.value})
    seal(wrong, manifest.model_copy(update={"threshold": far, "sight": None}))
    sign_folder(wrong, load_private(plant.key))
    plant.command("offer", wrong)
    back = plant.all_back()

    (target,) = back.targets
    assert target.counts[1:] == (0, 0)  # no window above the threshold, no alarm
    assert "what is heard lies" in back.why
    assert "--as-meant" in back.why
    assert plant.runs("line-1") == read_manifest(first).digest
    assert "put back: line-1/pump, a canary: what is heard lies" in plant.command("inventory")

    plant.command("offer", learnt(root, "second", healthy.hum, plant.key, first=20))
    assert plant.rollout().state == "done"
    plant.command("offer", wrong, "--downgrade", "--as-meant", "--reason", "a new gearbox")
    assert plant.rollout().state == "done"
    health = waits_for(
        plant.broker.port, "line-1/health",
        lambda one: one["machines"]["pump"]["recognition"]["state"] == "no",
    )  # fmt: skip
    assert health["machines"]["pump"]["recognition"]["bundle"] == read_manifest(wrong).digest
