"""The promise of false alarms held against healthy sound in service, by block bootstrap.

    .venv/bin/python benchmarks/promise_bootstrap.py FOLDER [--hop 1] [--block 600] [--repeats 50]

FOLDER is one that `service_days.py` has filled. Hours of replay cannot show one alarm in 30 days.
So days are put together from blocks of the healthy scores (ten minutes: longer than scores are
alike, so that what is alike stays together), and the agent's rule of evidence counts its alarms in
them, at the thresholds of promises that hours can show (one an hour, a day) and of the wanted one.
Blocks that were never heard are in none of it: the bound that the hours allow stands beside it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import service_scores
from rich.console import Console
from rich.table import Table
from scipy.stats import chi2

from agent.config.decide import DecideConfig, FalseAlarms
from agent.core.records import MachineState
from agent.decide.evidence import Evidence, Rule
from agent.decide.thresholds import find_thresholds
from agent.deploy.load import Bundle, open_bundle

PROMISES = tuple(FalseAlarms(at_most=1, per_days=days) for days in (1 / 24, 1.0, 30.0))
_RUNNING = list(MachineState).index(MachineState.RUNNING)


def healthy_scores(bundle: Bundle, folder: Path, hop: float) -> tuple[np.ndarray, float, int]:
    """Scores that count of healthy streams, in order; hours that they are of; alarms in them."""
    found, seconds, rose = [], 0.0, 0
    for stream in service_scores.read(folder):
        if stream.kind not in {"healthy", "cycles"}:
            continue
        rows = stream.rows[(stream.rows[:, 3] == _RUNNING) & np.isfinite(stream.rows[:, 2])]
        found.append(np.where(np.isfinite(rows[:, 6]), rows[:, 6], rows[:, 2]))
        seconds += stream.seconds
        rose += len(service_scores.alarms(bundle, stream, DecideConfig(), hop))
    return np.concatenate(found), seconds / 3600, rose


def simulated(
    scores: np.ndarray, threshold: float, hop: float, block: int, days: float,
    rng: np.random.Generator,
) -> int:  # fmt: skip
    """Alarms in so many days put together from blocks of the scores."""
    amounts = DecideConfig().amounts
    rule = Rule(threshold, threshold, amounts.raise_after, amounts.within, amounts.clear_after, 1e9)
    evidence, count, now = Evidence(rule), 0, 0.0
    # Without a window above it in reach, nothing can be raised: those blocks are passed over.
    loud = scores > threshold
    if not loud.any():
        return 0
    for _ in range(round(days * 86_400 / hop / block)):
        first = int(rng.integers(len(scores) - block))
        part = loud[first : first + block]
        if not part.any():
            evidence.forget()
            evidence.active = False
            now += block * hop
            continue
        for value in scores[first : first + block]:
            now += hop
            before = evidence.active
            evidence.observe(float(value), now, hop)
            count += evidence.active and not before
    return count


def main() -> None:
    """Print what each machine's promises come to."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hop", type=float, default=1.0)
    parser.add_argument("--block", type=float, default=600.0, help="seconds")
    parser.add_argument("--repeats", type=int, default=50)
    options = parser.parse_args()
    table = Table(title="alarms in the time of one promised")
    names = (
        "machine",
        "hours heard",
        "alarms",
        "one an hour",
        "one a day",
        "one in 30 days",
        "hours' bound",
    )
    for name in names:
        table.add_column(name)
    rng, block = np.random.default_rng(0), round(options.block / options.hop)
    for folder in sorted(options.folder.iterdir()):
        kept = folder / f"scores-{options.hop:g}"
        if not kept.is_dir():
            continue
        bundle = open_bundle(folder / "bundle", threads=1)
        scores, hours, rose = healthy_scores(bundle, kept, options.hop)
        cells: list[str] = []
        for promise in PROMISES if len(scores) > block else ():
            decide = DecideConfig(false_alarms=promise)
            found = find_thresholds(decide, bundle.manifest, bundle.healthy, options.hop)
            days = promise.per_days
            counts = [
                simulated(scores, found.alarm, options.hop, block, days, rng)
                for _ in range(options.repeats)
            ]
            low, high = np.quantile(counts, [0.05, 0.95])
            cells.append(f"{np.mean(counts):.2f} ({low:.0f} to {high:.0f})")
        bundle.close()
        bound = chi2.ppf(0.95, 2 * rose + 2) / 2 / hours * 720
        cells = cells or ["too little sound"] * len(PROMISES)
        table.add_row(
            folder.name, f"{hours:.1f}", str(rose), *cells, f"under {bound:.0f} in 30 days"
        )
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
