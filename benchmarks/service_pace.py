"""A hop that follows the machine against fixed ones: windows, false alarms, delay; on one scoring.

    .venv/bin/python benchmarks/service_pace.py --work FOLDER [--hours 1] [--synthetic 6]

Each machine of `service_machines.py` is learnt by `auscult learn` (all defaults), and every window
of its streams at a hop of 1 s is scored once. Three deciders see them: each window; each fifth; and
those that `HopPace` takes of the same stream, as `hop: auto` does. All else is the same, so that
what differs is the pace. Evidence, thresholds and trigger are the agent's own, at its defaults.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import service_machines
from rich.console import Console
from rich.table import Table
from service_days import AUSCULT, SHARED
from service_sounds import RATE, Place, Stream

from agent.activity.cutter import RunningWindows
from agent.activity.edges import Edges
from agent.capture.convert import Converter
from agent.config.agent import MachineConfig
from agent.core.records import Decision, Level
from agent.decide.alarm import AlarmDecider
from agent.deploy.load import Bundle, open_bundle
from agent.level.baseline import LevelFile
from agent.level.machine import MachineLevel
from agent.machine.scoring import ScoredWindow, WindowScorer
from agent.machine.settings import MachineSettings, settings_of
from agent.pace.pace import HopPace
from agent.window.rolling import Due, RollingWindow

WAYS = ("1 s", "5 s", "auto")
_BLOCK, _BEGIN = RATE // 4, 4_000_000.0
# Kinds of streams that are heard; the others are about what the hop does not touch.
_KINDS = ("healthy", "cycles", "disturbed", "fault")


@dataclass
class Heard:
    """What one way made of a stream.

    Attributes:
        windows: Judged.
        called: Of them before their time, on a trigger.
        alarms: When each rose, seconds.
    """

    windows: int = 0
    called: int = 0
    alarms: list[float] = field(default_factory=list)


class Way:
    """One decider and what it is given."""

    def __init__(self, terms: MachineSettings) -> None:
        found = terms.thresholds
        self.heard = Heard()
        self._standing = False
        self.decider = AlarmDecider(
            MachineConfig(name="bench").decide, found.alarm, alert_threshold=found.alert,
            lasting=found.lasting, hop_seconds=terms.hop_seconds,
            overlap_seconds=terms.overlap_seconds, scale=found.scale,
        )  # fmt: skip

    def take(self, judged: ScoredWindow, *, called: bool) -> Decision:
        """Decide on a window."""
        window = replace(judged.score.window, called=called)
        decision = self.decider.decide(replace(judged.score, window=window), judged.state)
        self.heard.windows += 1
        self.heard.called += called
        if (standing := decision.level is Level.ALARM) and not self._standing:
            self.heard.alarms.append(window.end_monotonic - _BEGIN)
        self._standing = standing
        return decision


def hear(bundle: Bundle, stream: Stream) -> dict[str, Heard]:
    """Hear a stream in all three ways."""
    encoder = bundle.manifest.encoder
    config = MachineConfig(name="bench", hop="auto")
    terms = settings_of(config, bundle)
    ways = {name: Way(terms) for name in WAYS}
    pace = HopPace(encoder.sample_rate, encoder.window_samples, terms.hop_samples, terms.calm_hops)
    convert = Converter(None, encoder.sample_rate, "bench")
    rolling = RollingWindow(encoder.window_samples, terms.hop_samples, encoder.sample_rate)
    windows = RunningWindows(rolling, Edges(bundle.manifest.window_seconds, None), terms.following)
    judge = WindowScorer("bench", bundle)
    judge.levels = terms.levels
    judge.level = MachineLevel("bench", LevelFile(None), config.level).begin(
        bundle, *terms.thresholds.both
    )
    for at in range(0, len(stream.sound), _BLOCK):
        block = convert(stream.sound[at : at + _BLOCK, None], RATE, _BEGIN + at / RATE)
        pace.hear(block)
        for window in windows.push(block):
            judged = judge.judge(window)
            ways["1 s"].take(judged, called=False)
            if not window.index % terms.calm_hops:
                ways["5 s"].take(judged, called=False)
            due = pace.due(window.position + encoder.window_samples)
            if due is not Due.NO:
                pace.take(ways["auto"].take(judged, called=due is Due.CALLED))
    return {name: way.heard for name, way in ways.items()}


def bundle_of(place: Place, work: Path) -> Path:
    """A machine's bundle, learnt once."""
    folder = work / place.name.replace(" ", "_").replace(",", "")
    bundle = folder / "bundle"
    if not (bundle / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "data"
        root = place.write(data) if not data.exists() else next(data.rglob("normal")).parent
        done = subprocess.run(
            [AUSCULT, "learn", root, "--out", bundle], capture_output=True, text=True, check=False
        )
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
    return bundle


def measured(place: Place, work: Path, kinds: list[str]) -> Iterator[dict]:
    """One line a stream and way."""
    bundle = open_bundle(bundle_of(place, work), threads=1)
    try:
        for stream in place.streams():
            if stream.kind not in kinds:
                continue
            for way, heard in hear(bundle, stream).items():
                onset = stream.events[0].start if stream.kind == "fault" else None
                after = [at - onset for at in heard.alarms if onset is not None and at > onset]
                yield {
                    "machine": place.name, "stream": stream.name, "kind": stream.kind, "way": way,
                    "seconds": len(stream.sound) / RATE, "windows": heard.windows,
                    "called": heard.called, "alarms": heard.alarms,
                    "strength": stream.events[0].strength if onset is not None else None,
                    "delay": min(after) if after else None,
                }  # fmt: skip
    finally:
        bundle.close()


def show(lines: list[dict], console: Console) -> None:
    """Two tables: what healthy hours cost, and how soon faults are told."""
    table = Table(title="Sound without a fault", title_justify="left")
    for heading in ("kind", "hop", "hours", "false alarms", "windows an hour", "called an hour"):
        table.add_column(heading)
    for kind in _KINDS[:3]:
        for way in WAYS:
            some = [one for one in lines if (one["kind"], one["way"]) == (kind, way)]
            if hours := sum(one["seconds"] for one in some) / 3600:
                table.add_row(
                    kind, way, f"{hours:.1f}", str(sum(len(one["alarms"]) for one in some)),
                    f"{sum(one['windows'] for one in some) / hours:.0f}",
                    f"{sum(one['called'] for one in some) / hours:.0f}",
                )  # fmt: skip
    console.print(table)
    table = Table(title="Faults, by strength; seconds from the onset", title_justify="left")
    headings = ("strength", "hop", "told", "median", "90 %", "later than at 1 s", "sooner")
    for heading in headings:
        table.add_column(heading)
    found: dict = defaultdict(dict)
    for one in lines:
        if one["kind"] == "fault":
            found[one["strength"], one["machine"], one["stream"]][one["way"]] = one["delay"]
    for strength in sorted({key[0] for key in found}):
        for way in WAYS:
            delays = [by[way] for key, by in found.items() if key[0] == strength]
            known = [one for one in delays if one is not None]
            pairs = [
                (by[way], by["1 s"]) for key, by in found.items()
                if key[0] == strength and None not in (by[way], by["1 s"])
            ]  # fmt: skip
            later = [a - b for a, b in pairs if a > b]
            table.add_row(
                strength, way, f"{len(known)} of {len(delays)}",
                f"{np.median(known):.0f}" if known else "",
                f"{np.quantile(known, 0.9):.0f}" if known else "",
                f"{len(later)}, at most {max(later, default=0):.0f} s",
                str(sum(a < b for a, b in pairs)),
            )  # fmt: skip
    console.print(table)


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and figures")
    parser.add_argument("--synthetic", type=int, default=6, help="synthetic machines")
    parser.add_argument("--hours", type=float, default=1.0, help="of each machine")
    parser.add_argument("--only", default="", help="machines whose names contain this")
    parser.add_argument("--kinds", nargs="+", choices=_KINDS, default=list(_KINDS))
    options = parser.parse_args()
    kept, lines = options.work / "pace.jsonl", []
    options.work.mkdir(parents=True, exist_ok=True)
    known = kept.read_text(encoding="utf-8").splitlines() if kept.exists() else []
    lines += [json.loads(line) for line in known]
    console = Console(width=110)
    for place in service_machines.machines(SHARED, options.synthetic, options.hours):
        if options.only not in place.name or any(one["machine"] == place.name for one in lines):
            continue
        made = list(measured(place, options.work, options.kinds))
        lines += made
        with kept.open("a", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(one)}\n" for one in made)
        console.print(f"{place.name}: done", style="dim")
    show(lines, console)


if __name__ == "__main__":
    main()
