"""A plant to break: the real agent as a process, a stream that raises and clears alarms all the
time, a broker, a subscriber that misses nothing, and the book of what was raised and delivered.

An event counts as raised once it is on the disk: in the file of the alarm's state (`untold`), or
told to the publishers, of which JSON lines is one. That book is kept without the broker, and read
without the agent's help: after a `kill -9` as well.
"""

from __future__ import annotations

import itertools
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from support.broker import Broker
from support.bundles import FAULTY_HZ, RATE, build_bundle, tone

HERE = Path(__file__).parent
AUSCULT = (sys.executable, "-m", "agent.cli", "run")
WINDOW = 400  # samples: 50 ms, judged one after the other
HOP = WINDOW / RATE
TURN = 0.25  # so long it is healthy, then so long faulty, seconds
MACHINE = "pump"

# Alarms go up and down with single windows: as many events as can be had.
DECIDE = {"raise_windows": 1, "of_windows": 1, "clear_windows": 2, "alert": None}
EVIDENCE = {"before_seconds": 1, "during_seconds": 0, "keep_alarms": 5, "free_share": 0.0}


class FaultFoundError(Exception):
    """The agent did what it must not."""


def wait_until(true: Callable[[], bool], seconds: float, what: str) -> None:
    """Wait; FaultFoundError naming what never came."""
    deadline = time.monotonic() + seconds
    while not true():
        if time.monotonic() > deadline:
            raise FaultFoundError(f"within {seconds:g} s: {what}")
        time.sleep(0.02)


def sound(seconds: float, *, rate: int = RATE, turn: float = TURN) -> np.ndarray:
    """Healthy and faulty in turns, healthy for the first half second at least."""
    parts = [tone(max(0.5, turn), seed=1, rate=rate)]
    while sum(map(len, parts)) < seconds * rate:
        parts += [
            tone(turn, FAULTY_HZ, seed=len(parts), rate=rate),
            tone(turn, seed=len(parts), rate=rate),
        ]
    return np.concatenate(parts)


@dataclass(frozen=True)
class Count:
    """The closing line."""

    raised: int
    delivered: int
    duplicated: int
    lost: int
    disorder: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(
            self.raised + other.raised,
            self.delivered + other.delivered,
            self.duplicated + other.duplicated,
            self.lost + other.lost,
            self.disorder + other.disorder,
        )

    def __str__(self) -> str:
        return (
            f"raised {self.raised} delivered {self.delivered} "
            f"duplicated {self.duplicated} lost {self.lost}"
        )


class Lines:
    """The lines of a file that grows, each read once."""

    def __init__(self, path: Path) -> None:
        self._path, self._at = path, 0

    def new(self) -> list[bytes]:
        """Whole lines since the last call."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        whole = data.rfind(b"\n") + 1
        self._at += whole
        return data[:whole].splitlines()


class Site:
    """Broker and subscriber, shared by all agents of a campaign. Use as a context manager."""

    def __init__(self, folder: Path, chance: random.Random) -> None:
        self.folder, self.chance = folder, chance
        folder.mkdir(parents=True, exist_ok=True)
        store = folder / "mosquitto"
        store.mkdir(exist_ok=True)
        self.broker = Broker(
            store,
            (
                "allow_anonymous true",
                "persistence true",
                f"persistence_location {store}/",
                "max_queued_messages 0",
            ),
        )
        self.bundle = build_bundle(folder / "bundle", window=WINDOW, hop=HOP)
        raw = np.round(sound(20.0) * 32767).astype("<i2").tobytes()
        (folder / "sound.raw").write_bytes(raw)
        self._receipts = folder / "receipts.txt"
        self._lines = Lines(self._receipts)
        self.receipts: list[tuple[str, str]] = []
        self._subscriber: subprocess.Popen[str] | None = None

    def __enter__(self):
        self.broker.start()
        self._subscriber = subprocess.Popen(
            [sys.executable, HERE / "subscriber.py", str(self.broker.port), self._receipts],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._subscriber.stdout is not None
        assert self._subscriber.stdout.readline() == "ready\n"
        return self

    def __exit__(self, *_: object) -> None:
        assert self._subscriber is not None
        self._subscriber.kill()
        self._subscriber.wait()
        self.broker.stop()

    def received(self, device: str) -> list[str]:
        """Ids of a device's events in the order of their receipts, repeated ones included."""
        for line in self._lines.new():
            topic, _, id_ = line.decode().partition(" ")
            self.receipts.append((topic.split("/")[1], id_))
        assert self._subscriber is not None
        if self._subscriber.poll() is not None:
            raise FaultFoundError("the subscriber ended: nothing can be said of delivery")
        return [id_ for name, id_ in self.receipts if name == device]


