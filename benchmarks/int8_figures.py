"""What INT8 costs a preset on every machine of `machines.py`, without writing a bundle.

The graph is exported once, quantized for each machine as export does (calibrated on its healthy
windows), and run by the agent's runtime; scorer and figures are those of `preset_figures.py`.
Minutes where `development.py` takes hours. Motor 1 of 30 has 77.8 here and 77.9 by its bundle.
What is done is kept in --out, a file a machine: run it again to go on.

    python benchmarks/machines.py --shared ../shared --out MACHINES
    python benchmarks/int8_figures.py MACHINES --weights ../shared/weights --out FOLDER
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from preset_figures import clip_scores, told
from rich.console import Console
from view_choice import HOP, SECONDS

from agent.capture.files import read_audio
from agent.core.records import Matrix
from agent.encode.processor import this_processor
from agent.learn.embed import embed
from agent.learn.places import spread
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from agent.window.clip import clip_windows
from export.quantize import quantize_static
from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import FloatGraph, cosines, export_graph
from trainer.preset import Preset
from trainer.preset_file import load_preset


def windows_of(machine: Machine, role: str, encoder: Encoder) -> tuple[Matrix, np.ndarray]:
    """Its windows of one role, `(n, window_samples)`, and the recording of each."""
    found, owner = [], []
    for i, recording in enumerate(machine.of(role)):
        cut = clip_windows(
            read_audio(recording.path, rate=encoder.sample_rate),
            window_samples=encoder.window_samples,
            hop_samples=round(HOP * encoder.sample_rate),
        )
        found += [window for _, window in cut]
        owner += [i] * len(cut)
    return np.stack(found), np.array(owner)


def figures(
    machine: Machine, preset: Preset, encoder: Encoder, graph: FloatGraph, work: Path
) -> dict[str, Any]:
    """Harmonic mean of the areas by the float32 and by the INT8 graph, and how alike they are."""
    info = encoder_info(encoder, "float32", graph.opset)
    normal, normal_of = windows_of(machine, "normal", encoder)
    test, test_of = windows_of(machine, "test", encoder)
    out = work / f"{machine.name}.onnx"
    bounds = preset.quantization
    chosen = normal[spread(len(normal), bounds.calibration_windows)]
    made = quantize_static(
        graph, out, chosen, info, min_cosine=bounds.min_cosine, spans=encoder.columns
    )
    vectors, row = {}, {"machine": machine.name, "float_nodes": len(made.float_nodes)}
    for name, path in (("float32", graph.path), ("int8", out)):
        kept = {
            "normal": embed(path, info, normal), "normal_of": normal_of,
            "test": embed(path, info, test), "test_of": test_of,
        }  # fmt: skip
        vectors[name] = np.concatenate([kept["normal"], kept["test"]])
        value, text = told(machine, clip_scores(kept, machine, preset, encoder))
        row[name] = {"hmean": value, "text": text}
    alike = cosines(vectors["float32"], vectors["int8"], encoder.columns)
    row["cosine"] = [round(float(alike.mean()), 6), round(float(alike.min()), 6)]
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machines", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--preset", default="auscult_small", help="one with a static INT8 graph")
    parser.add_argument("--machine", action="append", help="only these, in this order; repeat it")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console = Console(width=160)
    preset = load_preset(args.preset)
    encoder = build_encoder(preset.encoder, window_seconds=SECONDS, weights=args.weights, seed=0)
    console.print(f"processor: {' '.join(this_processor().flags)}")
    with tempfile.TemporaryDirectory(prefix="auscult-") as work:
        graph = export_graph(encoder, Path(work) / "float.onnx")
        every = {
            machine.name: machine
            for machine in load_machines(args.machines, tuple(args.machine or ()))
        }
        for name in args.machine or every:
            place = args.out / f"{name}.json"
            if not place.is_file():
                row = figures(every[name], preset, encoder, graph, Path(work))
                place.write_text(json.dumps(row, indent=1) + "\n", encoding="utf-8")
            row = json.loads(place.read_text(encoding="utf-8"))
            console.print(
                f"{name}: int8 {row['int8']['text']}, float32 {row['float32']['text']}, "
                f"cosine {row['cosine'][0]:.5f} in the mean, {row['cosine'][1]:.5f} at the least"
            )


if __name__ == "__main__":
    main()
