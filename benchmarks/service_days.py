"""Machines in service: false alarms a day against the promise, delay and recall by fault strength.

    .venv/bin/python benchmarks/service_days.py --work FOLDER

Trains and exports each machine as a user would (`auscult train`, `auscult export`, all defaults),
scores hours of sound that training never heard at the device's hop, and lets the agent's own
decider judge, with the defaults of the configuration. The scores are kept in FOLDER, so that
another rule of decision is tried in seconds (`--decide '{"raise_windows": 3, ...}'`); `--before`
sets the rule of commit 4b3d144 beside (at a hop of 1 s, which it was made for). Recorded machines
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
from service_scores import Scored, Told, before, judged, read, save, score_stream

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
        self.hours: dict[str, float] = defaultdict(float)
        self.distinct: dict[str, float] = defaultdict(float)
        self.false: dict[str, int] = defaultdict(int)
        self.kinds: dict[str, list[float]] = defaultdict(lambda: [0.0, 0])
        self.passed: dict[str, list[int]] = defaultdict(list)
        self.levels: dict[str, list[int]] = defaultdict(list)
        # By machine and strength; a delay is None where nothing was raised.
        self.delays: dict[str, dict[str, list[float | None]]] = defaultdict(
            lambda: defaultdict(list)
        )

    def add(self, machine: str, stream: Scored, told: Told) -> None:
        """Count what was told of a stream."""
        if stream.kind in {"healthy", "cycles"}:
            self.hours[machine] += stream.seconds / 3600
            if stream.kind == "healthy":
                self.distinct[machine] += stream.distinct / 3600
            self.false[machine] += len(told.alarms)
            self.kinds[stream.kind][0] += stream.seconds / 3600
            self.kinds[stream.kind][1] += len(told.alarms)
            return
        for event in stream.events:
            if stream.kind == "disturbed":
                hit = [a for a, _ in told.alarms if event.start <= a <= event.end + AFTER]
                self.passed[event.what].append(bool(hit))
                continue
            after = [
                max(a, event.start) for a, b in told.alarms if b > event.start and a <= event.end
            ]
            level = any(event.start < at <= event.end + AFTER for at in told.levels)
            if stream.kind == "changed":
                self.passed[event.what].append(bool(after))
                self.levels[event.what].append(level)
            else:
                # One that stood before is a false one, and no detection.
                fresh = [a - event.start for a in after if a > event.start]
                self.delays[machine][event.strength].append(min(fresh) if fresh else None)
                self.levels[event.strength].append(level and not fresh)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and scores")
    parser.add_argument("--preset", help="the default one when not given")
    parser.add_argument("--weights", type=Path, help="folder of pre-trained checkpoints")
    parser.add_argument("--synthetic", type=int, default=6, help="synthetic machines")
    parser.add_argument("--hours", type=float, default=2.0, help="of each machine")
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--decide", default="{}", help="`decide` section as JSON")
    parser.add_argument("--before", action="store_true", help="by the rule of 4b3d144 as well")
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
    today, earlier, began = Counters(), Counters(), time.monotonic()
    for place in places:
        if options.real and place.name.split()[0] in {"fan", *FAMILIES}:
            continue
        if options.only and options.only not in place.name:
            continue
        path, folder = prepare(place, options.work, words, options.hop)
        bundle = open_bundle(path, threads=1)
        rule = before(bundle)
        for stream in read(folder):
            told = judged(bundle, stream, decide, options.hop)
            today.add(place.name, stream, told)
            if options.before:
                old = judged(bundle, stream, rule, options.hop, levels=False)
                earlier.add(place.name, stream, old)
            if options.list:
                rose = [(f"{a:.0f}", f"{b - a:.0f}") for a, b in told.alarms]
                print(f"  {stream.name}: {rose}, level {[f'{at:.0f}' for at in told.levels]}")
        bundle.close()
        print(
            f"{place.name}: {today.false[place.name]} false in "
            f"{today.hours[place.name]:.2f} h, {time.monotonic() - began:.0f} s",
            flush=True,
        )
    show("today", today)
    if options.before:
        show("before (3 of 5 windows above the 1 % threshold)", earlier)
    if options.json:
        both = {"today": vars(today), "before": vars(earlier)}
        options.json.write_text(json.dumps(both, indent=1))


def show(rule: str, counters: Counters) -> None:
    """Print the tables of one rule."""
    console = Console(width=120)
    table = Table(title=f"healthy sound, no event: {rule}")
    for name in ("machine", "hours", "different", "false", "a day", "at most (95 %)"):
        table.add_column(name, justify="left" if name == "machine" else "right")
    for machine in (*counters.hours, "all"):
        one = [machine] if machine != "all" else list(counters.hours)
        hours, false = sum(counters.hours[m] for m in one), sum(counters.false[m] for m in one)
        different = sum(counters.distinct[m] for m in one)
        table.add_row(
            machine, f"{hours:.2f}", f"{different:.2f}", str(false),
            f"{24 * false / hours:.2g}", f"{24 * upper(false) / hours:.3g}",
        )  # fmt: skip
    console.print(table)
    for kind, (hours, count) in counters.kinds.items():
        console.print(f"of it {kind}: {hours:.1f} h, {count:g} false alarms")
    table = Table(title=f"sounds from elsewhere, gain and microphone: {rule}")
    for name in ("what", "times", "alarms", "told as a change of level"):
        table.add_column(name)
    for what, hits in counters.passed.items():
        table.add_row(what, str(len(hits)), str(sum(hits)), str(sum(counters.levels[what])))
    console.print(table)
    table = Table(title=f"faults: {rule}")
    columns = ("machine", "strength", "faults", "raised", "within 20 s", "30 s", "90 s", "median")
    for name in columns:
        table.add_column(name)
    pooled: dict[str, list[float | None]] = defaultdict(list)
    for machine, strengths in counters.delays.items():
        for strength, delays in sorted(strengths.items()):
            pooled[strength] += delays
            table.add_row(machine, strength, *_recall(delays))
    table.add_section()
    for strength, delays in sorted(pooled.items()):
        table.add_row("all", strength, *_recall(delays))
        if level := sum(counters.levels[strength]):
            table.add_row("", "  of the others, a change of level told", str(level))
    console.print(table)


def _recall(delays: list[float | None]) -> tuple[str, ...]:
    known = [d for d in delays if d is not None]
    return (
        str(len(delays)), str(len(known)),
        *(str(sum(d <= most for d in known)) for most in (20, 30, 90)),
        f"{np.median(known):.0f} s" if known else "-",
    )  # fmt: skip


if __name__ == "__main__":
    main()
