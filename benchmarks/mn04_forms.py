"""What mn04 loses in shorter forms, alone and within auscult_small, and what they would save.

    .venv/bin/python benchmarks/machines.py --shared ../shared --out MACHINES
    .venv/bin/python benchmarks/mn04_forms.py MACHINES --weights ../shared/weights --work FOLDER

Forms: the features of an earlier block (block 11, 9 or 7 for 12), every second frame, the last 5 or
2.5 s of a window of 10, and two at once. Of every recording the first window; at most 60 to learn
from and 100 to test, drawn the same way each time; draws of a machine are means. Ten sets of six
families unless --sets names others: four minutes of processor. Embeddings are kept in --work.
Told: mean cosine to the whole form, harmonic mean of the areas, its loss with a 95 % interval over
draws of recordings of all families, processor time of a window (float32, one thread, whole
windows), and what each family loses by the form that the others alone would choose.
"""

from __future__ import annotations

import argparse
import json
import random
import time
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soxr
import torch
from left_out_forms import left_out
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from view_choice import family

from agent.bundle.manifest import Row
from agent.capture.files import read_audio
from agent.config.scorer import place_columns
from agent.recordings.load import load_machines
from agent.recordings.model import Machine, Recording
from agent.score.build import build_scorer, fit_state
from agent.score.scorer import HealthySet
from agent.window.clip import clip_windows
from trainer.encoders.mn04 import CHECKPOINT, Mn04
from trainer.encoders.views import SoundViews
from trainer.graph.onnx_graph import export_graph
from trainer.metrics.auc import auc_scores, harmonic_mean
from trainer.metrics.bootstrap import bootstrap, harmonic_means, interval
from trainer.preset_file import load_preset

SECONDS, RATE = 10.0, 32000
SETS = (
    "ToyCar", "compressor_off-16", "gearbox1", "valve1",
    *(f"mimii_fan-10{draw}" for draw in "abc"), *(f"motor{kind}-30" for kind in range(3)),
)  # fmt: skip
_MOST = {"normal": 60, "test": 100}


@dataclass(frozen=True, slots=True)
class Shape:
    """How mn04 is shortened: last block, share of the window heard, every so many frames."""

    block: int = 12
    seconds: float = SECONDS
    step: int = 1


FORMS = {
    "block12": Shape(),
    "block11": Shape(11),
    "block9": Shape(9),
    "block7": Shape(7),
    "frames2": Shape(step=2),
    "last5": Shape(seconds=5.0),
    "last2.5": Shape(seconds=2.5),
    "block7+last5": Shape(7, 5.0),
}


