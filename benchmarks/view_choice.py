"""Tries sets of views on every machine of `machines.py`, each family left out in turn.

Recordings are embedded once; every part (a view, how it is standardised and judged) is scored once
a machine, by the agent's code; then every set of up to six parts is tried as the mean of their
standard scores. Printed: the presets' sets and the best of all beside the floors, by family, the
worst machine against the better floor, and what choosing without a family costs that family.

    python benchmarks/machines.py --shared ../shared --out MACHINES
    python benchmarks/view_choice.py MACHINES --weights ../shared/weights --cache FOLDER
"""

from __future__ import annotations

import argparse
import itertools
import re
from functools import cache
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from agent.bundle.manifest import Row
from agent.capture.files import read_audio
from agent.config.scorer import FusionConfig, Part
from agent.config.scorer_knn import KnnConfig
from agent.recordings.load import load_machines
from agent.recordings.model import Machine
from agent.score.build import build_scorer, fit_state
from agent.score.scorer import HealthySet
from agent.window.clip import clip_windows
from trainer.encoder_config import EncoderConfig
from trainer.encoders.base import Encoder
from trainer.encoders.registry import build_encoder
from trainer.metrics.auc import MAX_FPR, Split, harmonic_mean, split_clips
from trainer.metrics.bootstrap import weighted_auc

SECONDS, HOP = 10.0, 5.0
NEAR = KnnConfig(metric="euclidean", density_k=8)
ALONE = KnnConfig(metric="euclidean", normalization="none")
PARTS = {
    "profile": {"view": "profile", "standardize": "robust", "scorer": NEAR},
    "quiet": {"view": "quiet", "standardize": "whiten", "scorer": NEAR},
    "quiet, robust": {"view": "quiet", "standardize": "robust", "scorer": NEAR},
    "peaks": {"view": "peaks", "standardize": "robust", "scorer": NEAR},
    "median": {
        "view": "median_level",
        "standardize": "whiten",
        "fades_at": 2.0,
        "scorer": NEAR,
    },
    "median, robust": {"view": "median_level", "standardize": "robust", "scorer": NEAR},
    "rhythm": {"view": "rhythm", "standardize": "whiten", "scorer": NEAR},
    "rhythm, robust": {"view": "rhythm", "standardize": "robust", "scorer": NEAR},
    "loudness": {"view": "loudness", "least_unit": 0.1, "fades_at": 2.0, "scorer": ALONE},
    "mn04": {"view": "mn04", "scorer": KnnConfig(density_k=8)},
    "mn04, whitened": {
        "view": "mn04",
        "standardize": "whiten",
        "least_spread": 1e-6,
        "scorer": NEAR,
    },
}
SCRATCH = ("profile", "quiet", "median", "rhythm, robust", "loudness")
PRESETS = {
    "auscult_scratch": SCRATCH,
    "auscult_small": ("profile", "quiet", "median", "rhythm", "loudness", "mn04"),
}
MOST = 6
# A set may be this far below the better floor on no machine, or it loses what it is further below.
ALLOWED = 3.0


def family(name: str) -> str:
    """The family of a machine: its name without numbers, sizes and draws."""
    return re.sub(r"[-_]?\d.*$", "", name).removesuffix("_off").removesuffix("_rest")


def machine_of(name: str) -> str:
    """The machine a draw of recordings is of."""
    return re.sub(r"-\d+[a-z]?$", "", name)


def embedded(encoder: Encoder, machine: Machine, cache: Path, what: str) -> dict[str, np.ndarray]:
    """Embeddings of its training and test windows, with the recording of each; kept in a file."""
    place = cache / f"{machine.name}-{what}.npz"
    if not place.is_file():
        found: dict[str, np.ndarray] = {}
        for role in ("normal", "test"):
            vectors, owner = [], []
            for i, recording in enumerate(machine.of(role)):
                sound = read_audio(recording.path, rate=encoder.sample_rate)
                cut = clip_windows(
                    sound,
                    window_samples=encoder.window_samples,
                    hop_samples=round(HOP * encoder.sample_rate),
                )
                with torch.inference_mode():
                    vectors.append(encoder(torch.from_numpy(np.stack([w for _, w in cut]))).numpy())
                owner += [i] * len(cut)
            found[role], found[f"{role}_of"] = np.concatenate(vectors), np.array(owner)
        np.savez(place, **found)
    return dict(np.load(place, allow_pickle=False))


def part_scores(kept: dict[str, np.ndarray], machine: Machine, part: Part) -> np.ndarray:
    """Standard scores of the test recordings by one part, its weight included."""
    recordings = machine.of("normal")
    rows = [
        Row(source=str(i), start=0.0, group=str(i), domain=recordings[i].domain)
        for i in kept["normal_of"]
    ]
    healthy = HealthySet(kept["normal"], rows)
    config = FusionConfig(parts=(part,))
    state = fit_state(healthy, config)
    scorer = build_scorer(config, healthy, state)
    scorer.start()
    scores, _ = scorer.score(kept["test"])
    weight = float(state["0.weight"][0]) if "0.weight" in state else part.weight
    owner = kept["test_of"]
    return weight * np.bincount(owner, scores) / np.bincount(owner)


