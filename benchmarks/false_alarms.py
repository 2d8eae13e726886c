# ruff: noqa: ANN001, ANN201 - a script
"""Promised against realised false alarms of a healthy machine whose windows are correlated.

Each trial draws healthy recordings, finds the threshold as a device would for "at most one false
alarm in N days", then lets the machine run for many days and counts its alarms by the rule of the
decider. Scores: a Gaussian process of overlapping windows (moving average) plus a slow part
(exponential), turned into the marginal law under test.

    python benchmarks/false_alarms.py
"""

from __future__ import annotations

import argparse
import time
from statistics import NormalDist

import numpy as np
from rich.console import Console
from rich.table import Table

from agent.bundle.manifest import Row
from agent.calibrate.rate import Correlation, Counting, measure_correlation, window_rate
from agent.calibrate.rules import find_limit
from agent.config.threshold import ThresholdRule

LAWS = {
    "normal": lambda z: z,
    "skewed": lambda z: np.exp(0.5 * z),  # log-normal: a heavier tail than is fitted
}


def process(rng, streams, steps, hop, window, share, seconds):
    """Yields the value of every stream, step by step."""
    width = max(1, round(window / hop))
    held = rng.standard_normal((streams, width))
    slow = rng.standard_normal(streams)
    keep = np.exp(-hop / seconds)
    total = held.sum(axis=1)
    for step in range(steps):
        place = step % width
        fresh = rng.standard_normal(streams)
        total += fresh - held[:, place]
        held[:, place] = fresh
        slow = keep * slow + np.sqrt(1 - keep**2) * rng.standard_normal(streams)
        yield np.sqrt(share) * slow + np.sqrt(1 - share) * total / np.sqrt(width)


def alarms(values, threshold, counting):
    """Alarms of every stream, by the decider's rule."""
    active = quiet = recent = count = None
    for step, value in enumerate(values):
        loud = value > threshold
        if count is None:
            count = np.zeros(len(loud), int)
            active, quiet = np.zeros(len(loud), bool), np.zeros(len(loud), int)
            recent = np.zeros((len(loud), counting.of_windows), bool)
        recent[:, step % counting.of_windows] = loud & ~active
        raised = ~active & (recent.sum(axis=1) >= counting.raise_windows)
        count += raised
        quiet = np.where(active & ~loud, quiet + 1, 0)
        cleared = active & (quiet >= counting.clear_windows)
        active = (active | raised) & ~cleared
        recent[raised | cleared] = False
    return count


def recordings(rng, law, count, length, counting, share, seconds):
    """Scores of healthy recordings at the training hop of half a window."""
    hop = counting.window_seconds / 2
    steps = max(1, int((length - counting.window_seconds) / hop) + 1)
    values = np.stack(
        list(process(rng, count, steps, hop, counting.window_seconds, share, seconds))
    )
    rows = [
        Row(source=f"r{i}", start=step * hop, group=f"r{i}")
        for step in range(steps)
        for i in range(count)
    ]
    return LAWS[law](values.reshape(-1)).astype(np.float32), rows


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trials", type=int, default=12)
    parser.add_argument("--days", type=float, default=1.0, help="length of each machine's run")
    parser.add_argument("--machines", type=int, default=64, help="runs of each trial")
    parser.add_argument("--only", type=int, help="number of the one case to run, from 0")
    arguments = parser.parse_args()
    table = Table(title="false alarms: at most one in N days")
    for name in ("law", "hop", "recordings", "slow share", "measured", "N days", "p", "promised",
                 "realised", "realised if the tail were known"):  # fmt: skip
        table.add_column(name, justify="right")
    cases = [
        ("normal", 1.0, 100, 60.0, 0.0, 1.0), ("normal", 1.0, 100, 60.0, 0.5, 1.0),
        ("normal", 1.0, 100, 10.0, 0.5, 1.0), ("normal", 5.0, 100, 60.0, 0.3, 1.0),
        ("skewed", 1.0, 100, 60.0, 0.3, 1.0), ("normal", 1.0, 20, 60.0, 0.3, 1.0),
        ("normal", 1.0, 100, 60.0, 0.3, 30.0),
    ]  # fmt: skip
    if arguments.only is not None:
        cases = [cases[arguments.only]]
    began = time.perf_counter()
    for law, hop, count, length, share, days in cases:
        counting = Counting(hop, 10.0, 3, 5, 10)
        found, rates, measured, ideal = [], [], [], []
        for trial in range(arguments.trials):
            rng = np.random.default_rng(trial)
            scores, rows = recordings(rng, law, count, length, counting, share, 60.0)
            correlation = measure_correlation(scores, rows, 10.0)
            measured.append(np.nan if correlation.share is None else correlation.share)
            rate = window_rate(1.0 / (days * 86_400), counting, correlation)
            rates.append(rate)
            limit = find_limit(
                scores.astype(float), [row.group for row in rows], [""] * len(rows),
                ThresholdRule(false_alarm_rate=rate, sure=True),
            ).value  # fmt: skip
            steps = int(arguments.days * 86_400 / hop)
            stream = (LAWS[law](z) for z in process(
                rng, arguments.machines, steps, hop, 10.0, share, 60.0))  # fmt: skip
            found.append(alarms(stream, limit, counting).sum())
            if trial < 2:
                known = window_rate(1.0 / (days * 86_400), counting, Correlation(share, 60.0))
                z = -NormalDist().inv_cdf(known)
                stream = process(rng, arguments.machines, steps, hop, 10.0, share, 60.0)
                ideal.append(alarms(stream, z, counting).sum())
        machine_days = arguments.days * arguments.machines
        table.add_row(
            law, f"{hop:g} s", f"{count} x {length:g} s", f"{share:g}",
            f"{np.nanmean(measured):.2f}" if np.isfinite(measured).any() else "-",
            f"{days:g}", f"{np.median(rates):.1e}", f"{1 / days:.3f} a day",
            f"median {np.median(found) / machine_days:.3f}, worst {max(found) / machine_days:.2f}",
            f"{np.mean(ideal) / machine_days:.3f}",
        )  # fmt: skip
    console = Console(width=160)
    console.print(table)
    console.print(f"{time.perf_counter() - began:.0f} s")


if __name__ == "__main__":
    main()
