"""A tiny bundle whose embedding is made of views, with level: bands in dB, loudness, and a shape.

    quiet, loud   low and high level of 16 bands over the frames of a window, dB, with level
    loudness      RMS of the window, dB, with level
    shape         mean level of each band against the window's own mean, dB

Real sound of the healthy machine (a hum of a few harmonics whose strength wanders, and noise), a
real ONNX graph, the agent's own fit of scorer and threshold.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from agent.bundle.facts import LevelInfo, ViewInfo
from agent.bundle.manifest import (
    BANK,
    ENCODER,
    HEALTHY_SCORES,
    ROWS,
    Manifest,
    Quantization,
    Row,
    TrainedOn,
)
from agent.bundle.seal import seal
from agent.calibrate.fit import fit_scorer
from agent.calibrate.limits import scale_info
from agent.config.scorer import FusionConfig
from agent.config.threshold import ThresholdRule
from agent.core.storage import write_json
from agent.encode.onnx import OnnxEncoder
from agent.score.build import write_scorer
from agent.score.scorer import HealthySet
from agent.window.validity import level_dbfs
from support.bundles import FRAME, RATE, WINDOW, info

BANDS = 16
VIEWS = (
    ViewInfo(name="quiet", start=0, stop=BANDS, level=True),
    ViewInfo(name="loud", start=BANDS, stop=2 * BANDS, level=True),
    ViewInfo(name="loudness", start=2 * BANDS, stop=2 * BANDS + 1, level=True),
    ViewInfo(name="shape", start=2 * BANDS + 1, stop=3 * BANDS + 1),
)
DIM = 3 * BANDS + 1
RECORDINGS, SECONDS = 12, 6


def machine(seconds: float, *, seed: int, gain_db: float = 0.0, whine: float = 0.0) -> np.ndarray:
    """The machine, healthy unless it whines."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    sound = np.zeros(len(time))
    for order, strength in ((1, 1.0), (2, 0.6), (5, 0.3), (9, 0.1)):
        wander = 1.0 + 0.1 * np.sin(2 * np.pi * rng.uniform(0.1, 0.4) * time + rng.uniform(0, 6))
        sound += strength * wander * np.sin(2 * np.pi * 120 * order * time + rng.uniform(0, 6))
    sound = 0.03 * sound * 10 ** (rng.normal(0, 0.3) / 20) + 0.004 * rng.standard_normal(len(time))
    sound += whine * np.sin(2 * np.pi * 3310 * time)
    return (10 ** (gain_db / 20) * sound).astype(np.float32)


def build_levelled_graph(path: Path) -> None:
    """waveform (batch, WINDOW) -> embedding (batch, DIM)."""
    time = np.arange(FRAME) / RATE
    hertz = np.linspace(120, 3900, BANDS)
    window = np.hanning(FRAME)
    basis = [window[:, None] * f(2 * np.pi * time[:, None] * hertz) for f in (np.cos, np.sin)]
    constants = {
        "shape_of": np.array([0, WINDOW // FRAME, FRAME], np.int64),
        "cosines": basis[0].astype(np.float32), "sines": basis[1].astype(np.float32),
        "least": np.float32([1e-12]), "tenth": np.float32([10.0 / np.log(10.0)]),
    }  # fmt: skip
    node = helper.make_node
    nodes = [
        node("Reshape", ["waveform", "shape_of"], ["frames"]),
        node("MatMul", ["frames", "cosines"], ["real"]),
        node("MatMul", ["frames", "sines"], ["imaginary"]),
        node("Mul", ["real", "real"], ["real2"]),
        node("Mul", ["imaginary", "imaginary"], ["imaginary2"]),
        node("Add", ["real2", "imaginary2"], ["power"]),
        node("Max", ["power", "least"], ["some"]),
        node("Log", ["some"], ["natural"]),
        node("Mul", ["natural", "tenth"], ["decibels"]),
        node("ReduceMin", ["decibels"], ["quiet"], axes=[1], keepdims=0),
        node("ReduceMax", ["decibels"], ["loud"], axes=[1], keepdims=0),
        node("ReduceMean", ["decibels"], ["mean"], axes=[1], keepdims=0),
        node("ReduceMean", ["mean"], ["middle"], axes=[1], keepdims=1),
        node("Sub", ["mean", "middle"], ["plain"]),
        node("Mul", ["waveform", "waveform"], ["squares"]),
        node("ReduceMean", ["squares"], ["square"], axes=[1], keepdims=1),
        node("Max", ["square", "least"], ["heard"]),
        node("Log", ["heard"], ["nats"]),
        node("Mul", ["nats", "tenth"], ["loudness"]),
        node("Concat", ["quiet", "loud", "loudness", "plain"], ["embedding"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "levelled",
        [helper.make_tensor_value_info("waveform", TensorProto.FLOAT, ["batch", WINDOW])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", DIM])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, path)


def build_levelled_bundle(folder: Path, *, views: bool = True) -> Path:
    """Write the bundle; without `views` its manifest is as older versions wrote it."""
    folder.mkdir(parents=True)
    build_levelled_graph(folder / ENCODER)
    about = info(dim=DIM)
    encoder = OnnxEncoder(folder / ENCODER, about)
    encoder.start()
    vectors, rows, levels = [], [], []
    for n in range(RECORDINGS):
        sound = machine(SECONDS, seed=n)
        for at in range(0, len(sound) - WINDOW + 1, WINDOW // 2):
            vectors.append(encoder.encode(sound[None, at : at + WINDOW])[0])
            levels.append(level_dbfs(sound[at : at + WINDOW]))
            rows.append(Row(source=f"h{n}.wav", start=at / RATE, group=f"h{n}.wav"))
    encoder.stop()
    healthy = HealthySet(np.stack(vectors), rows)
    config = FusionConfig(
        parts=[
            {"columns": (view.start, view.stop), "scorer": {"kind": "knn", "metric": "euclidean"}}
            for view in VIEWS
        ],
        normalize="z",
        combine="max",
    )
    rule = ThresholdRule(false_alarm_rate=0.005)
    fitted = fit_scorer(healthy, config, rule, window_seconds=WINDOW / RATE)
    np.save(folder / BANK, healthy.vectors)
    np.save(folder / HEALTHY_SCORES, fitted.healthy_scores)
    write_json(folder / ROWS, [row.model_dump(mode="json") for row in rows])
    write_scorer(folder, fitted.config, healthy, fitted.state)
    low, middle, high = np.quantile(levels, (0.01, 0.5, 0.99))
    seal(
        folder,
        Manifest(
            auscult_version="0", created="2026-01-01T00:00:00Z", encoder=about,
            window_seconds=WINDOW / RATE, hop_seconds=0.5, clip_hop_seconds=0.5,
            scorer=fitted.config, threshold=fitted.threshold,
            scale=scale_info(fitted.threshold, fitted.healthy_scores),
            views=VIEWS if views else (),
            level=LevelInfo(median_dbfs=float(middle)) if views else None,
            trained_on=TrainedOn(
                machine="hum", preset="levelled", seed=0, recordings=RECORDINGS,
                seconds=RECORDINGS * SECONDS, domains={"unknown": RECORDINGS},
                level_dbfs=(float(low), float(high)), data_sha256="0" * 64,
            ),
            quantization=Quantization(
                mode="none", float_bytes=1, bytes=1,
                cosine_mean=1.0, cosine_min=1.0, torch_cosine_min=1.0,
            ),
            files={},
        ),
    )  # fmt: skip
    return folder
