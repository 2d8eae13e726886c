"""False alarms of a healthy machine at a hop of 1 s, of 5 s, and one that follows it, by the model.

    .venv/bin/python benchmarks/pace_promise.py [--streams 3000] [--hours 1]

Thresholds are found for a promise of false alarms at a hop of 1 s, from scores that are taken for a
Gaussian process (`agent.calibrate.rate`). Here such scores are drawn, and all three hops see the
same ones: many machines at once, second by second. Evidence is 45 of the latest 60 seconds, as by
default. `auto` is close after the beginning, while an alarm stands, from a concern on (a share of
the way to the threshold), where the next calm window would exceed, and, with --calls, on triggers
that come by themselves, whose windows speak for their own second alone.
"""

from __future__ import annotations

import argparse
from statistics import NormalDist

import numpy as np
import numpy.typing as npt
from rich.console import Console
from rich.table import Table

_RAISE, _WITHIN, _CLEAR, _WINDOW, _CALM = 45, 60, 30, 10, 5
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


def draw(
    share: float,
    seconds: float,
    rate: float,
    concern: float,
    calls: float,
    count: int,
    hours: float,
) -> dict[str, tuple[float, int, float]]:
    """Alarms a day, how many there were, and the share of windows judged, of each hop.

    Args:
        share: Correlation of windows of one recording that do not overlap.
        seconds: How long it lasts.
        rate: Share of windows above the threshold.
        concern: From this part of the way from the median to the threshold on nothing is calm.
        calls: Triggers a second.
        count: Machines.
        hours: Of each.
    """
    rng = np.random.default_rng(0)
    threshold = -NormalDist().inv_cdf(rate)
    slow, recent = rng.standard_normal(count), rng.standard_normal((_WINDOW, count))
    keep, total, length = np.exp(-1.0 / seconds), recent.sum(0), int(3600 * hours)
    each, fifth, auto = (_Evidence(count) for _ in range(3))
    always, one, calm = np.ones(count, bool), np.ones(count), np.full(count, float(_CALM))
    since = rng.integers(0, _CALM, count).astype(float)
    close, called, height, said = np.zeros(count), np.zeros(count), np.zeros(count), ~always
    for at in range(length):
        slow = keep * slow + np.sqrt(1 - keep**2) * rng.standard_normal(count)
        fresh = rng.standard_normal(count)
        total += fresh - recent[at % _WINDOW]
        recent[at % _WINDOW] = fresh
        score = np.sqrt(share) * slow + np.sqrt((1 - share) / _WINDOW) * total
        loud = score > threshold
        each.see(at, loud, loud, always, one)
        fifth.see(at, loud, loud, (at + np.arange(count)) % _CALM == 0, calm)
        called = np.where(rng.random(count) < calls, at + _WINDOW, called)
        since += 1
        due = (since >= _CALM) | (at <= close)
        early = ~due & (at <= called)
        judged = due | early
        auto.see(at, loud, np.where(early, said, loud), judged, since)
        worried = (score > concern * threshold) | (2 * score - height > threshold) | auto.active
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
    options = parser.parse_args()
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
                        found = draw(
                            share, seconds, rate, concern, calls, options.streams, options.hours
                        )
                        base = max(found["1 s"][1], 1)
                        table.add_row(
                            f"{share:g}", f"{seconds:g} s", f"{rate:g}", f"{concern:g}",
                            f"{calls:g}", *(f"{one[0]:.3g} ({one[1]})" for one in found.values()),
                            f"{found['5 s'][1] / base:.2f}", f"{found['auto'][1] / base:.2f}",
                            f"{found['auto'][2]:.2f}",
                        )  # fmt: skip
    Console(width=130).print(table)


if __name__ == "__main__":
    main()
