"""A hop that follows the machine against fixed ones: false alarms, delay, windows; on one scoring.

    .venv/bin/python benchmarks/service_pace.py --work FOLDER [--hours 1] [--synthetic 6]

Each machine of `service_machines.py` is learnt by `auscult learn` (all defaults), and every window
of its streams at a hop of 1 s is scored once (`pace_streams.py`); scores are kept in FOLDER.
Deciders see them: each window; each fifth, at each of five phases; and those that `HopPace` takes
of the same stream, as `hop: auto` does. All else is the same, so that what differs is the pace.
Evidence, thresholds and trigger are the agent's own, at its defaults. Halls: quiet, and noisy (a
sentence, a slam, compressed air or a truck each minute, -3 to 6 dB over the machine; with a fault
twice a minute). Faults begin anywhere between two places of the calm hop.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pace_streams
import service_machines
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, chi2
from service_days import AUSCULT, SHARED
from service_sounds import Place

from agent.deploy.load import open_bundle

_HEALTHY, _FAULTY = ("healthy", "cycles", "noisy"), ("fault", "fault, noisy")
_WAYS = ("1 s", "5 s", "auto")
Line = dict[str, Any]


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


def prepare(place: Place, work: Path) -> Path:
    """Learn a machine and score its streams, unless that was done; the folder of both."""
    path = bundle_of(place, work)
    scores = path.parent / "streams"
    if not (scores / "done").exists():
        scores.mkdir(exist_ok=True)
        bundle = open_bundle(path, threads=1)
        terms = pace_streams.terms_of(bundle)
        for number, stream in enumerate(pace_streams.streams_of(place)):
            kept = scores / f"{number:03d}.npz"
            if not kept.exists():
                pace_streams.save(pace_streams.score(bundle, terms, stream), kept)
        bundle.close()
        (scores / "done").touch()
    return path.parent


def heard(name: str, folder: Path) -> list[Line]:
    """One line a stream and way; of a fault the seconds from its onset."""
    lines: list[Line] = []
    bundle = open_bundle(folder / "bundle", threads=1)
    terms = pace_streams.terms_of(bundle)
    for path in sorted((folder / "streams").glob("*.npz")):
        kept = pace_streams.read(path)
        for way, one in pace_streams.hear(bundle, terms, kept).items():
            after = [at - kept.onset for at in one.alarms if at > kept.onset]
            before = [at for at in one.alarms if at <= kept.onset]
            lines.append({
                "machine": name, "stream": kept.name, "kind": kept.kind, "seconds": kept.seconds,
                "strength": kept.strength, "way": way.split(",")[0], "phase": way,
                "windows": one.windows, "called": one.called, "alarms": one.alarms,
                # One that stood before is a false one, and hides the fault.
                "delay": None if before or not after else after[0],
            })  # fmt: skip
    bundle.close()
    return lines


def a_day(count: int, hours: float) -> str:
    """Events a day, with the 95 % interval of a Poisson rate."""
    low = 0.0 if not count else float(chi2.ppf(0.025, 2 * count)) / 2
    high = float(chi2.ppf(0.975, 2 * count + 2)) / 2
    return f"{24 * count / hours:.2g} ({24 * low / hours:.2g} to {24 * high / hours:.2g})"


def healthy_table(lines: Sequence[Line], by: str) -> Table:
    """What healthy hours cost, by kind of stream or by machine."""
    table = Table(title=f"Sound without a fault, by {by}", title_justify="left")
    for heading in (
        by,
        "hop",
        "hours",
        "false alarms",
        "a day (95 %)",
        "windows an hour",
        "called",
    ):
        table.add_column(heading)
    healthy = [one for one in lines if one["kind"] in _HEALTHY]
    for value in (*dict.fromkeys(one[by] for one in healthy), "all"):
        for way in _WAYS:
            some = [one for one in healthy if value in (one[by], "all") and one["way"] == way]
            hours = sum(one["seconds"] for one in some) / 3600
            phases = max(1, len({one["phase"] for one in some}))
            count = sum(len(one["alarms"]) for one in some) / phases
            table.add_row(
                value, way, f"{hours / phases:.2f}", f"{count:.1f}",
                a_day(round(count), hours / phases),
                f"{sum(one['windows'] for one in some) / hours:.0f}",
                f"{sum(one['called'] for one in some) / hours:.0f}",
            )  # fmt: skip
        table.add_section()
    return table


def fault_table(lines: Sequence[Line]) -> Table:
    """How soon faults are told, in seconds from the onset, each against the same at 1 s."""
    title = "Faults: told; seconds from the onset; against 1 s, of those told in both ways"
    table = Table(title=title, title_justify="left")
    for heading in (
        "hall", "strength", "hop", "told", "median", "90 %", "later than 1 s", "sooner", "mean",
        "only here", "only at 1 s",
    ):  # fmt: skip
        table.add_column(heading)
    found: dict[tuple[str, str, str, str], dict[str, float | None]] = defaultdict(dict)
    for one in lines:
        if one["kind"] in _FAULTY:
            key = (one["kind"], one["strength"], one["machine"], one["stream"])
            found[key][one["phase"]] = one["delay"]
    for kind, strength in sorted({key[:2] for key in found}):
        these = [by for key, by in found.items() if key[:2] == (kind, strength)]
        for way in _WAYS:
            pairs = [
                (delay, by["1 s"]) for by in these for phase, delay in by.items()
                if phase.split(",")[0] == way
            ]  # fmt: skip
            told = [delay for delay, _ in pairs if delay is not None]
            both = [a - b for a, b in pairs if a is not None and b is not None]
            later = [one for one in both if one > 0.5]
            table.add_row(
                "noisy" if "noisy" in kind else "quiet", strength, way,
                f"{len(told)} of {len(pairs)}",
                f"{np.median(told):.0f}" if told else "",
                f"{np.quantile(told, 0.9):.0f}" if told else "",
                f"{len(later)}, at most {max(later, default=0):.0f} s",
                str(sum(one < -0.5 for one in both)),
                f"{np.mean(both):+.1f} s" if both else "",
                str(sum(b is None and a is not None for a, b in pairs)),
                str(sum(a is None and b is not None for a, b in pairs)),
            )  # fmt: skip
    return table


def shared_alarms(lines: Sequence[Line]) -> str:
    """Whether `auto` raises more false alarms than 1 s, of the same sound: a sign test."""
    counts: dict[tuple[str, str], dict[str, int]] = defaultdict(dict)
    for one in lines:
        if one["kind"] in _HEALTHY:
            counts[one["machine"], one["stream"]][one["phase"]] = len(one["alarms"])
    more = sum(by["auto"] > by["1 s"] for by in counts.values())
    fewer = sum(by["auto"] < by["1 s"] for by in counts.values())
    chance = binomtest(more, more + fewer).pvalue if more + fewer else 1.0
    return (
        f"false alarms of {len(counts)} healthy streams: more with auto in {more}, fewer in "
        f"{fewer} (sign test p = {chance:.2f})"
    )


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--work", type=Path, required=True, help="folder for bundles and figures")
    parser.add_argument("--synthetic", type=int, default=6, help="synthetic machines")
    parser.add_argument("--hours", type=float, default=1.0, help="of each machine")
    parser.add_argument("--only", nargs="+", default=[""], help="machines whose names contain one")
    parser.add_argument("--kept", action="store_true", help="only machines that were scored before")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines: list[Line] = []
    console = Console(width=130)
    for place in service_machines.machines(SHARED, options.synthetic, options.hours):
        if not any(one in place.name for one in options.only):
            continue
        folder = options.work / place.name.replace(" ", "_").replace(",", "")
        if options.kept and not (folder / "streams" / "done").exists():
            continue
        lines += heard(place.name, prepare(place, options.work))
        console.print(f"{place.name}: done", style="dim")
    if options.json:
        options.json.write_text(json.dumps(lines) + "\n", encoding="utf-8")
    for table in (
        healthy_table(lines, "kind"),
        healthy_table(lines, "machine"),
        fault_table(lines),
    ):
        console.print(table)
    console.print(shared_alarms(lines))


if __name__ == "__main__":
    main()
