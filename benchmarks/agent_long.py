"""The agent for long: memory and handles by regression, and each window's delay.

    .venv/bin/python benchmarks/agent_long.py --bundle BUNDLE ... --sound FILE ...
        [--machines 16] [--minutes 30] [--hop 1]          # paced in real time
    .venv/bin/python benchmarks/agent_long.py --bundle BUNDLE --sound FILE ...
        --hours 24 [--hop auto]                           # one machine's sound as fast as it goes

The agent is a process of its own, its scores go to a broker here. Memory (resident, and its own)
and open handles are read every few seconds; told is their slope over the second half, where all
that is kept is full, by least squares with an interval of 95 % (bootstrap of blocks, as neighbours
are alike); of sound as fast as it goes by its hours, told by processor time, since the pace is the
computer's. Several bundles and sounds go to the machines in turns. `delay` is the time from a
window's end to its score at the broker.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import yaml
from agent_cost import Setting
from rich.console import Console

from export.demo.broker import EmbeddedBroker

_EVERY, _BLOCKS, _DRAWS = 5.0, 12, 1000


def slope(hours: np.ndarray, values: np.ndarray) -> tuple[float, float, float]:
    """Slope an hour, and its 95 % interval by a bootstrap of blocks of residuals."""
    rng, count = np.random.default_rng(0), len(values)
    fit = np.polyfit(hours, values, 1)
    line = np.polyval(fit, hours)
    rest, size = values - line, max(1, count // _BLOCKS)
    drawn = []
    for _ in range(_DRAWS):
        starts = rng.integers(0, count - size + 1, count // size + 1)
        noise = np.concatenate([rest[start : start + size] for start in starts])[:count]
        drawn.append(np.polyfit(hours, line + noise, 1)[0])
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(fit[0]), float(low), float(high)


def watch(setting: Setting, machines: int, hop: str, minutes: float, hours: float) -> dict:
    """Run it, and what was seen."""
    config = setting.folder / "auscult.yaml"
    command = setting.command("auscult", machines, hop)
    if hours:
        given = yaml.safe_load(config.read_text())
        seconds = sum(length_of(sound) for sound in setting.sounds)
        given["machines"][0]["source"] = {
            "kind": "replay", "speed": "max",
            "paths": [str(s) for s in setting.sounds] * round(3600 * hours / seconds),
        }  # fmt: skip
        config.write_text(yaml.safe_dump(given))
    setting.command = lambda *_: command  # type: ignore[method-assign]
    rows: list[tuple[float, ...]] = []
    with setting.running("auscult", machines, hop) as (process, start):
        setting.scores.delays.clear()
        began, spent = time.monotonic(), sum(process.cpu_times()[:2])
        while hours or time.monotonic() - began < 60 * minutes:
            time.sleep(_EVERY)
            try:
                memory = process.memory_full_info()
                rows.append((
                    time.monotonic() - began, memory.rss / 1e6, memory.uss / 1e6,
                    process.num_fds(), process.num_threads(), sum(process.cpu_times()[:2]) - spent,
                ))  # fmt: skip
            except psutil.NoSuchProcess:
                break
            if process.status() == psutil.STATUS_ZOMBIE:  # it has ended, and its memory is gone
                rows.pop()
                break
    return {
        "machines": machines, "hop": hop, "start_s": start, "rows": rows,
        "delays_ms": [round(1e3 * one, 1) for one in setting.scores.delays],
        "scores": sum(setting.scores.scores().values()), "hours": hours,
    }  # fmt: skip


def length_of(path: Path) -> float:
    """Length of a recording, seconds."""
    import soundfile

    return float(soundfile.info(path).duration)


def show(found: dict, console: Console) -> None:
    """What came of it, in words."""
    rows = np.array(found["rows"])
    hours = rows[:, 0] / 3600
    if found["hours"]:
        # The last row may be of the end; as many rows for each hour of sound.
        rows = rows[:-1]
        spent = found["hours"] * rows[:, 5] / rows[-1, 5]
        hours = np.linspace(spent[0], spent[-1], len(rows))
        columns = [np.interp(hours, spent, column) for column in rows.T]
        rows = np.stack(columns, axis=1)
    half = len(rows) // 2
    late, hours = rows[half:], hours[half:]
    lasted = rows[-1, 0]
    console.print(
        f"{found['machines']} machines, hop {found['hop']}: {lasted / 60:.1f} minutes, "
        f"{found['scores']} scores, {100 * rows[-1, 5] / lasted:.1f} % of a core"
    )
    for name, column, unit in (("resident", 1, "MB"), ("own", 2, "MB"), ("handles", 3, "")):
        a, low, high = slope(hours, late[:, column])
        console.print(
            f"{name}: {late[0, column]:.1f} to {late[-1, column]:.1f} {unit}, at most "
            f"{rows[:, column].max():.1f}; slope {a:+.2f} an hour ({low:+.2f} to {high:+.2f})"
        )
    if found["delays_ms"] and not found["hours"]:
        delays = np.array(found["delays_ms"])
        console.print(
            f"delay: median {np.median(delays):.0f} ms, 99 % {np.quantile(delays, 0.99):.0f} ms, "
            f"at most {delays.max():.0f} ms, of {len(delays)} windows"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, nargs="+", required=True, help="in turns")
    parser.add_argument("--sound", type=Path, nargs="+", required=True)
    parser.add_argument("--machines", type=int, default=16)
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--hours", type=float, default=0.0, help="of one machine's sound, unpaced")
    parser.add_argument("--hop", default="1")
    parser.add_argument("--json", type=Path)
    chosen = parser.parse_args()
    broker = EmbeddedBroker()
    broker.start()
    try:
        with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
            bundle, *others = (one.absolute() for one in chosen.bundle)
            setting = Setting(Path(place), bundle, broker, chosen.sound, others)
            machines = 1 if chosen.hours else chosen.machines
            found = watch(setting, machines, chosen.hop, chosen.minutes, chosen.hours)
    finally:
        broker.stop()
    if chosen.json:
        chosen.json.write_text(json.dumps(found) + "\n", encoding="utf-8")
    show(found, Console(width=110))


if __name__ == "__main__":
    main()
