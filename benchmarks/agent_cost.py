"""The whole agent against the same job written the plain way, each a process of its own.

    .venv/bin/python benchmarks/agent_cost.py [--bundle BUNDLE ... --sound FILE ...]
        [--machines 1 4 16] [--hop 1 auto] [--seconds 30]

Both play noise or --sound at real time (a sound file for each machine), judge a window of 10 s
every second (`--hop`: or as it says; with `auto` the first half minute, which is heard closely, is
waited for), and publish each score to a broker on this computer. The plain way (`plain_agent.py`):
PyTorch in float32 on one thread, scikit-learn's NearestNeighbors over as large a bank, paho; one
encoder, and a thread for each machine. It does nothing of what the agent does besides (alarms on
disk, evidence, validity, watchdog).

Seen from outside the process: `start` is the time from its start to the first score, less the first
window's length; `idle` is processor time while sound is captured and no window is due; `a window`
and `of a core` are of the time after the first window of all machines; `memory` is the resident
set, of which `own` is what no other process shares; `delay` is the time from a window's end to its
score at the broker, median and 99 %.

A bundle of a real machine takes noise for an alarm, so name healthy sound of it too, at the
encoder's rate. Several bundles and sounds go to the machines in turn. Without --bundle the encoder
is mn04 with random weights in INT8, whose costs are the real one's.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import psutil
import soundfile
import yaml
from rich.console import Console
from rich.table import Table

from agent.bundle.manifest import BANK
from agent.bundle.verify import read_manifest
from export.demo.broker import EmbeddedBroker

WAYS = ("auscult", "plain")
_HERE = Path(__file__).parent
_BEYOND = 300.0  # seconds that the first scores may take beside the sound itself
_NEVER = "3600"  # hop of a machine that is only listened to, seconds
_SOUND_SECONDS = 20


@dataclass(frozen=True, slots=True)
class Measured:
    """One way with so many machines."""

    way: str
    machines: int
    start_s: float
    idle_percent: float | None
    window_cpu_ms: float
    core_percent: float
    memory_mb: float
    own_mb: float
    hop: str = "1"
    windows_a_second: float = 0.0
    delay_ms: float | None = None
    delay_p99_ms: float | None = None


class Scores:
    """Counts the scores that come to the broker."""

    def __init__(self, broker: EmbeddedBroker) -> None:
        self.count: Counter[str] = Counter()
        self.delays: list[float] = []  # of the agent's scores, seconds
        self._client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv311)
        self._client.on_message = self._came
        self._client.connect(broker.host, broker.port)
        self._client.subscribe("bench/#")
        self._client.loop_start()

    def _came(self, _client: Any, _data: Any, message: mqtt.MQTTMessage) -> None:
        now = time.time()
        self.count.update([message.topic])
        if message.topic.endswith("/score"):
            ended = json.loads(message.payload).get("time")
            if ended:
                self.delays.append(now - datetime.fromisoformat(ended).timestamp())

    def scores(self) -> dict[str, int]:
        """How many came, by topic."""
        return {topic: n for topic, n in self.count.copy().items() if topic.endswith("/score")}

    def clear(self) -> None:
        """Begin anew."""
        self.count.clear()
        self.delays.clear()


class Setting:
    """What all measurements share: bundle, sounds, broker."""

    def __init__(
        self, folder: Path, bundle: Path, broker: EmbeddedBroker, sounds: list[Path],
        others: Sequence[Path] = (),
    ) -> None:  # fmt: skip
        self.folder, self.bundle, self.broker = folder, bundle, broker
        self.bundles = [bundle, *others]
        self.scores = Scores(broker)
        self.manifest = read_manifest(bundle)
        encoder = self.manifest.encoder
        random = np.random.default_rng(0)
        self.sounds = [sound.absolute() for sound in sounds]
        for number in range(0 if sounds else 4):
            path = folder / f"{number}.wav"
            sound = random.normal(0, 0.03, _SOUND_SECONDS * encoder.sample_rate)
            soundfile.write(path, sound.astype(np.float32), encoder.sample_rate, subtype="PCM_16")
            self.sounds.append(path)

    def command(self, way: str, machines: int, hop: str) -> list[str]:
        """The process to start."""
        names = {f"m{i}": str(self.sounds[i % len(self.sounds)]) for i in range(machines)}
        place = self.folder / f"{way}.yaml"
        if way == "plain":
            rows = len(np.load(self.bundle / BANK, mmap_mode="r"))
            bank = self.folder / "plain.npy"
            # The embedding of mn04's features as small_bundle.py has them.
            np.save(bank, np.random.default_rng(0).normal(size=(rows, 384)).astype(np.float32))
            config = {
                "host": self.broker.host, "port": self.broker.port, "prefix": "bench/plain",
                "hop_seconds": float(hop), "window_seconds": self.manifest.window_seconds,
                "features": "block12_balanced", "bank": str(bank), "machines": names,
            }  # fmt: skip
            place.write_text(json.dumps(config), encoding="utf-8")
            return [sys.executable, str(_HERE / "plain_agent.py"), str(place)]
        config = {
            "device": "auscult",
            "state_dir": str(self.folder / "state"),
            "mqtt": {"host": self.broker.host, "port": self.broker.port, "prefix": "bench",
                     "version": "3.1.1"},
            # The windows of a bundle's trial go through the whole graph; no steady cost.
            "bundles": {"trial_windows": 1},
            "machines": [
                {"name": name, "bundle": str(self.bundles[number % len(self.bundles)]),
                 "hop": hop if hop == "auto" else float(hop),
                 "source": {"kind": "replay", "paths": [file], "loop": True}}
                for number, (name, file) in enumerate(names.items())
            ],
        }  # fmt: skip
        place.write_text(yaml.safe_dump(config), encoding="utf-8")
        return [sys.executable, "-m", "agent.cli", "run", "--config", str(place)]

    @contextlib.contextmanager
    def running(self, way: str, machines: int, hop: str) -> Iterator[tuple[psutil.Process, float]]:
        """The process once each machine has its first score, and what the start took, seconds."""
        self.scores.clear()
        env = {**os.environ, "PYTHONPATH": str(_HERE.parent)}
        log = (self.folder / f"{way}.log").open("wb")
        began = time.monotonic()
        process = subprocess.Popen(
            self.command(way, machines, hop), stdout=log, stderr=subprocess.STDOUT, env=env
        )
        try:
            took = self._await(process, machines, began, log.name)
            yield psutil.Process(process.pid), took - self.manifest.window_seconds
        finally:
            process.kill()
            process.wait()
            log.close()

    def _await(
        self, process: subprocess.Popen[bytes], machines: int, began: float, log: str
    ) -> float:
        first = 0.0
        while len(self.scores.scores()) < machines:
            if self.scores.scores() and not first:
                first = time.monotonic() - began
            if process.poll() is not None or time.monotonic() - began > _BEYOND:
                raise SystemExit(f"no scores came:\n{Path(log).read_text(encoding='utf-8')}")
            time.sleep(0.01)
        return first or time.monotonic() - began


def spent(process: psutil.Process) -> float:
    """Processor time so far, seconds."""
    times = process.cpu_times()
    return times.user + times.system


def measure(
    setting: Setting, way: str, machines: int, seconds: float, *, idle: bool, hop: str = "1"
) -> Measured:
    """One way with so many machines; `idle` takes a run more."""
    idle_percent = None
    if idle:
        with setting.running(way, machines, _NEVER) as (process, _):
            time.sleep(1.0)
            before = spent(process)
            time.sleep(seconds)
            idle_percent = 100 * (spent(process) - before) / seconds
    with setting.running(way, machines, hop) as (process, start):
        time.sleep(30.0 if hop == "auto" else 1.0)
        setting.scores.delays.clear()
        before, counted, began = spent(process), sum(setting.scores.scores().values()), time.time()
        time.sleep(seconds)
        cpu, wall = spent(process) - before, time.time() - began
        windows = sum(setting.scores.scores().values()) - counted
        memory = process.memory_full_info()
        delays = 1e3 * np.array(setting.scores.delays)
    return Measured(
        way, machines, start, idle_percent, 1e3 * cpu / max(1, windows), 100 * cpu / wall,
        memory.rss / 1e6, memory.uss / 1e6, hop, windows / wall,
        *((float(np.median(delays)), float(np.quantile(delays, 0.99))) if len(delays) else ()),
    )  # fmt: skip


def show(found: list[Measured]) -> Table:
    """The table; ratios are plain to auscult."""
    table = Table(title="Windows of 10 s", title_justify="left")
    headings = (
        "machines",
        "way",
        "hop",
        "start",
        "idle",
        "CPU a window",
        "of a core",
        "memory",
        "own",
    )
    for heading in (*headings, "delay", "99 %", "core ratio", "memory ratio"):
        table.add_column(heading, justify="left" if heading == "way" else "right")
    for one in found:
        idle = "" if one.idle_percent is None else f"{one.idle_percent:.2f} %"
        ours = next((o for o in found if o.machines == one.machines and o.way == "auscult"), None)
        table.add_row(
            str(one.machines), one.way, one.hop, f"{one.start_s:.2f} s", idle,
            f"{one.window_cpu_ms:.1f} ms", f"{one.core_percent:.2f} %", f"{one.memory_mb:.0f} MB",
            f"{one.own_mb:.0f} MB",
            "" if one.delay_ms is None else f"{one.delay_ms:.0f} ms",
            "" if one.delay_p99_ms is None else f"{one.delay_p99_ms:.0f} ms",
            "" if ours is None else f"{one.core_percent / ours.core_percent:.2f}",
            "" if ours is None else f"{one.memory_mb / ours.memory_mb:.2f}",
        )  # fmt: skip
    return table


def run(
    machines: list[int], seconds: float, bundles: Sequence[Path], ways: tuple[str, ...] = WAYS,
    done: Callable[[list[Measured]], None] = lambda _: None, sounds: list[Path] | None = None,
    hops: tuple[str, ...] = ("1",),
) -> list[Measured]:  # fmt: skip
    """Measure every way with so many machines."""
    found: list[Measured] = []
    broker = EmbeddedBroker()
    broker.start()
    try:
        with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
            if not bundles:
                bundle = Path(place) / "bundle"
                # In a process of its own: this one stays small.
                code = (
                    "import sys; from pathlib import Path; from small_bundle import make_bundle;"
                    "make_bundle(Path(sys.argv[1]))"
                )
                env = {**os.environ, "PYTHONPATH": f"{_HERE}:{_HERE.parent}"}
                subprocess.run([sys.executable, "-c", code, str(bundle)], check=True, env=env)
                bundles = (bundle,)
            first, *others = (one.absolute() for one in bundles)
            setting = Setting(Path(place), first, broker, sounds or [], others)
            for count in machines:
                for way in ways:
                    for number, hop in enumerate(hops if way == "auscult" else hops[:1]):
                        idle = count == 1 and not number
                        found.append(measure(setting, way, count, seconds, idle=idle, hop=hop))
                        done(found)
    finally:
        broker.stop()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, nargs="+", default=[], help="judge with these")
    parser.add_argument("--sound", type=Path, nargs="+", help="play these, not noise")
    parser.add_argument("--machines", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--hop", nargs="+", default=["1"], help="seconds, or `auto`")
    parser.add_argument("--seconds", type=float, default=30.0, help="measured for so long each")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--json", type=Path, help="also write the figures here")
    chosen = parser.parse_args()

    def done(found: list[Measured]) -> None:
        if chosen.json:
            text = json.dumps([asdict(one) for one in found], indent=1)
            chosen.json.write_text(text + "\n", encoding="utf-8")

    found = run(
        chosen.machines,
        chosen.seconds,
        chosen.bundle,
        tuple(chosen.ways),
        done,
        chosen.sound,
        tuple(chosen.hop),
    )
    Console(width=150).print(show(found))


if __name__ == "__main__":
    main()
