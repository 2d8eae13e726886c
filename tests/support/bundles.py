"""A tiny but real bundle: a spectrum-shaped encoder in ONNX, a bank of healthy windows, sealed.

The encoder averages the magnitude of short frames' projections on a few sines and cosines, so a
changed pitch changes the embedding. One second windows at 8 kHz keep tests fast.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import soundfile
from onnx import TensorProto, helper, numpy_helper

from agent.bundle.manifest import (
    BANK,
    ENCODER,
    ROW_CONSTANTS,
    ROWS,
    EncoderInfo,
    Manifest,
    Quantization,
    Threshold,
    TrainedOn,
)
from agent.bundle.seal import seal
from agent.config.scorer_knn import KnnConfig
from agent.core.storage import write_json
from agent.encode.onnx import OnnxEncoder

RATE = 8000
WINDOW = 8000
FRAME = 80
BANDS = 16
DIM = BANDS
HEALTHY_HZ = 440.0
FAULTY_HZ = 1310.0


def tone(seconds: float, hertz: float = HEALTHY_HZ, *, seed: int = 0, rate: int = RATE):
    """A machine: a tone with a little noise."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    sound = 0.2 * np.sin(2 * np.pi * hertz * time) + 0.005 * rng.standard_normal(len(time))
    return sound.astype(np.float32)


def write(path: Path, samples, *, rate: int = RATE) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, samples, rate, subtype="FLOAT" if path.suffix == ".wav" else None)
    return path


def build_graph(path: Path, *, window: int = WINDOW) -> None:
    """waveform (batch, window) -> |frames @ basis| averaged -> (batch, BANDS)."""
    time = np.arange(FRAME) / RATE
    hertz = 100.0 * np.arange(1, BANDS + 1)
    cosines = np.cos(2 * np.pi * time[:, None] * hertz).astype(np.float32)
    sines = np.sin(2 * np.pi * time[:, None] * hertz).astype(np.float32)
    constants = {
        "shape": np.array([0, window // FRAME, FRAME], np.int64),
        "cosines": cosines,
        "sines": sines,
    }
    nodes = [
        helper.make_node("Reshape", ["waveform", "shape"], ["frames"]),
        helper.make_node("MatMul", ["frames", "cosines"], ["real"]),
        helper.make_node("MatMul", ["frames", "sines"], ["imaginary"]),
        helper.make_node("Mul", ["real", "real"], ["real2"]),
        helper.make_node("Mul", ["imaginary", "imaginary"], ["imaginary2"]),
        helper.make_node("Add", ["real2", "imaginary2"], ["power"]),
        helper.make_node("ReduceMean", ["power"], ["embedding"], axes=[1], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", window])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", BANDS])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def info(**changes) -> EncoderInfo:
    fields = {
        "kind": "log_mel", "sample_rate": RATE, "window_samples": WINDOW, "dim": DIM,
        "precision": "float32", "opset": 17,
    }  # fmt: skip
    return EncoderInfo(**{**fields, **changes})


def build_bundle(
    folder: Path,
    *,
    threshold: float = 0.05,
    hop: float = 0.5,
    window: int = WINDOW,
    rate: int = RATE,
) -> Path:
    """Write the bundle; healthy is HEALTHY_HZ, FAULTY_HZ scores far above the threshold.

    With another `rate` the same samples are called so many a second (and the tones lower).
    """
    folder.mkdir(parents=True)
    build_graph(folder / ENCODER, window=window)
    about = info(window_samples=window, sample_rate=rate)
    encoder = OnnxEncoder(folder / ENCODER, about)
    encoder.start()
    healthy = np.stack([tone(window / RATE, seed=seed) for seed in range(5)])
    vectors = encoder.encode(healthy)
    encoder.stop()
    np.save(folder / BANK, vectors)
    np.save(folder / ROW_CONSTANTS, np.tile(np.float32([1, 0]), (len(vectors), 1)))
    write_json(
        folder / ROWS,
        [{"source": f"h{i}.wav", "start": 0.0, "group": f"h{i}.wav"} for i in range(len(vectors))],
    )
    seal(
        folder,
        Manifest(
            auscult_version="0",
            created="2025-01-01T00:00:00Z",
            encoder=about,
            window_seconds=window / rate,
            hop_seconds=hop,
            clip_hop_seconds=hop,
            scorer=KnnConfig(normalization="none"),
            threshold=Threshold(
                value=threshold, false_alarm_rate=0.01, clip_value=threshold,
                method="by hand", healthy_windows=5, healthy_recordings=5,
            ),
            trained_on=TrainedOn(
                machine="toy", preset="tiny", seed=0, recordings=5, seconds=5.0,
                domains={"unknown": 5}, level_dbfs=(-20.0, -10.0), data_sha256="0" * 64,
            ),
            quantization=Quantization(
                mode="none", float_bytes=1, bytes=1,
                cosine_mean=1.0, cosine_min=1.0, torch_cosine_min=1.0,
            ),
            files={},
        ),
    )  # fmt: skip
    return folder
