"""Days of windows as fast as they can be judged: does anything grow?

    python -m faults.soak [--windows 604800] [--seconds 1800]

The real agent, with a real broker, evidence and a file of JSON lines, plays a recording over and
over as fast as it can; an alarm rises and clears in it again and again. From outside, its memory,
open files and threads are read from /proc, the outbox from its folder. Prints the first state after
warm-up and the last; ends with code 1 if anything grew beyond its bound.
"""

from __future__ import annotations

import argparse
import contextlib
import shutil
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile
import yaml
from faults.plant import AUSCULT, MACHINE, FaultFoundError, wait_until
from support.broker import Broker, Subscriber
from support.bundles import FAULTY_HZ, RATE, build_bundle, tone

WEEK = 7 * 24 * 3600  # windows, at a hop of 1 s
# The samples of the tiny bundle, called 800 a second: a window of 1 s has 800 of them.
_RATE = 800
_LENGTH = 300  # of the recording, seconds; an alarm in each
_WARM_UP = 0.3  # share of the windows: until the outbox has forgotten its first events
# Bounds of growth, from the median of the first samples after warm-up to that of the last.
MEMORY_MIB, FILES, THREADS = 8.0, 2, 0
_OUTBOX_ROWS = 1100  # delivered events kept (1000), in steps of 100
_OUTBOX_BYTES = 5_000_000  # by so much may its file swell: the log alone comes and goes with 4 MiB
_MEDIAN = 5


@dataclass(frozen=True)
class State:
    """The agent at one time."""

    windows: int
    memory_mib: float
    files: int
    threads: int
    outbox_bytes: int

    def __str__(self) -> str:
        return (
            f"{self.windows} windows: resident {self.memory_mib:.1f} MiB, "
            f"{self.files} files open, {self.threads} threads, "
            f"outbox {self.outbox_bytes / 1024:.0f} KiB"
        )


def look(pid: int, outbox: Path, windows: int) -> State:
    """Read the state of a process."""
    status = dict(
        line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines()
    )
    sizes = 0
    for file in outbox.glob("outbox.db*"):
        with contextlib.suppress(FileNotFoundError):
            sizes += file.stat().st_size
    return State(
        windows=windows,
        memory_mib=int(status["VmRSS"].split()[0]) / 1024,
        files=sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()),
        threads=int(status["Threads"]),
        outbox_bytes=sizes,
    )


def middle(states: list[State]) -> State:
    """Their median, number by number."""
    return State(
        windows=states[-1].windows,
        memory_mib=statistics.median(state.memory_mib for state in states),
        files=int(statistics.median(state.files for state in states)),
        threads=int(statistics.median(state.threads for state in states)),
        outbox_bytes=int(statistics.median(state.outbox_bytes for state in states)),
    )


def prepare(folder: Path, port: int) -> Path:
    """Bundle, recording and configuration."""
    bundle = build_bundle(folder / "bundle", window=_RATE, hop=1.0, rate=_RATE)
    # As many samples as RATE makes in a tenth of the time.
    part = _LENGTH * _RATE / RATE
    sound = np.concatenate(
        [tone(0.4 * part), tone(0.1 * part, FAULTY_HZ, seed=1), tone(0.5 * part, seed=2)]
    )
    soundfile.write(folder / "sound.wav", sound, _RATE, subtype="PCM_16")
    config = folder / "agent.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "device": "soak",
                "state_dir": str(folder / "state"),
                "jsonl": {"path": str(folder / "told.jsonl"), "max_bytes": 2_000_000, "backups": 1},
                "machines": [
                    {
                        "name": MACHINE,
                        "bundle": str(bundle),
                        "source": {
                            "kind": "replay",
                            "paths": [str(folder / "sound.wav")],
                            "speed": "max",
                            "loop": True,
                        },
                        "decide": {"raise_windows": 3, "of_windows": 5, "clear_windows": 10},
                    }
                ],
                "mqtt": {"host": "127.0.0.1", "port": port, "health_seconds": 1},
                "evidence": {"before_seconds": 5, "during_seconds": 5, "keep_alarms": 10},
            }
        )
    )
    return config


