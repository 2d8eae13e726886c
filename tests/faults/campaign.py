"""The fault campaign: what a plant does to an agent in years, in minutes.

    python -m faults.campaign [--quick] [--only kill,disk] [--without microphone] [--seed N]

Runs the real agent against a real broker, and ends with one line:

    raised N delivered N duplicated N lost 0

Ends with code 0 when nothing was lost and no part misbehaved, else 1. A part that this machine
cannot do counts as misbehaviour unless it is left out by name.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from faults import breaking, corrupting
from faults.breaking import NotPossibleError
from faults.plant import Count, FaultFoundError, Site

# Name: what breaks it, how often in full, how often in haste, what that means.
PARTS: dict[str, tuple[Callable[[Site, int], Count], int, int, str]] = {
    "broker": (breaking.broker_outages, 50, 2, "broker stopped and started"),
    "kill": (breaking.kills, 100, 4, "kill -9"),
    "microphone": (breaking.unplugging, 20, 1, "microphone removed and returned"),
    "disk": (breaking.full_disk, 6, 2, "disk filled"),
    "clock": (breaking.clock_jumps, 18, 3, "clock jumped"),
}
BUNDLE = "bundle"
_REGIONS, _REGIONS_QUICK = 64, 8


def campaign(
    folder: Path, *, quick: bool, only: set[str], without: set[str], seed: int
) -> tuple[Count, list[str]]:
    """Run it; the sum of all counts, and what went wrong."""
    total, wrong = Count(0, 0, 0, 0), []
    with Site(folder, random.Random(seed)) as site:
        for name, (break_it, often, seldom, what) in PARTS.items():
            if name in without or (only and name not in only):
                print(f"{name}: left out", flush=True)
                continue
            times, begun = seldom if quick else often, time.monotonic()
            try:
                breaking.need(name)
                count = break_it(site, times)
            except NotPossibleError as fault:
                wrong.append(f"{name}: not possible here: {fault}")
                print(wrong[-1], flush=True)
                continue
            except FaultFoundError as fault:
                wrong.append(f"{name}: {fault}")
                print(wrong[-1], flush=True)
                site.broker.stop()
                site.broker.start()
                continue
            total += count
            took = time.monotonic() - begun
            print(f"{name}: {what} {times} times in {took:.0f} s: {count}", flush=True)
            if count.disorder:
                wrong.append(f"{name}: {count.disorder} events came out of order")
                print(wrong[-1], flush=True)
        if BUNDLE not in without and (not only or BUNDLE in only):
            begun = time.monotonic()
            regions = _REGIONS_QUICK if quick else _REGIONS
            try:
                opened = corrupting.in_process(site.bundle, folder / "copy", regions)
                # Each start takes a second: in haste, a test of its own does one.
                ran = (
                    0 if quick else corrupting.by_command(site.bundle, _made(folder / "by-command"))
                )
            except FaultFoundError as fault:
                wrong.append(f"{BUNDLE}: {fault}")
                print(wrong[-1], flush=True)
            else:
                took = time.monotonic() - begun
                print(
                    f"{BUNDLE}: {opened} damaged bundles and {ran} runs in {took:.0f} s: "
                    "all refused, each naming the file",
                    flush=True,
                )
    return total, wrong


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a few of each fault")
    parser.add_argument("--only", default="", help="parts, separated by commas")
    parser.add_argument("--without", default="", help="parts left out, separated by commas")
    parser.add_argument("--seed", type=int, default=1, help="of the random instants")
    parser.add_argument("--keep", action="store_true", help="leave the files for a look")
    given = parser.parse_args()
    only, without = (
        {one for one in text.split(",") if one} for text in (given.only, given.without)
    )
    if unknown := (only | without) - PARTS.keys() - {BUNDLE}:
        parser.error(f"no part {', '.join(sorted(unknown))}: {', '.join(PARTS)}, {BUNDLE}")
    folder = Path(tempfile.mkdtemp(prefix="auscult-faults-"))
    begun = time.monotonic()
    total, wrong = campaign(folder, quick=given.quick, only=only, without=without, seed=given.seed)
    if wrong or given.keep:
        print(f"files: {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{time.monotonic() - begun:.0f} s, seed {given.seed}; misbehaved: {len(wrong)}")
    for line in wrong:
        print(f"  {line}")
    print(total, flush=True)
    return 1 if wrong or total.lost or not total.raised + (BUNDLE in only) else 0


if __name__ == "__main__":
    sys.exit(main())
