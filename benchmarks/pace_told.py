"""What an agent told at a hop of 1 s, heard as `hop: auto` would have taken it.

    .venv/bin/python benchmarks/service_replay.py --out FOLDER --hop 1
    .venv/bin/python benchmarks/pace_told.py FOLDER [--onset 600] [--fractions 1 0.7 0.5 0.35]

Every window's score is in what an agent writes (`jsonl`), so its log at a hop of 1 s says what
another pace would have told. The levels that trigger are not in it: nothing is called, so windows
are as far apart as scores alone have them, the least favourable there is. FOLDER holds one folder
a machine, of `bundle` and of folders with a `told.jsonl` each, named as `service_replay.py` does.
Restarts are left out: a log doesn't say what an agent knew of earlier stops.
"""

from __future__ import annotations

import argparse
import json
from datetime import datetime
from pathlib import Path

import numpy as np
import pace_streams
from pace_streams import BEGIN, STATES, Kept
from pace_tables import Line, print_tables
from service_pace import lines_of

from agent.core.records import MachineState
from agent.deploy.load import open_bundle

_KINDS = {"healthy": "healthy", "fault": "fault", "doubled": "gain", "gain": "gain"}


def read_told(path: Path, kind: str, onset: float, healthy: float, rate: int) -> Kept:
    """The windows of a log.

    Args:
        path: What the agent wrote, one JSON object a line.
        kind: As of `Kept`.
        onset: When its fault begins, seconds from the first window's start; NaN without one.
        healthy: Raw score of a window whose change of level alone is told.
        rate: Of the bundle's encoder.
    """
    rows: list[tuple[float, ...]] = []
    first: float | None = None
    nan = float("nan")
    for line in path.read_text().splitlines():
        one = json.loads(line)
        if one["kind"] != "score":
            continue
        start = datetime.fromisoformat(one["start"]).timestamp()
        first = start if first is None else first
        begin, end = start - first, start - first + one["seconds"]
        value, change = one["raw_score"], one["level_change_db"]
        rows.append((
            # It comes with the quarter of a second that completes it.
            round(4 * end) - 1, BEGIN + end, nan, round(begin * rate),
            nan if value is None else value, STATES.index(MachineState(one["state"])), 0,
            *((nan, nan, 0.0) if change is None else (change, healthy, 0.0)), 0.0, nan,
        ))  # fmt: skip
    windows = np.array(rows)
    blocks = np.full(int(windows[-1, 0]) + 1, rate // 4)
    strength = path.parent.name.rsplit("-", 1)[-1]
    return Kept(
        path.parent.name, kind, float(windows[-1, 1] - BEGIN), onset,
        strength if strength[0].isdigit() else "1", windows, {}, blocks, np.zeros((0, 1)),
    )  # fmt: skip


def main() -> None:
    """Run the benchmark and print its tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, nargs="+")
    parser.add_argument("--onset", type=float, default=600.0, help="of faults and gain, seconds")
    parser.add_argument("--fractions", type=float, nargs="+", default=[1.0, 0.7, 0.5, 0.35])
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    lines: list[Line] = []
    for folder in sorted(one for root in options.folder for one in root.iterdir()):
        bundle = open_bundle(folder / "bundle", threads=1)
        terms = pace_streams.terms_of(bundle)
        for path in sorted(folder.glob("*/told.jsonl")):
            kind = _KINDS.get(path.parent.name.split("-")[0])
            if kind is not None:
                onset = float("nan") if kind == "healthy" else options.onset
                kept = read_told(
                    path, kind, onset, terms.thresholds.scale.median,
                    bundle.manifest.encoder.sample_rate,
                )  # fmt: skip
                lines += lines_of(folder.name, bundle, terms, kept, options.fractions)
        bundle.close()
    if options.json:
        options.json.write_text(json.dumps(lines) + "\n", encoding="utf-8")
    print_tables(lines)


if __name__ == "__main__":
    main()
