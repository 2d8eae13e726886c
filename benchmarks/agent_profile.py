"""Where the agent's processor time goes: by stage of a window's way, and by thread.

    .venv/bin/python benchmarks/agent_profile.py --bundle BUNDLE ... --sound FILE ...
        [--machines 1 4 16] [--hop 1|auto] [--seconds 60] [--unpaced 300]

The agent runs in this process, its sound at real time, its publishers a file of JSON lines. With
`--unpaced` so many seconds of sound come to each machine as fast as it goes: of use beside other
work, where windows of sound at real time would be dropped; what waiting costs is not in it. Each
stage is a function that counts the processor time of its own thread (`thread_time`), less that of
stages within it; what no stage has is the difference to the process's own time: loops, locks, the
interpreter. Sound is named in the encoder's own rate, so that no resampling is measured. Several
bundles and sounds go to the machines in turns.
"""

from __future__ import annotations

import argparse
import functools
import json
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import soundfile
import yaml
from rich.console import Console
from rich.table import Table

from agent.activity.cutter import RunningWindows
from agent.capture.replay import Replay
from agent.chain.watch import ChainWatch
from agent.config.agent import load_config
from agent.decide.service import AlarmService
from agent.drift.follower import DriftFollower
from agent.encode.frames import SharedFrames
from agent.encode.onnx import OnnxEncoder
from agent.level.machine import MachineLevel
from agent.machine.days import SoundDays
from agent.machine.observers import PipelineObservers
from agent.machine.scoring import WindowScorer
from agent.pace.pace import HopPace
from agent.pipeline.pipeline import Pipeline
from agent.publish.broadcaster import Broadcaster
from agent.score.fusion import FusionScorer
from agent.score.knn import KnnScorer
from agent.service import Agent
from agent.window.rolling import RollingWindow

# With `hop: auto` the beginning is heard closely.
_CLOSE_SECONDS = 30.0
# Stages from the outside in: (owner, method, what it is called).
STAGES: tuple[tuple[type, str, str], ...] = (
    (Replay, "_block", "capture: read a block"),
    (PipelineObservers, "hear", "sound kept for evidence"),
    (RunningWindows, "_follow_frames", "running or still, by half seconds"),
    (RollingWindow, "push", "cut: blocks joined"),
    (RollingWindow, "_window", "cut: a window, and may it be judged"),
    (WindowScorer, "judge", "judge: all else"),
    (SharedFrames, "encode", "encode: all else"),
    (HopPace, "hear", "pace: levels"),
    (OnnxEncoder, "frames", "encode: new frames"),
    (OnnxEncoder, "embed_frames", "encode: body"),
    (OnnxEncoder, "encode", "encode: whole graph"),
    (FusionScorer, "score", "score: fused"),
    (KnnScorer, "score", "score: nearest rows"),
    (AlarmService, "decide", "decide"),
    (Broadcaster, "tell", "tell"),
    (DriftFollower, "take", "drift"),
    (ChainWatch, "take", "microphone's chain"),
    (SoundDays, "take", "spectrum of days"),
    (MachineLevel, "hear", "level"),
    (PipelineObservers, "judged", "evidence of a window"),
    (Pipeline, "_take", "a window: all else"),
)


class Meter:
    """Processor time by stage, each without those within it."""

    def __init__(self) -> None:
        self.spent: Counter[str] = Counter()
        self.calls: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._within = threading.local()

    def attach(self) -> None:
        """Wrap every stage."""
        for owner, method, name in STAGES:
            setattr(owner, method, self._timed(getattr(owner, method), name))

    def _timed(self, function: Callable[..., Any], name: str) -> Callable[..., Any]:
        @functools.wraps(function)
        def timed(*args: Any, **named: Any) -> Any:
            outer, self._within.inner = getattr(self._within, "inner", 0.0), 0.0
            began = time.thread_time()
            try:
                return function(*args, **named)
            finally:
                took = time.thread_time() - began
                with self._lock:
                    self.spent[name] += took - self._within.inner
                    self.calls[name] += 1
                self._within.inner = outer + took

        return timed

    def clear(self) -> None:
        """Begin anew."""
        with self._lock:
            self.spent.clear()
            self.calls.clear()


