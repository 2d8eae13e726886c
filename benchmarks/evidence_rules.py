"""Three rules of evidence on the same scores: M of N seconds, a CUSUM, an e-process.

    .venv/bin/python benchmarks/evidence_rules.py FOLDER [--hop 1]

FOLDER is one that `service_days.py` has filled: per machine a bundle and the scores of its streams
at the service hop. Scores are calibrated by the bundle's healthy scores, each with its recording
left out (counted, and beyond the 90 % quantile by a generalized Pareto tail), to normal scores z.

- M of N: 20 of 30 s above the bundle's threshold, cleared by 30 s below; by default
  75 of 90 s above the alert's threshold too.
- CUSUM: S = max(0, S + (z - k) dt), k = 1; capped, no second adds more than a twentieth of the
  limit, so that no sound of less than 20 s raises.
- e-process: M = max(1, M) * e of windows that do not overlap, e = p^(-1/2) / 2 (Vovk and Wang
  2021); nominally at most one false alarm in 1 / alpha windows, were they independent.

The limits of the other two are found as the threshold of the first is: on a Gaussian process with
the correlation measured on the healthy scores (`agent.calibrate.rate`), for one alarm in 30 days.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import NormalDist

import numpy as np
import service_scores
from false_alarms import process
from rich.console import Console
from rich.table import Table

from agent.calibrate.rate import measure_correlation
from agent.calibrate.tail import fit_tail
from agent.config.decide import AlertConfig, DecideConfig
from agent.core.records import MachineState
from agent.deploy.load import Bundle, open_bundle

TARGET = 1.0 / (30 * 86_400)  # alarms a second
SLACK, LARGEST = 1.0, 8.0  # k of the CUSUM; no z is believed beyond
QUIET = 30.0  # seconds below that clear, for every rule
EVIDENCE = 20.0  # seconds that a capped CUSUM takes at least
SIMULATED_DAYS, STREAMS = 32, 64
_NORMAL = NormalDist()
_RUNNING = list(MachineState).index(MachineState.RUNNING)

Floats = np.ndarray


def calibrate(healthy: Floats) -> Callable[[Floats], Floats]:
    """Turns scores into p-values: counted, and a Pareto tail beyond the 90 % quantile."""
    ordered = np.sort(healthy)
    start = float(np.quantile(ordered, 0.9))
    scale, shape = fit_tail(ordered[ordered > start] - start)

    def p_values(scores: Floats) -> Floats:
        counted = 1.0 - np.searchsorted(ordered, scores, side="right") / (len(ordered) + 1)
        above = np.maximum(scores - start, 0.0) / scale
        inside = np.maximum(1.0 + shape * above, 1e-12)
        tail = 0.1 * (np.exp(-above) if abs(shape) < 1e-6 else inside ** (-1.0 / shape))
        return np.clip(np.where(scores > start, tail, counted), 1e-300, 1.0)

    return p_values


def normal(p: Floats) -> Floats:
    """p-values as normal scores, within +-`LARGEST`."""
    from scipy.stats import norm

    return np.clip(norm.isf(p), -LARGEST, LARGEST)


# --- statistics: each takes one z (of all streams) and gives its value; larger is stranger


def cusum(streams: int, dt: float, cap: float = np.inf) -> Callable[[Floats], Floats]:
    """A CUSUM of z - k; no step adds more than `cap` a second."""
    held = np.zeros(streams)

    def step(z: Floats) -> Floats:
        nonlocal held
        held = np.maximum(0.0, held + np.minimum(z - SLACK, cap) * dt)
        return held

    return step


def e_process(streams: int, dt: float, window: float) -> Callable[[Floats], Floats]:
    """Log of a restarted e-process of windows that do not overlap."""
    from scipy.stats import norm

    held, since = np.zeros(streams), 0.0

    def step(z: Floats) -> Floats:
        nonlocal held, since
        since += dt
        if since >= window - 1e-6:
            since = 0.0
            held = np.maximum(0.0, held) + (-0.5 * norm.logsf(z) - np.log(2.0))
        return held

    return step


def limit_for(
    make: Callable[[int], Callable[[Floats], Floats]], share: float, seconds: float,
    window: float, dt: float,
) -> float:  # fmt: skip
    """The limit that healthy sound crosses once in 30 days, by simulation.

    Upward crossings of levels are counted over some days; that their rate falls exponentially with
    the level carries it on to rarer ones.
    """
    rng = np.random.default_rng(0)
    steps = round(SIMULATED_DAYS * 86_400 / dt / STREAMS)
    step, values = make(STREAMS), np.empty((steps, STREAMS), np.float32)
    for at, z in enumerate(process(rng, STREAMS, steps, dt, window, share, seconds)):
        values[at] = step(z)
    levels = np.quantile(values, 1 - np.geomspace(0.02, 2e-5, 12))
    rates = np.array(
        [np.sum((values[1:] > u) & (values[:-1] <= u)) / (steps * STREAMS * dt) for u in levels]
    )
    known = rates > 5 / (steps * STREAMS * dt)
    slope, start = np.polyfit(levels[known], np.log(rates[known]), 1)
    return float((np.log(TARGET) - start) / slope)


# --- rules on a stream


def crossing(values: Floats, ends: Floats, limit: float) -> list[tuple[float, float]]:
    """Alarms of a statistic: above the limit, until it was below for `QUIET` seconds."""
    found: list[tuple[float, float]] = []
    begun, below = None, 0.0
    for at, (value, end) in enumerate(zip(values, ends, strict=True)):
        dt = end - ends[at - 1] if at else 0.0
        below = 0.0 if value > limit else below + dt
        if begun is None and value > limit:
            begun = float(end)
        elif begun is not None and below >= QUIET:
            found.append((begun, float(end)))
            begun = None
    return found if begun is None else [*found, (begun, float("inf"))]


class Rules:
    """The rules, each with its limit, for one machine."""

    def __init__(self, bundle: Bundle, hop: float) -> None:
        assert bundle.healthy is not None
        self.bundle, self.hop = bundle, hop
        healthy, _ = bundle.healthy.known()
        self.p_values = calibrate(healthy)
        self.window = window = bundle.manifest.window_seconds
        found = measure_correlation(bundle.healthy.scores, bundle.healthy.rows, window)
        share = 0.6 if found.share is None else found.share
        seconds = max(found.seconds, 120.0) if found.share is None else found.seconds
        known = (share, seconds, window, hop)
        # A sum that all but surely falls back; with it, the cap for which 20 s are needed.
        self.plain = limit_for(lambda n: cusum(n, hop), *known)
        cap = self.plain / EVIDENCE
        for _ in range(2):
            capped = limit_for(lambda n, cap=cap: cusum(n, hop, cap), *known)
            cap = max(capped, 1e-6) / EVIDENCE
        self.cap, self.capped = cap, capped
        self.e = limit_for(lambda n: e_process(n, hop, window), *known)

    def alarms(self, stream: service_scores.Scored) -> Iterator[tuple[str, list]]:
        """Each rule's alarms of a stream."""
        once = DecideConfig(alert=AlertConfig(escalate_seconds=None))
        yield "20 of 30 s", service_scores.alarms(self.bundle, stream, once, self.hop)
        both = service_scores.alarms(self.bundle, stream, DecideConfig(), self.hop)
        yield "and 75 of 90 s (default)", both
        rows = stream.rows[(stream.rows[:, 3] == _RUNNING) & np.isfinite(stream.rows[:, 2])]
        value = np.where(np.isfinite(rows[:, 6]), rows[:, 6], rows[:, 2])
        z, ends = normal(self.p_values(value)), rows[:, 0]
        for name, step, limit in (
            ("CUSUM", cusum(1, self.hop), self.plain),
            ("CUSUM, capped", cusum(1, self.hop, self.cap), self.capped),
            ("e-process", e_process(1, self.hop, self.window), self.e),
        ):
            values = np.array([step(one)[0] for one in z[:, None]]) if len(z) else np.zeros(0)
            yield name, crossing(values, ends, limit)