class ShortMn04(Mn04):
    """mn04 in a shorter form, whose embedding is that of block 12, balanced, otherwise."""

    def __init__(self, shape: Shape, weights: Path) -> None:
        super().__init__(window_seconds=SECONDS, features="block12_balanced", level="remove")
        self.load_published(weights / CHECKPOINT)
        self.shape = shape
        self.features = self.features[: shape.block + 1]
        # Eight bands of each channel that the last block gives.
        self.dim = 8 * self.features[-1].block[-1][0].out_channels

    def _run(self, frames: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        assert self.loudness is not None
        x = self.loudness(frames, waveform)
        count = round(x.shape[3] * self.shape.seconds / SECONDS)
        x = x[..., x.shape[3] - count :: self.shape.step]
        for layer in self.features:
            x = layer(x)
        bands = nn.functional.normalize(nn.functional.normalize(x.mean(dim=3), dim=1), dim=2)
        return bands.flatten(1), x


def some(machine: Machine, role: str) -> list[Recording]:
    """A part of its recordings: all of the target domain, as many faulty ones as healthy."""
    found, most = list(machine.of(role)), _MOST[role]
    if len(found) <= most:
        return found
    draw = random.Random(0)
    target = [one for one in found if role == "normal" and one.domain == "target"]
    rest = [one for one in found if one not in target]
    if role == "normal":
        return draw.sample(rest, most - len(target)) + target
    kinds = [[one for one in rest if one.label == label] for label in ("normal", "anomaly")]
    return [one for kind in kinds for one in draw.sample(kind, min(most // 2, len(kind)))]


class Embedder:
    """Every form's embedding of a recording's first window, and the other views of it."""

    def __init__(self, weights: Path) -> None:
        self.forms = {name: ShortMn04(shape, weights).eval() for name, shape in FORMS.items()}
        self.views = SoundViews(window_seconds=SECONDS)
        self._kept: dict[bytes, dict[str, np.ndarray]] = {}

    def embed(self, path: Path) -> dict[str, np.ndarray]:
        digest = blake2b(path.read_bytes()).digest()
        if digest not in self._kept:
            self._kept[digest] = self._embed(path)
        return self._kept[digest]

    @torch.inference_mode()
    def _embed(self, path: Path) -> dict[str, np.ndarray]:
        samples = round(SECONDS * RATE)
        sound = read_audio(path, rate=RATE)
        (_, window), *_ = clip_windows(sound, window_samples=samples, hop_samples=samples)
        low = soxr.resample(window, RATE, self.views.sample_rate)[: self.views.window_samples]
        heard = torch.from_numpy(window)[None]
        frames = self.forms["block12"].front_end(heard)
        found = {name: form.with_frames(frames, heard)[0] for name, form in self.forms.items()}
        found["views"] = self.views(torch.from_numpy(np.float32(low))[None])
        return {name: value.numpy()[0] for name, value in found.items()}


def embedded(machine: Machine, embedder: Embedder, work: Path) -> dict[str, np.ndarray]:
    """`normal/FORM` and `test/FORM`, `(recordings, dim)`, with labels and domains; kept."""
    place = work / f"{machine.name}.npz"
    if not place.is_file():
        found: dict[str, Any] = {}
        for role in _MOST:
            recordings = some(machine, role)
            rows = [embedder.embed(one.path) for one in recordings]
            found |= {f"{role}/{name}": np.stack([row[name] for row in rows]) for name in rows[0]}
            found[f"{role}/label"] = np.array([one.label or "" for one in recordings])
            found[f"{role}/domain"] = np.array([one.domain for one in recordings])
        np.savez(place, **found)
    return dict(np.load(place))


def score(kept: dict[str, np.ndarray], form: str, preset: str, views: SoundViews) -> np.ndarray:
    """Scores of the test recordings, as the preset's scorer gives them."""
    config = load_preset(preset).scorer
    parts = [form] if preset == "mn04" else ["views", form]
    healthy, test = (
        np.concatenate([kept[f"{role}/{part}"] for part in parts], axis=1)
        for role in ("normal", "test")
    )
    width = kept["normal/views"].shape[1]
    places = {view.name: (view.start, view.stop) for view in views.views}
    config = place_columns(config, ((0, width), (width, healthy.shape[1])), places)
    rows = [
        Row(source=str(i), start=0.0, group=str(i), domain=str(domain))
        for i, domain in enumerate(kept["normal/domain"])
    ]
    known = HealthySet(healthy, rows)
    scorer = build_scorer(config, known, fit_state(known, config))
    scorer.start()
    return scorer.score(test)[0]


def judged(kept: dict[str, np.ndarray], scores: np.ndarray) -> np.ndarray:
    """The harmonic mean of the areas, %, then the same on draws of the recordings."""
    labels, domains = kept["test/label"].tolist(), kept["test/domain"].tolist()
    once = harmonic_mean(list(auc_scores(labels, domains, scores).values()))
    drawn = harmonic_means(list(bootstrap(labels, domains, scores).values()))
    return 100 * np.concatenate([[once], drawn])


def milliseconds(forms: dict[str, ShortMn04], work: Path, rounds: int) -> dict[str, float]:
    """Processor time of a window through each form's graph: in turns, the least."""
    sessions = {}
    for name, form in forms.items():
        graph = work / f"{name}.onnx"
        if not graph.is_file():
            export_graph(form, graph)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        sessions[name] = onnxruntime.InferenceSession(
            str(graph), options, providers=["CPUExecutionProvider"]
        )
    noise = np.random.default_rng(0).normal(0, 0.03, (1, round(SECONDS * RATE))).astype(np.float32)
    found = dict.fromkeys(forms, np.inf)
    for _ in range(rounds):
        for name, session in sessions.items():
            start = time.process_time()
            session.run(None, {session.get_inputs()[0].name: noise})
            found[name] = min(found[name], 1e3 * (time.process_time() - start))
    return found


def cosine(kept: dict[str, np.ndarray], form: str) -> float | None:
    """Mean cosine of its embeddings to the whole form's; None where they differ in length."""
    whole, own = (
        np.concatenate([kept[f"normal/{name}"], kept[f"test/{name}"]]) for name in ("block12", form)
    )
    if whole.shape != own.shape:
        return None
    lengths = np.linalg.norm(whole, axis=1) * np.linalg.norm(own, axis=1)
    return float(np.mean(np.sum(whole * own, axis=1) / lengths))


def table(preset: str, told: dict[str, dict[str, Any]], families: list[str]) -> Table:
    """A line for each form."""
    found = Table(title=f"{preset}: harmonic mean of the areas, %", title_justify="left")
    for heading in ("form", "ms", "cosine", *families, "mean", "loss (95 %)"):
        found.add_column(heading)
    for name, one in told.items():
        found.add_row(
            name, f"{one['cpu_ms']:.1f}", "" if one["cosine"] is None else f"{one['cosine']:.3f}",
            *(f"{one['by_family'][what]:.1f}" for what in families),
            f"{np.mean(list(one['by_family'].values())):.1f}",
            "{:+.1f} ({:+.1f} to {:+.1f})".format(*one["loss"]),
        )  # fmt: skip
    return found


def main() -> None:
    """Embed, judge, time, tell."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("machines", type=Path)
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--sets", nargs="+", default=SETS, help="names of sets in MACHINES")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--loss", type=float, default=1.0)
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    chosen.work.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console, embedder = Console(width=200), Embedder(chosen.weights)
    all_kept = {
        machine.name: embedded(machine, embedder, chosen.work)
        for machine in load_machines(chosen.machines)
        if machine.name in chosen.sets
    }
    families = list(dict.fromkeys(family(name) for name in all_kept))
    cost = milliseconds(embedder.forms, chosen.work, chosen.rounds)
    written: dict[str, Any] = {}
    for preset in ("mn04", "auscult_small"):
        told: dict[str, dict[str, Any]] = {}
        drawn: dict[str, dict[str, np.ndarray]] = {}
        for form in FORMS:
            each = {
                name: judged(kept, score(kept, form, preset, embedder.views))
                for name, kept in all_kept.items()
            }
            drawn[form] = {
                what: np.mean([each[name] for name in each if family(name) == what], axis=0)
                for what in families
            }
            lost = np.mean([drawn["block12"][f] - drawn[form][f] for f in families], axis=0)
            cosines = [cosine(kept, form) for kept in all_kept.values()]
            told[form] = {
                "cpu_ms": cost[form],
                "cosine": None if None in cosines else float(np.mean(cosines)),  # type: ignore[arg-type]
                "by_family": {what: float(drawn[form][what][0]) for what in families},
                "loss": [float(lost[0]), *map(float, interval(lost[1:]))],
            }
        console.print(table(preset, told, families))
        whole = told["block12"]["by_family"]
        shorter = [form for form in FORMS if form != "block12"]
        losses = {
            what: {form: whole[what] - told[form]["by_family"][what] for form in shorter}
            for what in families
        }
        for one in left_out(losses, cost, chosen.loss):
            console.print(
                f"without {one.machine}: {one.form or 'none'}, loses {one.loss:+.1f} on it"
            )
        written[preset] = told
    if chosen.json:
        chosen.json.write_text(json.dumps(written, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