def profile(
    meter: Meter,
    bundles: list[Path],
    sounds: list[Path],
    machines: int,
    hop: str,
    seconds: float,
    unpaced: float = 0.0,
) -> dict[str, Any]:
    """Costs of so many machines in the steady state."""
    with tempfile.TemporaryDirectory(prefix="auscult-bench-") as place:
        file = Path(place) / "agent.yaml"
        listed = [
            {"name": f"m{i}", "bundle": str(bundles[i % len(bundles)].absolute()),
             "hop": None if hop == "own" else hop if hop == "auto" else float(hop),
             "source": _source(sounds, i, unpaced)}
            for i in range(machines)
        ]  # fmt: skip
        file.write_text(yaml.safe_dump({
            "device": "bench", "state_dir": f"{place}/state", "jsonl": f"{place}/told.jsonl",
            "bundles": {"trial_windows": 1}, "machines": listed,
        }))  # fmt: skip
        agent = Agent(load_config(file))
        agent.prepare()
        agent.start()
        try:
            while min(pipe.counters.windows for pipe in agent.pipelines) < 3:
                time.sleep(0.01)
            time.sleep(_CLOSE_SECONDS if hop == "auto" and not unpaced else 0.0)
            process = psutil.Process()
            meter.clear()
            before, threads = sum(process.cpu_times()[:2]), _threads(process)
            counted = sum(pipe.counters.windows for pipe in agent.pipelines)
            began, heard = time.monotonic(), _heard(agent)
            if unpaced:
                while not all(pipe.ended for pipe in agent.pipelines):
                    time.sleep(0.05)
                lasted = (_heard(agent) - heard) / machines
            else:
                time.sleep(seconds)
                lasted = time.monotonic() - began
            spent = sum(process.cpu_times()[:2]) - before
            windows = sum(pipe.counters.windows for pipe in agent.pipelines) - counted
            found = {
                "machines": machines, "hop": hop, "windows": windows, "seconds": lasted,
                "core_percent": 100 * spent / lasted, "window_ms": 1e3 * spent / max(1, windows),
                "memory_mb": process.memory_info().rss / 1e6,
                "stages": dict(meter.spent), "calls": dict(meter.calls),
                "threads": {
                    name: value - threads.get(name, 0.0)
                    for name, value in _threads(process).items()
                },
            }  # fmt: skip
        finally:
            agent.stop()
    found["stages"]["no stage (loops, locks, other threads)"] = spent - sum(
        found["stages"].values()
    )
    return found


def _source(sounds: list[Path], number: int, unpaced: float) -> dict[str, Any]:
    """A machine's sound: a file over and over, or all files in turns from another one on."""
    first = number % len(sounds)
    if not unpaced:
        return {"kind": "replay", "paths": [str(sounds[first].absolute())], "loop": True}
    turned = [str(one.absolute()) for one in (*sounds[first:], *sounds[:first])]
    each = sum(soundfile.info(one).duration for one in turned) / len(turned)
    count = max(1, round(unpaced / each))
    paths = (turned * (count // len(turned) + 1))[:count]
    return {"kind": "replay", "speed": "max", "paths": paths}


def _heard(agent: Agent) -> float:
    """Seconds of sound that all machines' windows have reached."""
    return sum(pipe.counters.stream_seconds for pipe in agent.pipelines)


def _threads(process: psutil.Process) -> Counter[str]:
    """Processor time by kind of thread."""
    names = {thread.native_id: thread.name for thread in threading.enumerate()}
    found: Counter[str] = Counter()
    for one in process.threads():
        name = names.get(one.id, "native")
        kind = name.rpartition("-")[2] if name.startswith("m") and "-" in name else name
        found[kind] += one.user_time + one.system_time
    return found


def show(found: dict[str, Any], console: Console) -> None:
    """The costs, the largest first."""
    windows = max(1, found["windows"])
    table = Table(
        title=f"{found['machines']} machines, hop {found['hop']}: {found['window_ms']:.1f} ms a "
        f"window, {found['core_percent']:.2f} % of a core, {found['memory_mb']:.0f} MB",
        title_justify="left",
    )
    for heading in ("stage", "ms a window", "share", "calls a window"):
        table.add_column(heading, justify="left" if heading == "stage" else "right")
    total = found["window_ms"]
    for name, spent in Counter(found["stages"]).most_common():
        each = 1e3 * spent / windows
        calls = found["calls"].get(name, 0) / windows
        table.add_row(name, f"{each:.2f}", f"{each / total:.0%}", f"{calls:.1f}" if calls else "")
    console.print(table)
    threads = Counter(found["threads"]).most_common(8)
    console.print(
        "by thread, ms a window: "
        + ", ".join(f"{name} {1e3 * spent / windows:.2f}" for name, spent in threads)
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--bundle", type=Path, nargs="+", required=True, help="in turns")
    parser.add_argument("--sound", type=Path, nargs="+", required=True, help="at its rate")
    parser.add_argument("--machines", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--hop", default="1", help="seconds, `auto`, or `own`: the bundle's")
    parser.add_argument("--seconds", type=float, default=60.0, help="measured for so long each")
    parser.add_argument(
        "--unpaced", type=float, default=0.0, help="seconds of sound, as fast as it goes"
    )
    parser.add_argument("--json", type=Path, help="also write the figures here")
    chosen = parser.parse_args()
    meter, console, found = Meter(), Console(width=110), []
    meter.attach()
    for machines in chosen.machines:
        found.append(
            profile(
                meter,
                chosen.bundle,
                chosen.sound,
                machines,
                chosen.hop,
                chosen.seconds,
                chosen.unpaced,
            )
        )
        show(found[-1], console)
        if chosen.json:
            chosen.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
