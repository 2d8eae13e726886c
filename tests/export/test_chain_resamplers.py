"""Trained on copies that one resampler made, heard through another: the machine has not changed."""

from __future__ import annotations

import shutil
import subprocess

import numpy as np
import pytest
import soundfile
import soxr
from scipy import signal

from agent.capture.convert import Converter
from agent.deploy.load import open_bundle
from agent.recordings.load import load_machines
from export.bundle import export_run
from trainer.learn import train_machine
from trainer.preset_file import load_preset

RATE, HEARD = 16000, 48000
TRAINED, LATER = 20, 6


def machine(seed, seconds=10):
    """A motor heard at 48 kHz: noise that falls towards high frequencies, lines, a slow beat."""
    random = np.random.default_rng(seed)
    n = seconds * HEARD
    t = np.arange(n) / HEARD
    noise = signal.lfilter([0.05], [1.0, -0.8], random.standard_normal(n))
    speed = random.uniform(48, 52)
    lines = sum(np.sin(2 * np.pi * speed * k * t + k) / k for k in (1, 2, 3, 6, 29, 61, 110))
    beat = 1 + 0.2 * np.sin(2 * np.pi * 1.3 * t + random.uniform(0, 6))
    return ((noise + 0.03 * lines) * beat).astype(np.float32)


def ffmpeg(sound):
    if shutil.which("ffmpeg") is None:
        pytest.skip("there is no ffmpeg")
    done = subprocess.run(
        ["ffmpeg", "-v", "error", "-f", "f32le", "-ar", str(HEARD), "-ac", "1", "-i", "-",
         "-f", "f32le", "-ar", str(RATE), "-"],
        input=sound.tobytes(), capture_output=True, check=True,
    )  # fmt: skip
    return np.frombuffer(done.stdout, np.float32)


def microphone(sound):
    """A device's sound through the agent's own converter, in blocks."""
    convert = Converter(0, RATE, "mic")
    parts = [
        convert(sound[at : at + 4800, None], HEARD, at / HEARD).samples
        for at in range(0, len(sound), 4800)
    ]
    return np.concatenate([*parts, convert.flush().samples])


RESAMPLERS = {
    "microphone": microphone,
    "soxr": lambda sound: soxr.resample(sound, HEARD, RATE, quality="VHQ"),
    "soxr quick": lambda sound: soxr.resample(sound, HEARD, RATE, quality="MQ"),
    "polyphase": lambda sound: signal.resample_poly(sound, 1, 3).astype(np.float32),
    "ffmpeg": ffmpeg,
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Trained on polyphase copies."""
    root = tmp_path_factory.mktemp("chain")
    (root / "pump/normal").mkdir(parents=True)
    for number in range(TRAINED):
        sound = RESAMPLERS["polyphase"](machine(number))
        soundfile.write(root / f"pump/normal/{number:02}.wav", sound, RATE, subtype="FLOAT")
    (found,) = load_machines(root / "pump")
    train_machine(found, load_preset("auscult_scratch"), root / "run")
    export_run(root / "run", root / "bundle", test=False)
    opened = open_bundle(root / "bundle", threads=1)
    yield opened
    opened.close()


def scores(bundle, resample):
    found = []
    for number in range(LATER):
        sound = resample(machine(100 + number))
        window = np.zeros(bundle.manifest.encoder.window_samples, np.float32)
        window[: len(sound)] = sound[: len(window)]
        window[len(sound) :] = sound[: len(window) - len(sound)]
        vector = bundle.encoder.encode(window[None])
        found.append(float(bundle.scorer.score(vector)[0][0]))
    return np.array(found)


@pytest.mark.parametrize("name", RESAMPLERS)
def test_no_resampler_makes_a_healthy_machine_anomalous(bundle, name):
    found = scores(bundle, RESAMPLERS[name])
    assert (found <= bundle.manifest.threshold.value).all(), found
