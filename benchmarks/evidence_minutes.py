"""Weak faults that stay: rules over minutes at a lower threshold, leaving one machine out.

    .venv/bin/python benchmarks/evidence_minutes.py FOLDER [--hop 5] [--minutes 5] [--without NAME]

FOLDER is one that `service_days.py` has filled. Healthy streams are all those without a fault,
passing sounds included; a fault of two minutes is taken to stay, its windows played over and over.
Each rule is a statistic of the latest minutes of running sound, on the scale whose 1.0 is the
alarm's threshold, and a height of its own for each machine:

- 80 %: the score that four fifths of the windows exceed (what `decide.alert.steady_seconds` asks);
- median, mean, EWMA (of that time constant), CUSUM (of what exceeds 0.25, over the minutes).

Heights: the promise's (`agent.decide.thresholds`, at the agent's defaults), a constant, the
healthy scores' 95 % quantile, their maximum. They are multiplied by the least factor, with a
quarter to spare, at which all *other* machines are quiet; the row `as promised` has none.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import service_scores
from numpy.lib.stride_tricks import sliding_window_view
from rich.console import Console
from rich.table import Table
from service_days import upper

from agent.config.agent import MachineConfig
from agent.config.decide import AlertConfig, DecideConfig
from agent.core.records import MachineState
from agent.deploy.load import open_bundle
from agent.machine.settings import settings_of

STAYS = 40.0  # minutes that a fault is taken to last
SPARE = 1.25
_RUNNING = list(MachineState).index(MachineState.RUNNING)
_LEVEL = -9.0  # of a window that is healthy but for its level: it speaks against a weak fault
Floats = np.ndarray


@dataclass
class Machine:
    """A machine's streams on its scale, one number a window of running sound.

    Attributes:
        heights: By what its statistic is measured.
        alert: The alert's threshold.
        healthy: Healthy streams.
        faults: Names, windows, and which of them is the fault's first.
    """

    name: str
    heights: dict[str, float]
    alert: float
    healthy: list[Floats] = field(default_factory=list)
    faults: list[tuple[str, Floats, int]] = field(default_factory=list)


def machine(folder: Path, hop: float, minutes: float) -> Machine | None:
    """A machine of the folder; None where its bundle has no alerts, or nothing is heard."""
    bundle = open_bundle(folder / "bundle", threads=1)
    asked = AlertConfig(steady_seconds=48.0 * minutes)
    config = MachineConfig(name="bench", hop_seconds=hop, decide=DecideConfig(alert=asked))
    found = settings_of(config, bundle).thresholds
    bundle.close()
    if bundle.healthy is None or found.alert is None or found.steady is None:
        return None
    scale, scores = found.scale, bundle.healthy.known()[0]
    healthy = np.array([scale.of(float(one)) for one in scores])
    one = Machine(
        folder.name,
        {
            "promise": scale.of(found.steady.threshold),
            "constant": 1.0,
            "healthy 95 %": max(float(np.quantile(healthy, 0.95)), 0.05),
            "healthy maximum": max(float(healthy.max()), 0.1),
        },
        scale.of(found.alert),
    )
    for stream in service_scores.read(folder / f"scores-{hop:g}"):
        rows = stream.rows[(stream.rows[:, 3] == _RUNNING) & np.isfinite(stream.rows[:, 2])]
        value = np.array([scale.of(float(v)) for v in rows[:, 2]])
        value[np.isfinite(rows[:, 6])] = _LEVEL
        if stream.kind == "fault":
            start, end = stream.events[0].start, stream.events[0].end
            sick = value[(rows[:, 0] > start + 10.0) & (rows[:, 0] <= end)]
            lead = value[rows[:, 0] <= start]
            if len(sick) >= 8:
                stays = np.resize(sick, round(60 * STAYS / hop))
                one.faults.append((stream.name, np.concatenate([lead, stays]), len(lead)))
        elif stream.kind != "changed" and len(value):
            one.healthy.append(value)
    return one if one.healthy else None


# --- statistics of the latest n windows; nothing where there are fewer


def _rolling(values: Floats, n: int, of: Callable[[Floats], Floats]) -> Floats:
    if len(values) < n:
        return np.full(len(values), -np.inf)
    return np.concatenate([np.full(n - 1, -np.inf), of(sliding_window_view(values, n))])


def _ewma(values: Floats, n: int) -> Floats:
    found, held = np.empty(len(values)), 0.0
    for at, value in enumerate(np.clip(values, -1.0, 2.0)):
        held += (1.0 - np.exp(-1.0 / n)) * (value - held)
        found[at] = held
    return found


def _cusum(values: Floats, n: int) -> Floats:
    found, held = np.empty(len(values)), 0.0
    for at, value in enumerate(np.clip(values, -1.0, 1.0)):
        held = max(0.0, held + value - 0.25)
        found[at] = held / n
    return found


STATISTICS: dict[str, Callable[[Floats, int], Floats]] = {
    "80 %": lambda v, n: _rolling(v, n, lambda x: np.quantile(x, 0.2, axis=1)),
    "median": lambda v, n: _rolling(v, n, lambda x: np.median(x, axis=1)),
    "mean": lambda v, n: _rolling(np.clip(v, -1.0, 1.0), n, lambda x: np.mean(x, axis=1)),
    "EWMA": _ewma,
    "CUSUM": _cusum,
}


def told_today(values: Floats, first: int, alert: float, hop: float) -> bool:
    """Whether alarm or alert tell of a fault by their own evidence, or level does."""
    for threshold, seconds, within in ((1.0, 45, 60), (alert, 60, 90)):
        n = round(within / hop)
        loud = sliding_window_view(values[max(first - n + 1, 0) :], n) > threshold
        if (loud.sum(axis=1) * hop >= seconds).any():
            return True
    return bool(np.mean(values[first:] == _LEVEL) > 0.5)


def main() -> None:
    """Judge every stream by every rule, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hop", type=float, default=5.0)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--without", nargs="*", default=[], help="machines to leave out, by name")
    options = parser.parse_args()
    n = round(60 * options.minutes / options.hop)
    machines = [
        found
        for folder in sorted(options.folder.iterdir())
        if (folder / f"scores-{options.hop:g}").is_dir()
        and not any(name in folder.name for name in options.without)
        and (found := machine(folder, options.hop, options.minutes)) is not None
    ]
    hours = sum(map(len, (v for one in machines for v in one.healthy))) * options.hop / 3600
    unheard = {
        (one.name, name)
        for one in machines
        for name, values, first in one.faults
        if not told_today(values, first, one.alert, options.hop)
    }
    faults = sum(len(one.faults) for one in machines)
    print(f"{len(machines)} machines, {hours:.1f} h of healthy running, {faults} faults")
    table = Table(title=f"over {options.minutes:g} minutes")
    for name in ("statistic", "height", "factor", "false", "a day at most (95 %)", "found",
                 f"of {len(unheard)} untold today", "delay"):  # fmt: skip
        table.add_column(name)
    for name, statistic in STATISTICS.items():
        quiet = {one.name: [statistic(v, n) for v in one.healthy] for one in machines}
        sick = {
            one.name: [(fault, statistic(v, n)[first:]) for fault, v, first in one.faults]
            for one in machines
        }
        for height in machines[0].heights:
            for left_out in (True, False) if (name, height) == ("80 %", "promise") else (True,):
                row = _row(machines, height, quiet, sick, left_out=left_out, unheard=unheard)
                factor, false, found, new, delays = row
                table.add_row(
                    name, height if left_out else "as promised", factor, str(false),
                    f"{24 * upper(false) / hours:.2g}", str(found), str(new),
                    f"{np.median(delays) * options.hop:.0f} s" if delays else "-",
                )  # fmt: skip
    Console(width=130).print(table)


def _row(
    machines: list[Machine],
    height: str,
    quiet: dict[str, list[Floats]],
    sick: dict[str, list[tuple[str, Floats]]],
    *,
    left_out: bool,
    unheard: set[tuple[str, str]],
) -> tuple[str, int, int, int, list[int]]:
    """Factor, false alerts, faults found, those of them that nothing tells today, delays."""
    most = {
        one.name: max(v.max() for v in quiet[one.name]) / one.heights[height] for one in machines
    }
    factors, false, found, new, delays = [], 0, 0, 0, []
    for one in machines:
        others = max(value for name, value in most.items() if name != one.name)
        factor = max(SPARE * others, 0.05) if left_out else 1.0
        limit = factor * one.heights[height]
        factors.append(factor)
        for values in quiet[one.name]:
            above = np.concatenate([[False], values > limit])
            false += int((above[1:] & ~above[:-1]).sum())
        for name, values in sick[one.name]:
            late = np.flatnonzero(values > limit)
            if len(late):
                found += 1
                new += (one.name, name) in unheard
                delays.append(int(late[0]))
    return f"{min(factors):.2g} to {max(factors):.2g}", false, found, new, delays


if __name__ == "__main__":
    main()