def rows(database: Path) -> tuple[int, int]:
    """Events in an outbox that nobody has open, and those of them undelivered."""
    with contextlib.closing(sqlite3.connect(database)) as db:
        ((every, waiting),) = db.execute(
            "SELECT count(*), count(*) - count(delivered) FROM event"
        ).fetchall()
    return every, waiting


def soak(folder: Path, windows: int, seconds: float) -> tuple[list[State], tuple[int, int]]:
    """Run until so many windows are judged or the time is over.

    Returns:
        The states, about one a second, and at the end the outbox's rows and those undelivered.

    Raises:
        FaultFoundError: The agent ended, or judges nothing.
    """
    states: list[State] = []
    with Broker(folder / "broker") as broker:
        config = prepare(folder, broker.port)
        log = folder / "agent.log"
        with (
            Subscriber(broker.port, "auscult/soak/health") as health,
            log.open("wb") as output,
        ):
            process = subprocess.Popen([*AUSCULT, "--config", config], stdout=output, stderr=output)
            try:
                wait_until(lambda: bool(health.messages), 30, "the agent tells of no health")
                deadline = time.monotonic() + seconds
                while True:
                    time.sleep(1.0)
                    if process.poll() is not None:
                        raise FaultFoundError(f"the agent ended: {log.read_text()[-1000:]}")
                    done = health.messages[-1][1]["machines"][MACHINE]["windows"]
                    del health.messages[:-1]
                    states.append(look(process.pid, folder / "state" / "outbox", done))
                    if done >= windows or time.monotonic() > deadline:
                        break
                process.send_signal(signal.SIGTERM)
                if process.wait(60):
                    raise FaultFoundError(f"the agent ended badly: {log.read_text()[-1000:]}")
            finally:
                process.kill()
                process.wait()
    return states, rows(folder / "state" / "outbox" / "outbox.db")


def judge(states: list[State], outbox: tuple[int, int]) -> tuple[State, State, list[str]]:
    """The first state after warm-up and the last, and what grew between them."""
    target = states[-1].windows
    warm = [state for state in states if state.windows >= _WARM_UP * target]
    if len(warm) < 2 * _MEDIAN:
        raise FaultFoundError(f"only {len(warm)} samples after warm-up: run it for longer")
    first, last = middle(warm[:_MEDIAN]), middle(warm[-_MEDIAN:])
    grown = []
    for what, before, after, bound in (
        ("resident memory, MiB", first.memory_mib, last.memory_mib, MEMORY_MIB),
        ("open files", first.files, last.files, FILES),
        ("threads", first.threads, last.threads, THREADS),
        ("outbox, bytes", first.outbox_bytes, last.outbox_bytes, _OUTBOX_BYTES),
    ):
        if after - before > bound:
            grown.append(f"{what}: from {before:g} to {after:g}, more than {bound:g}")
    every, waiting = outbox
    if every > _OUTBOX_ROWS:
        grown.append(f"outbox: {every} rows, more than {_OUTBOX_ROWS}")
    if waiting:
        grown.append(f"outbox: {waiting} events undelivered")
    return first, last, grown


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--windows", type=int, default=WEEK, help="so many, then it ends")
    parser.add_argument("--seconds", type=float, default=1800.0, help="at most so long")
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="auscult-soak-"))
    begun = time.monotonic()
    try:
        states, outbox = soak(folder, given.windows, given.seconds)
        first, last, grown = judge(states, outbox)
    except FaultFoundError as fault:
        print(f"{fault}\nfiles: {folder}")
        return 1
    took = time.monotonic() - begun
    print(f"first {first}")
    print(f"last  {last}")
    print(f"outbox at the end: {outbox[0]} rows, {outbox[1]} undelivered")
    for line in grown:
        print(f"grown: {line}")
    done = states[-1].windows
    print(
        f"soak: {done} windows in {took:.0f} s, {done / WEEK:.0%} of 7 days at a hop of 1 s: "
        + ("GROWN" if grown else "flat")
    )
    if not grown:
        shutil.rmtree(folder, ignore_errors=True)
    return bool(grown)


if __name__ == "__main__":
    sys.exit(main())
