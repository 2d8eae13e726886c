"""A hop that follows the machine against a fixed one: false alarms, delay, windows; on one scoring.

    .venv/bin/python benchmarks/service_pace.py --work FOLDER [--hours 1] [--synthetic 6]
        [--fractions 1 0.7 0.5 0.35] [--kept]

Each machine of `service_machines.py` is learnt by `auscult learn` (all defaults), and every window
of its streams at a hop of 1 s is scored once (`pace_streams.py`); scores are kept in FOLDER, and
`--kept` hears those alone. Deciders see each window, and those that `HopPace` takes of the same
stream, as `hop: auto` does. All else is the same, so that what differs is the pace. Evidence,
thresholds and trigger are the agent's own, at its defaults; healthy machines hardly alarm by them,
so thresholds at a fraction of their height above the healthy median are tried as well. Halls:
quiet, and noisy (a sentence, a slam, compressed air or a truck each minute, -3 to 6 dB over the
machine; with a fault twice a minute). Faults begin anywhere between two places of the calm hop, at
once or over five minutes. Gain is doubled, knocks pass, machines start quietly
(`pace_occasions.py`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pace_streams
import service_machines
from pace_streams import Kept
from pace_tables import Line, print_tables
from rich.console import Console
from service_days import AUSCULT, SHARED
from service_sounds import Place

from agent.deploy.load import Bundle, open_bundle
from agent.machine.settings import MachineSettings


def bundle_of(place: Place, work: Path) -> Path:
    """A machine's bundle, learnt once."""
    folder = work / place.name.replace(" ", "_").replace(",", "")
    bundle = folder / "bundle"
    if not (bundle / "manifest.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        data = folder / "data"
        root = place.write(data) if not data.exists() else next(data.rglob("normal")).parent
        done = subprocess.run(
            [AUSCULT, "learn", root, "--out", bundle, "--untypical", "keep"],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if done.returncode:
            sys.exit(done.stdout + done.stderr)
    return bundle


def prepare(place: Place, work: Path, most: float = float("inf")) -> None:
    """Learn a machine and score its streams, unless that was done.

    Args:
        place: The machine.
        work: Keeps bundle and scores in a folder of its own.
        most: Seconds of processor after which what is left waits for another run.
    """
    path = bundle_of(place, work)
    scores = path.parent / "streams"
    if not (scores / "all").exists():
        scores.mkdir(exist_ok=True)
        bundle = open_bundle(path, threads=1)
        terms = pace_streams.terms_of(bundle)
        for stream in pace_streams.streams_of(place):
            kept = scores / f"{stream.kind}, {stream.name}.npz"
            if not kept.exists():
                if time.process_time() > most:
                    return
                pace_streams.save(pace_streams.score(bundle, terms, stream), kept)
        bundle.close()
        (scores / "all").touch()


def lines_of(
    name: str, bundle: Bundle, terms: MachineSettings, kept: Kept, fractions: Sequence[float]
) -> Iterator[Line]:
    """One line a way and fraction; of a fault the seconds from its onset."""
    for fraction in fractions:
        at = pace_streams.lowered(terms, fraction)
        for way, one in pace_streams.hear(bundle, at, kept, phases=False).items():
            after = [rose - kept.onset for rose in one.alarms if rose > kept.onset]
            before = [rose for rose in one.alarms if rose <= kept.onset]
            yield {
                "machine": name, "stream": kept.name, "kind": kept.kind, "seconds": kept.seconds,
                "strength": kept.strength, "fraction": fraction, "way": way.split(",")[0],
                "phase": way, **vars(one),
                # One that stood before is a false one, and hides the fault.
                "delay": None if before or not after else after[0],
            }  # fmt: skip


def heard(name: str, folder: Path, fractions: Sequence[float]) -> list[Line]:
    """The lines of all streams that are kept of a machine."""
    bundle = open_bundle(folder / "bundle", threads=1)
    terms = pace_streams.terms_of(bundle)
    lines = [
        line
        for path in sorted((folder / "streams").glob("*.npz"))
        for line in lines_of(name, bundle, terms, pace_streams.read(path), fractions)
    ]
    bundle.close()
    return lines


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and figures")
    parser.add_argument("--synthetic", type=int, default=6, help="synthetic machines")
    parser.add_argument("--hours", type=float, default=1.0, help="of each machine")
    parser.add_argument("--only", nargs="+", default=[""], help="machines whose names contain one")
    parser.add_argument("--fractions", type=float, nargs="+", default=[1.0, 0.7, 0.5, 0.35])
    parser.add_argument("--kept", action="store_true", help="only machines that were scored before")
    parser.add_argument("--score", type=float, help="only score, for so many processor seconds")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines: list[Line] = []
    console = Console()
    for place in service_machines.machines(SHARED, options.synthetic, options.hours):
        if not any(one in place.name for one in options.only):
            continue
        folder = options.work / place.name.replace(" ", "_").replace(",", "")
        if options.kept and not (folder / "streams" / "all").exists():
            continue
        prepare(place, options.work, options.score or float("inf"))
        if not options.score:
            lines += heard(place.name, folder, options.fractions)
        console.print(f"{place.name}: done", style="dim")
    if options.score:
        return
    if options.json:
        options.json.write_text(json.dumps(lines) + "\n", encoding="utf-8")
    print_tables(lines)


if __name__ == "__main__":
    main()