def main() -> None:
    """Judge every stream that is kept, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--hop", type=float, default=1.0)
    options = parser.parse_args()
    hours = 0.0
    false: dict[str, int] = defaultdict(int)
    passed: dict[str, list[bool]] = defaultdict(list)
    changed: dict[str, list[bool]] = defaultdict(list)
    delays: dict[tuple[str, str], list[float]] = defaultdict(list)
    for folder in sorted(options.folder.iterdir()):
        scores = folder / f"scores-{options.hop:g}"
        if not scores.is_dir():
            continue
        bundle = open_bundle(folder / "bundle", threads=1)
        rules = Rules(bundle, options.hop)
        print(f"{folder.name}: limits {rules.plain:.3g}, {rules.capped:.3g}, {rules.e:.3g}")
        for stream in service_scores.read(scores):
            if stream.kind in {"healthy", "cycles"}:
                hours += stream.seconds / 3600
            for rule, found in rules.alarms(stream):
                if stream.kind in {"healthy", "cycles"}:
                    false[rule] += len(found)
                for event in stream.events:
                    rose = [a for a, _ in found if event.start < a <= event.end + 15.0]
                    if stream.kind == "disturbed":
                        passed[rule].append(bool(rose))
                    elif stream.kind == "changed":
                        changed[rule].append(bool(rose))
                    else:
                        late = rose[0] - event.start if rose else np.inf
                        delays[rule, event.strength].append(late)
        bundle.close()
    strengths = sorted({strength for _, strength in delays})
    table = Table(title=f"rules of evidence, {hours:.1f} h of healthy sound")
    for name in (
        "rule",
        "false",
        "passing",
        "gain, microphone",
        *(f"fault {s}" for s in strengths),
    ):
        table.add_column(name)
    for rule, count in false.items():
        cells = []
        for strength in strengths:
            known = np.array(delays[rule, strength])
            raised = known[np.isfinite(known)]
            middle = f", {np.median(raised):.0f} s" if len(raised) else ""
            cells.append(f"{len(raised)} of {len(known)}{middle}")
        table.add_row(
            rule, str(count), f"{sum(passed[rule])} of {len(passed[rule])}",
            f"{sum(changed[rule])} of {len(changed[rule])}", *cells,
        )  # fmt: skip
    Console(width=140).print(table)


if __name__ == "__main__":
    main()
