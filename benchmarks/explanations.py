"""Is a fault found where it is? Patches of mn04 against levels of bands, on the same windows.

    .venv/bin/python benchmarks/explanations.py DATA [DATA ...] --weights WEIGHTS

Of each machine a quarter of the healthy recordings is held out. A burst of 1.5 s (noise, a tone,
knocks, swinging noise; in four bands, three levels over the recording's own level in the band) is
put into held-out windows. Counted: windows with a frame that touches the burst, windows whose
strangest frame does, and the share of framed cells that do; beside them, held-out windows without a
burst that get a frame, which is what frames cost. A frame may miss by 0.2 s and a quarter of the
band.
"""

from __future__ import annotations

import argparse
import itertools
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from scipy.signal import butter, sosfilt

from agent.core.records import Samples
from agent.encode.onnx import OnnxEncoder
from agent.explain.spectrum import measure_healthy
from agent.explain.unusual import UnusualMap, unusual_map
from agent.learn.patches import fit_patches
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from agent.recordings.windows import healthy_windows
from trainer.encoder_config import EncoderConfig
from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder
from trainer.graph.encoder_info import encoder_info
from trainer.graph.onnx_graph import OPSET, export_graph

SECONDS, BURST = 10.0, 1.5
BANDS = ((300, 600), (800, 1400), (2000, 3000), (4500, 7000))
SHAPES = ("noise", "tone", "knocks", "swinging")
LEVELS = (12, 6, 0)
HELD_OUT, CLEAN = 0.25, 40
# By method and level: touched, strangest, share.
Counts = dict[tuple[str, int], list[tuple[bool, bool, float]]]


def burst(
    shape: str, band: tuple[int, int], count: int, rate: int, random: np.random.Generator
) -> npt.NDArray[np.float64]:
    """A fault's sound of level 1, faded in and out (a sharp edge would sound in every band)."""
    time = np.arange(count) / rate
    filters = butter(4, band, "bandpass", fs=rate, output="sos")
    if shape == "tone":
        found = np.sin(2 * np.pi * np.sqrt(band[0] * band[1]) * time)
    elif shape == "knocks":
        found = sosfilt(filters, (np.arange(count) % (rate // 8) == 0).astype(float))
    else:
        found = sosfilt(filters, random.standard_normal(count))
        if shape == "swinging":
            found *= 1 + np.sin(2 * np.pi * 9 * time)
    edge = np.minimum(np.arange(count), np.arange(count)[::-1]) / (0.03 * rate)
    return found / np.sqrt(np.mean(found**2)) * np.minimum(edge, 1)


def touched(found: UnusualMap, begin: float, band: tuple[int, int]) -> tuple[bool, bool, float]:
    """A frame touches the burst; the strangest does; the share that does."""
    marked = found.marked
    times, rows = np.nonzero(marked)
    if not len(times):
        return False, False, 0.0
    starts = times * found.cell_seconds
    inside = (starts + found.cell_seconds > begin - 0.2) & (starts < begin + BURST + 0.2)
    inside &= (found.hertz[rows + 1] > 0.8 * band[0]) & (found.hertz[rows] < 1.25 * band[1])
    strangest = np.argmax(np.abs(found.deviations)[times, rows])
    return bool(inside.any()), bool(inside[strangest]), float(inside.mean())


def measure(machine: Machine, encoder: Encoder, repeats: int) -> tuple[Counts, dict[str, int], int]:
    """Counts by method and level, frames in clean windows, and how many of those there were."""
    rate = encoder.sample_rate
    healthy = healthy_windows(
        machine,
        rate=rate,
        window_samples=encoder.window_samples,
        hop_samples=encoder.window_samples,
    )
    random = np.random.default_rng(1)
    groups = sorted({row.group for row in healthy.rows})
    random.shuffle(groups)
    held = set(groups[: max(3, round(HELD_OUT * len(groups)))])
    learnt = [i for i, row in enumerate(healthy.rows) if row.group not in held]
    clean = [i for i, row in enumerate(healthy.rows) if row.group in held][:CLEAN]
    rows = [healthy.rows[i] for i in learnt]
    with tempfile.TemporaryDirectory() as place, Progress(disable=True) as progress:
        graph = Path(place) / "encoder.onnx"
        export_graph(encoder, graph)
        info = encoder_info(encoder, "float32", OPSET)
        patches = fit_patches(
            graph,
            info,
            encoder.patch_grid,
            healthy.waveforms[learnt],
            rows,
            {row.source for row in rows},
            progress,
        )
        running = OnnxEncoder(graph, info)
        running.start()
    spectrum = measure_healthy((healthy.waveforms[i] for i in learnt), rate)

    def maps(samples: Samples) -> dict[str, UnusualMap]:
        return {
            "levels": unusual_map(samples, spectrum),
            "patches": patches.map(running.patches(samples), SECONDS),
        }

    framed: dict[str, int] = defaultdict(int)
    for i in clean:
        for method, found in maps(healthy.waveforms[i]).items():
            framed[method] += bool(found.marked.any())
    counts: Counts = defaultdict(list)
    for level, band, shape, _ in track(
        list(itertools.product(LEVELS, BANDS, SHAPES, range(repeats))), description=machine.name
    ):
        samples = healthy.waveforms[clean[random.integers(len(clean))]].copy()
        own = sosfilt(butter(4, band, "bandpass", fs=rate, output="sos"), samples)
        begin = 1.0 + (SECONDS - BURST - 2.0) * random.random()
        part = slice(round(begin * rate), round((begin + BURST) * rate))
        added = burst(shape, band, part.stop - part.start, rate, random)
        samples[part] += (added * np.sqrt(np.mean(own**2)) * 10 ** (level / 20)).astype(np.float32)
        for method, found in maps(samples).items():
            counts[method, level].append(touched(found, begin, band))
    return counts, framed, len(clean)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("data", nargs="+", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=2)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    config = EncoderConfig(kind="mn04", features="block12_balanced", weights="mn04_as_mAP_432.pt")
    encoder = build_encoder(config, window_seconds=SECONDS, weights=chosen.weights, seed=0)
    table = Table(title="Bursts found, per cent of windows", title_justify="left")
    for heading in ("machine", "by", "clean windows framed"):
        table.add_column(heading)
    for level in LEVELS:
        table.add_column(f"+{level} dB: touched / strangest / share", justify="right")
    for machine in (one for place in chosen.data for one in load_machines(place)):
        counts, framed, clean = measure(machine, encoder, chosen.repeats)
        for method in ("levels", "patches"):
            cells = []
            for level in LEVELS:
                found = np.array(counts[method, level], float).mean(axis=0) * 100
                cells.append(" / ".join(f"{value:.0f}" for value in found))
            table.add_row(machine.name, method, f"{framed[method]} of {clean}", *cells)
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