class Plant:
    """One agent with a state directory of its own, started as often as need be.

    Args:
        site: Where it publishes.
        name: Of the device.
        state: Its state directory; None for one among the site's files.
        source: Its `source`; None for the pipe.
        env: Environment of the agent, beside the present one.
        change: Given the configuration, to be changed in place.
        handles: Limit on its file handles; None for the present one.
    """

    def __init__(
        self,
        site: Site,
        name: str,
        *,
        state: Path | None = None,
        source: Mapping[str, object] | None = None,
        env: Mapping[str, str] | None = None,
        change: Callable[[dict[str, Any]], None] = lambda _: None,
        handles: int | None = None,
    ) -> None:
        self._handles = handles
        self.site, self.name = site, name
        self.folder = site.folder / name
        self.folder.mkdir()
        self.state = state or self.folder / "state"
        self._quiet = self.folder / "quiet"
        self._jsonl = self.folder / "told.jsonl"
        self._lines = Lines(self._jsonl)
        self.log = self.folder / "agent.log"
        self._env = {**os.environ, **(env or {})}
        self.raised: dict[str, None] = {}  # ids, in order
        self.clock = 0.0  # of the agent at the latest event, seconds since the epoch
        self._process: subprocess.Popen[bytes] | None = None
        pipe = {
            "kind": "pipe",
            # -I -S: as little start as possible.
            "command": [
                sys.executable, "-I", "-S", str(HERE / "sound_pipe.py"),
                str(site.folder / "sound.raw"), str(self._quiet), str(RATE),
            ],
            "rate": RATE,
            "reopen_max_seconds": 1,
        }  # fmt: skip
        self.config = self.folder / "agent.yaml"
        config = {
            "device": name,
            "state_dir": str(self.state),
            "jsonl": {"path": str(self._jsonl), "max_bytes": 10**9},
            "machines": [
                {
                    "name": MACHINE,
                    "bundle": str(site.bundle),
                    "source": dict(source or pipe),
                    "hop_seconds": HOP,
                    # The machine of the campaign may be too busy for a while.
                    "queue_windows": 1000,
                    "decide": DECIDE,
                }
            ],
            "mqtt": {
                "host": "127.0.0.1",
                "port": site.broker.port,
                "reconnect_max_seconds": 1,
            },
            "evidence": EVIDENCE,
        }
        change(config)
        self.config.write_text(yaml.safe_dump(config))

    def start(self) -> None:
        """Start the agent; returns at once."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [*AUSCULT, "--config", self.config],
                env=self._env,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        if self._handles is not None:
            limit = (self._handles, self._handles)
            resource.prlimit(self._process.pid, resource.RLIMIT_NOFILE, limit)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def kill(self) -> None:
        """`kill -9`; then what was decided and not told is read from the disk."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise FaultFoundError(f"{self.name}: the agent ended by itself, see {self.log}")
        self._process.send_signal(signal.SIGKILL)
        self._process.wait()
        self.note()
        memory = self.memory()
        for event in memory.get("untold", ()):
            self.raised.setdefault(event["id"])

    def stop(self) -> None:
        """End it in order."""
        assert self._process is not None
        if self._process.poll() is not None:
            raise FaultFoundError(f"{self.name}: the agent ended by itself, see {self.log}")
        self._process.terminate()
        try:
            code = self._process.wait(60)
        except subprocess.TimeoutExpired as fault:
            self._process.kill()
            raise FaultFoundError(f"{self.name}: did not end within 15 s of SIGTERM") from fault
        self.note()
        if code:
            raise FaultFoundError(f"{self.name}: ended with code {code}, see {self.log}")

    def end(self) -> None:
        """Leave nothing running, whatever happened."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def memory(self) -> dict[str, object]:
        """The alarm's state on the disk."""
        file = self.state / "state" / f"{MACHINE}.json"
        return json.loads(file.read_bytes()) if file.exists() else {}

    def note(self) -> int:
        """Read on in the book; how many events are in it."""
        for line in self._lines.new():
            try:
                message = json.loads(line)
            except ValueError:
                continue  # cut short by a kill; the next start goes on behind it
            if message["kind"] == "event":
                self.raised.setdefault(message["id"])
                moment = message["time"].replace("Z", "+00:00")
                self.clock = datetime.fromisoformat(moment).timestamp()
        if self._process is not None and self._process.poll() not in {None, 0, -signal.SIGKILL}:
            raise FaultFoundError(f"{self.name}: the agent ended by itself, see {self.log}")
        return len(self.raised)

    def more(self, number: int = 1, seconds: float = 30.0) -> None:
        """Wait for so many more events."""
        aim = self.note() + number
        wait_until(lambda: self.note() >= aim, seconds, f"{self.name}: no more events were raised")

    def delivered(self) -> set[str]:
        """Ids that reached the subscriber."""
        return set(self.site.received(self.name))

    def calm(self, *, quiet: bool = True) -> None:
        """Healthy sound alone from now on, or no longer."""
        if quiet:
            self._quiet.touch()
        else:
            self._quiet.unlink(missing_ok=True)

    def settle(self, seconds: float = 60.0) -> Count:
        """Raise no more, let all be delivered, end the agent, and count.

        Raises:
            FaultFoundError: The agent's own count of alarms is not what reached the subscriber,
                or it wrote a traceback.
        """
        self.calm()
        time.sleep(1.5)  # what was under way at the change of sound
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.note()
            if self.raised.keys() <= self.delivered():
                break
            time.sleep(0.1)
        self.stop()
        return self.count()

    def count(self) -> Count:
        """What was raised and what came of it."""
        self.note()
        receipts = self.site.received(self.name)
        times = Counter(receipts)
        lost = [id_ for id_ in self.raised if id_ not in times]
        if lost:
            print(f"{self.name}: lost {lost[:5]}", flush=True)
        # The agent's own number of alarms ever raised, which it keeps with its state, must agree
        # with this book: it would show an event that neither the book nor the subscriber has.
        told = sum(id_.endswith("-raised") for id_ in times)
        kept = self.memory().get("raised", 0)
        if kept != told:
            raise FaultFoundError(
                f"{self.name}: the agent counts {kept} alarms raised, {told} arrived"
            )
        unknown = times.keys() - self.raised.keys()
        if unknown:
            raise FaultFoundError(f"{self.name}: arrived, but never raised: {sorted(unknown)[:5]}")
        text = self.log.read_text(errors="replace")
        if "Traceback" in text:
            raise FaultFoundError(f"{self.name}: a traceback reached the log, see {self.log}")
        order = {id_: place for place, id_ in enumerate(self.raised)}
        first = [order[id_] for id_ in dict.fromkeys(receipts)]
        disorder = sum(later < earlier for earlier, later in itertools.pairwise(first))
        return Count(
            raised=len(self.raised),
            delivered=len(times),
            duplicated=len(receipts) - len(times),
            lost=len(lost),
            disorder=disorder,
        )
