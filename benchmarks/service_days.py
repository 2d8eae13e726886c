"""Machines in service: false alarms a day against the promise, delay and recall by fault strength.

    .venv/bin/python benchmarks/service_days.py --work FOLDER

Trains and exports each machine as a user would (`auscult train`, `auscult export`, all defaults),
scores hours of sound that training never heard at the device's hop, and lets the agent's own
decider judge, with the defaults of the configuration. The scores are kept in FOLDER, so that
another rule of decision is tried in seconds (`--decide '{"raise_windows": 3, ...}'`). Real machines
need $AUSCULT_SHARED; sentences need espeak-ng.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path

import numpy as np
import service_machines
import service_sounds as sounds
from rich.console import Console
from rich.table import Table
from service_scores import Scored, alarms, read, save, score_stream

from agent.config.decide import DecideConfig
from agent.deploy.load import open_bundle
from trainer.synth.families import FAMILIES

AUSCULT = Path(sys.executable).with_name("auscult")
SHARED = Path(os.environ.get("AUSCULT_SHARED", Path(__file__).parents[2] / "shared"))
# An alarm belongs to a passing sound when it rises until this long after its end, seconds.
AFTER = 15.0


def auscult(*words: str | Path) -> None:
    """Run a command; its own words explain a failure."""
    done = subprocess.run([AUSCULT, *words], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"auscult {' '.join(map(str, words))}\n{done.stdout}{done.stderr}")


def prepare(
    place: sounds.Place, work: Path, words: tuple[str | Path, ...], hop: float
) -> tuple[Path, Path]:
    """Train, export and score unless that was done; the bundle, and the folder of scores."""
    folder = work / place.name.replace(" ", "_").replace(",", "")
    bundle, scores = folder / "bundle", folder / f"scores-{hop:g}"
    if not (bundle / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "data"
        root = place.write(data) if not data.exists() else next(data.rglob("normal")).parent
        auscult("train", root, *words, "--out", folder / "run", "--force")
        auscult("export", folder / "run", "--out", bundle)
    if not (scores / "done").exists():
        scores.mkdir(exist_ok=True)
        opened = open_bundle(bundle, threads=1)
        for number, stream in enumerate(place.streams()):
            kept = scores / f"{number:03d}.npz"
            if not kept.exists():
                save(score_stream(opened, stream, hop), kept)
        opened.close()
        (scores / "done").touch()
    return bundle, scores


def upper(count: int) -> float:
    """95 % upper bound of a Poisson mean."""
    from scipy.stats import chi2

    return float(chi2.ppf(0.95, 2 * count + 2) / 2)


class Counters:
    """What a rule of decision did on every machine."""

    def __init__(self) -> None:
        self.days: dict[str, float] = defaultdict(float)
        self.false: dict[str, int] = defaultdict(int)
        self.kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        self.passed: dict[str, list[int]] = defaultdict(list)
        self.delays: dict[str, list[float | None]] = defaultdict(list)

    def add(self, machine: str, stream: Scored, alarms: list[tuple[float, float]]) -> None:
        """Count a stream's alarms."""
        if stream.kind in {"healthy", "cycles"}:
            self.days[machine] += stream.seconds / 86_400
            self.false[machine] += len(alarms)
            self.kinds[stream.kind][0] += stream.seconds / 3600
            self.kinds[stream.kind][1] += len(alarms)
            return
        for event in stream.events:
            if stream.kind == "disturbed":
                hit = [a for a, _ in alarms if event.start <= a <= event.end + AFTER]
                self.passed[event.what].append(bool(hit))
                continue
            after = [max(a, event.start) for a, b in alarms if b > event.start and a <= event.end]
            if stream.kind == "changed":
                self.passed[event.what].append(bool(after))
            else:
                # One that stood before is a false one, and no detection.
                fresh = [a - event.start for a in after if a > event.start]
                self.delays[event.strength].append(min(fresh) if fresh else None)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and scores")
    parser.add_argument("--preset", help="the default one when not given")
    parser.add_argument("--weights", type=Path, help="folder of pre-trained checkpoints")
    parser.add_argument("--synthetic", type=int, default=6, help="synthetic machines")
    parser.add_argument("--hours", type=float, default=4.0, help="of each of them")
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--decide", default="{}", help="`decide` section as JSON")
    parser.add_argument("--only", help="machines whose names contain this")
    parser.add_argument("--list", action="store_true", help="when alarms rose, by stream")
    parser.add_argument("--real", action="store_true", help="recorded machines alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    words: tuple[str | Path, ...] = ()
    if options.preset:
        words += ("--preset", options.preset)
    if options.weights:
        words += ("--weights", options.weights)
    decide = DecideConfig.model_validate(json.loads(options.decide))
    places = service_machines.machines(SHARED, options.synthetic, options.hours)
    counters, began = Counters(), time.monotonic()
    for place in places:
        if options.real and place.name.split()[0] in {"fan", *FAMILIES}:
            continue
        if options.only and options.only not in place.name:
            continue
        path, folder = prepare(place, options.work, words, options.hop)
        bundle = open_bundle(path, threads=1)
        for stream in read(folder):
            counters.add(place.name, stream, alarms(bundle, stream, decide, options.hop))
        if options.list:
            for stream in read(folder):
                rose = alarms(bundle, stream, decide, options.hop)
                print(f"  {stream.name}: {[(f'{a:.0f}', f'{b - a:.0f}') for a, b in rose]}")
        print(
            f"{place.name}: {counters.false[place.name]} false in "
            f"{24 * counters.days[place.name]:.2f} h, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    show(counters)
    if options.json:
        options.json.write_text(json.dumps(vars(counters), indent=1))


def show(counters: Counters) -> None:
    """Print the tables."""
    console = Console(width=110)
    table = Table(title="healthy sound, no event")
    for name in ("machine", "hours", "false alarms", "a day (95 % at most)"):
        table.add_column(name)
    rows = [*counters.days.items(), ("all", sum(counters.days.values()))]
    for machine, days in rows:
        count = sum(counters.false.values()) if machine == "all" else counters.false[machine]
        table.add_row(
            machine,
            f"{24 * days:.2f}",
            str(count),
            f"{count / days:.2g} ({upper(count) / days:.3g})",
        )
    console.print(table)
    for kind, (hours, count) in counters.kinds.items():
        console.print(f"of it {kind}: {hours:.1f} h, {count:g} false alarms")
    table = Table(title="sounds from elsewhere, gain and microphone")
    for name in ("what", "times", "alarms"):
        table.add_column(name)
    for what, hits in counters.passed.items():
        table.add_row(what, str(len(hits)), str(sum(hits)))
    console.print(table)
    table = Table(title="faults")
    for name in ("strength", "faults", "raised", "within 20 s", "30 s", "90 s", "median delay"):
        table.add_column(name)
    for strength, delays in sorted(counters.delays.items()):
        known = [d for d in delays if d is not None]
        table.add_row(
            strength, str(len(delays)), str(len(known)),
            *(str(sum(d <= most for d in known)) for most in (20, 30, 90)),
            f"{np.median(known):.0f} s" if known else "-",
        )  # fmt: skip
    console.print(table)


if __name__ == "__main__":
    main()