@cache
def split_of(labels: tuple[str, ...], domains: tuple[str, ...]) -> Split:
    """Masks of the test recordings that each area is of."""
    return split_clips(labels, domains)


def figure(machine: Machine, scores: np.ndarray) -> float:
    """Harmonic mean of the areas, %."""
    tests = machine.of("test")
    split = split_of(tuple(t.label for t in tests), tuple(t.domain for t in tests))
    once = np.ones((1, len(scores)))
    areas = [
        weighted_auc(once, split.anomalous, normals, scores)[0]
        for normals in (split.source, split.target)
        if normals.any()
    ]
    areas.append(weighted_auc(once, split.anomalous, ~split.anomalous, scores, max_fpr=MAX_FPR)[0])
    return 100 * harmonic_mean(areas)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("machines", type=Path)
    parser.add_argument("--weights", type=Path, help="folder of mn04; without it, no mn04")
    parser.add_argument("--cache", type=Path, required=True)
    args = parser.parse_args()
    args.cache.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    console = Console(width=200)
    parts = [EncoderConfig(kind="sound_views")]
    if args.weights:
        parts.append(
            EncoderConfig(
                kind="mn04", features="block12_balanced", level="remove",
                weights="mn04_as_mAP_432.pt",
            )
        )  # fmt: skip
    chosen = EncoderConfig(kind="joined", parts=tuple(parts)) if args.weights else parts[0]
    encoder, log_mel, loudness = (
        build_encoder(config, window_seconds=SECONDS, weights=args.weights, seed=0)
        for config in (chosen, EncoderConfig(kind="log_mel"), EncoderConfig(kind="loudness"))
    )
    spans = {view.name: (view.start, view.stop) for view in encoder.views}
    pool = {
        name: Part(columns=spans[fields["view"]], **fields)
        for name, fields in PARTS.items()
        if fields["view"] in spans
    }
    whole = Part(scorer=ALONE)
    scores: dict[str, dict[str, np.ndarray]] = {}
    floors: dict[str, float] = {}
    everyone = load_machines(args.machines)
    for machine in everyone:
        kept = embedded(encoder, machine, args.cache, f"views{len(parts)}")
        scores[machine.name] = {
            name: part_scores(kept, machine, part) for name, part in pool.items()
        }
        floors[machine.name] = max(
            figure(machine, part_scores(embedded(floor, machine, args.cache, what), machine, whole))
            for floor, what in ((log_mel, "log_mel"), (loudness, "loudness"))
        )
        console.print(f"{machine.name}: better floor {floors[machine.name]:.1f}", style="dim")
    names = [machine.name for machine in everyone]
    families = list(dict.fromkeys(family(name) for name in names))
    in_family = np.array([[family(n) == f for n in names] for f in families], float)
    in_family /= in_family.sum(axis=1, keepdims=True)
    machines = list(dict.fromkeys(machine_of(name) for name in names))
    in_machine = np.array([[machine_of(n) == m for n in names] for m in machines], float)
    in_machine /= in_machine.sum(axis=1, keepdims=True)
    floor = np.array([floors[name] for name in names])

    sets = [s for k in range(1, MOST + 1) for s in itertools.combinations(pool, k)]
    table = np.array(
        [
            [figure(m, sum(scores[m.name][part] for part in chosen)) for m in everyone]
            for chosen in sets
        ]
    )
    by_family = table @ in_family.T
    below = (in_machine @ (table - floor).T).T
    merit = lambda kept: (  # noqa: E731
        by_family[:, kept].mean(axis=1) + np.minimum(below.min(axis=1) + ALLOWED, 0.0)
    )
    every = np.arange(len(families))
    for title, allowed in (
        ("no checkpoint", [not any("mn04" in p for p in s) for s in sets]),
        ("with mn04", [any("mn04" in p for p in s) for s in sets]),
    ):
        if not any(allowed):
            continue
        barred = np.where(allowed, 0.0, -np.inf)
        best = int(np.argmax(merit(every) + barred))
        without = [int(np.argmax(merit(every[every != f]) + barred)) for f in every]
        preset = PRESETS["auscult_scratch" if title == "no checkpoint" else "auscult_small"]
        ours = sets.index(tuple(name for name in pool if name in preset))
        shown = Table(title=f"{title}: harmonic mean of the areas, %, by family")
        for heading in ("", *families, "mean", "worst machine against the better floor"):
            shown.add_column(heading)
        rows = {"better floor": floor @ in_family.T, "preset": by_family[ours]}
        rows |= {"best of all sets": by_family[best]}
        rows |= {"chosen without it": np.array([by_family[w, f] for f, w in enumerate(without)])}
        for label, values in rows.items():
            at = {"preset": ours, "best of all sets": best}.get(label)
            worst = "" if at is None else (
                f"{machines[int(np.argmin(below[at]))]} {below[at].min():+.1f}"
            )  # fmt: skip
            shown.add_row(label, *(f"{v:.1f}" for v in values), f"{values.mean():.1f}", worst)
        console.print(shown)
        console.print(f"best of all sets: {', '.join(sets[best])}")
        cost = by_family[best] - rows["chosen without it"]
        console.print(
            f"choosing without a family costs that family {cost.mean():.1f} points in the mean, "
            f"{cost.max():.1f} at most"
        )


if __name__ == "__main__":
    main()
