"""False alarms of a healthy machine at a hop of 1 s, of 5 s, and one that follows it, by the model.

    .venv/bin/python benchmarks/pace_promise.py [--streams 3000] [--hours 1]
    .venv/bin/python benchmarks/pace_promise.py --kept FOLDER [--fractions 0.7 0.5 0.3 0.2]

Thresholds are found for a promise of false alarms at a hop of 1 s, from scores that are taken for a
Gaussian process (`agent.calibrate.rate`). Here such scores are drawn, and all three hops see the
same ones: many machines at once, second by second. Evidence is 45 of the latest 60 seconds, as by
default. `auto` is close after the beginning, while an alarm stands, from a concern on (a share of
the way to the threshold), where the next calm window would exceed, and, with --calls, on triggers
that come by themselves, whose windows speak for their own second alone.

With --kept the scores are those that `service_pace.py` keeps of healthy machines: ten minutes after
ten minutes from anywhere in them, which keeps together what is alike, at thresholds that lie at a
fraction of their height. So hours make days; what was never heard is in none of them.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

_RAISE, _WITHIN, _CLEAR, _WINDOW, _CALM = 45, 60, 30, 10, 5
_BLOCK = 600  # seconds
Bools = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]


class _Evidence:
    """Seconds above the threshold among the latest ones, of many machines; raises and clears."""

    def __init__(self, count: int) -> None:
        self._ring = np.zeros((_WITHIN, count), bool)
        self._held: npt.NDArray[np.int64] = np.zeros(count, np.int64)
        self._quiet = np.zeros(count)
        self.active: Bools = np.zeros(count, bool)
        self.alarms, self.judged = 0, 0

    def see(self, at: int, loud: Bools, before: Bools, judged: Bools, seconds: Floats) -> None:
        """Take the second `at`: windows that were judged speak for so many seconds up to it.

        Args:
            at: Number of the second.
            loud: Of the window that ends there.
            before: What is said of all those seconds but the last.
            judged: Whether there is a window.
            seconds: How many it speaks for.
        """
        slot = at % _WITHIN
        self._held -= self._ring[slot]
        self._ring[slot] = False
        for back in range(int(seconds[judged].max(initial=0))):
            says = (before if back else loud) & judged & (back < seconds) & ~self.active
            cell = (at - back) % _WITHIN
            self._held += says & ~self._ring[cell]
            self._ring[cell] |= says
        raised = judged & ~self.active & (self._held >= _RAISE)
        self._quiet = np.where(
            self.active & judged, np.where(loud, 0.0, self._quiet + seconds), self._quiet
        )
        cleared = self.active & judged & (self._quiet >= _CLEAR)
        self.active = (self.active | raised) & ~cleared
        done = raised | cleared
        self._ring[:, done], self._held[done], self._quiet[done] = False, 0, 0.0
        self.alarms += int(raised.sum())
        self.judged += int(judged.sum())


def law(share: float, seconds: float, rate: float, count: int, length: int) -> Iterator[Floats]:
    """Scores of so many machines, second by second, on a scale whose threshold is 1.

    Args:
        share: Correlation of windows of one recording that do not overlap.
        seconds: How long it lasts.
        rate: Share of windows above the threshold.
        count: Machines.
        length: Seconds.
    """
    rng = np.random.default_rng(1)
    threshold = -NormalDist().inv_cdf(rate)
    slow, recent = rng.standard_normal(count), rng.standard_normal((_WINDOW, count))
    keep, total = np.exp(-1.0 / seconds), recent.sum(0)
    for at in range(length):
        slow = keep * slow + np.sqrt(1 - keep**2) * rng.standard_normal(count)
        fresh = rng.standard_normal(count)
        total += fresh - recent[at % _WINDOW]
        recent[at % _WINDOW] = fresh
        yield (np.sqrt(share) * slow + np.sqrt((1 - share) / _WINDOW) * total) / threshold


def resampled(parts: Sequence[Floats], count: int, length: int) -> Iterator[Floats]:
    """Scores of so many machines, second by second, each block from anywhere in what is kept."""
    rng = np.random.default_rng(1)
    places = np.array([
        (number, first)
        for number, part in enumerate(parts)
        for first in range(len(part) - _BLOCK)
    ])  # fmt: skip
    joined, starts = np.concatenate(parts), np.cumsum([0, *map(len, parts)])
    for at in range(length):
        if at % _BLOCK == 0:
            number, first = places[rng.integers(len(places), size=count)].T
            begins = starts[number] + first
        yield joined[begins + at % _BLOCK]


def draw(
    scores: Iterator[Floats], concern: float, calls: float, count: int, length: int
) -> dict[str, tuple[float, int, float]]:
    """Alarms a day, how many there were, and the share of windows judged, of each hop.

    Args:
        scores: Of the machines, second by second; the median is 0 and the threshold 1.
        concern: From this part of the way from the median to the threshold on nothing is calm.
        calls: Triggers a second.
        count: Machines.
        length: Seconds of each.
    """
    rng = np.random.default_rng(0)
    each, fifth, auto = (_Evidence(count) for _ in range(3))
    always, one, calm = np.ones(count, bool), np.ones(count), np.full(count, float(_CALM))
    since = rng.integers(0, _CALM, count).astype(float)
    close, called, height, said = np.zeros(count), np.zeros(count), np.zeros(count), ~always
    for at, score in enumerate(scores):
        loud = score > 1.0
        each.see(at, loud, loud, always, one)
        fifth.see(at, loud, loud, (at + np.arange(count)) % _CALM == 0, calm)
        called = np.where(rng.random(count) < calls, at + _WINDOW, called)
        since += 1
        due = (since >= _CALM) | (at <= close)
        early = ~due & (at <= called)
        judged = due | early
        auto.see(at, loud, np.where(early, said, loud), judged, since)
        worried = (score > concern) | (2 * score - height > 1.0) | auto.active
        close = np.where(judged & worried, at + _WINDOW, close)
        height, said = np.where(judged, score, height), np.where(judged, loud, said)
        since = np.where(judged, 0.0, since)
    days = count * length / 86_400
    return {
        name: (it.alarms / days, it.alarms, it.judged / (count * length))
        for name, it in (("1 s", each), ("5 s", fifth), ("auto", auto))
    }


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--streams", type=int, default=3000)
    parser.add_argument("--hours", type=float, default=1.0, help="of each stream")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.3, 0.6, 0.9])
    parser.add_argument("--seconds", type=float, nargs="+", default=[60.0, 300.0])
    parser.add_argument("--rates", type=float, nargs="+", default=[0.01, 0.03, 0.06])
    parser.add_argument("--concerns", type=float, nargs="+", default=[0.5, 1.0])
    parser.add_argument("--calls", type=float, nargs="+", default=[0.0], help="triggers a second")
    parser.add_argument("--kept", type=Path, help="folder that `service_pace.py` filled")
    parser.add_argument("--fractions", type=float, nargs="+", default=[0.7, 0.5, 0.3, 0.2])
    options = parser.parse_args()
    length = int(3600 * options.hours)
    if options.kept is not None:
        _kept(options.kept, options.fractions, options.streams, length)
        return
    table = Table(title="False alarms a day", title_justify="left")
    for heading in (
        "share", "lasts", "above", "concern", "calls a second", "1 s", "5 s", "auto",
        "5 s to 1 s", "auto to 1 s", "windows",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for share in options.shares:
        for seconds in options.seconds:
            for rate in options.rates:
                for concern in options.concerns:
                    for calls in options.calls:
                        scores = law(share, seconds, rate, options.streams, length)
                        found = draw(scores, concern, calls, options.streams, length)
                        table.add_row(
                            f"{share:g}", f"{seconds:g} s", f"{rate:g}", f"{concern:g}",
                            f"{calls:g}", *_cells(found),
                        )  # fmt: skip
    Console(width=130).print(table)


def _cells(found: dict[str, tuple[float, int, float]]) -> tuple[str, ...]:
    base = max(found["1 s"][1], 1)
    return (
        *(f"{one[0]:.3g} ({one[1]})" for one in found.values()),
        f"{found['5 s'][1] / base:.2f}", f"{found['auto'][1] / base:.2f}",
        f"{found['auto'][2]:.2f}",
    )  # fmt: skip


def _kept(folder: Path, fractions: Sequence[float], count: int, length: int) -> None:
    """The table of machines whose scores are kept."""
    import pace_streams

    from agent.core.records import MachineState
    from agent.deploy.load import open_bundle

    running = pace_streams.STATES.index(MachineState.RUNNING)
    table = Table(title="False alarms a day", title_justify="left")
    for heading in (
        "machine", "hours kept", "fraction", "1 s", "5 s", "auto", "5 s to 1 s", "auto to 1 s",
        "windows",
    ):  # fmt: skip
        table.add_column(heading, justify="right")
    for place in sorted(one.parent for one in folder.glob("*/streams")):
        bundle = open_bundle(place / "bundle", threads=1)
        found = pace_streams.terms_of(bundle).thresholds
        bundle.close()
        parts = []
        for path in sorted((place / "streams").glob("*.npz")):
            kept = pace_streams.read(path)
            rows = kept.windows
            if kept.kind in {"healthy", "noisy"}:
                rows = rows[np.isfinite(rows[:, 4]) & (rows[:, 5] == running)]
                parts.append((rows[:, 4] - found.scale.median) / (found.alarm - found.scale.median))
        parts = [part for part in parts if len(part) > _BLOCK]
        if not parts:
            continue
        # Calm is what lies below half of the lowest threshold.
        low = 1.0 if found.alert is None else min(1.0, found.scale.of(found.alert))
        for fraction in fractions:
            scores = (one / fraction for one in resampled(parts, count, length))
            told = draw(scores, 0.5 * low, 0.0, count, length)
            table.add_row(
                place.name, f"{sum(map(len, parts)) / 3600:.2f}", f"{fraction:g}", *_cells(told)
            )
    Console(width=150).print(table)


if __name__ == "__main__":
    main()
