"""How much of a plant one `auscult plant serve` carries, beside a subscriber that only inserts.

    .venv/bin/python benchmarks/plant_scale.py --stream told.jsonl [--devices 1000] [--json FILE]

A real mosquitto and a real PostgreSQL of its own, on this machine; devices are simulated from what
a real agent told (its `jsonl`). In one run, one after the other:

- drain: the same messages, kept at the broker for two sessions, are taken by a plain subscriber
  (paho-mqtt, one INSERT of topic and payload a message, committed by the same batches, acknowledged
  after the commit) and by `serve`; wall and processor time of each.
- pace: events at a pace with the scores of all machines; from a device's time of an alarm's change
  to the page's stream, and from the device to the plain subscriber's commit.
- kill: instance, database and broker are killed (-9) in turn under the pace; ids sent are compared
  with ids kept and ids shown, and states, alarms, acknowledgements with the devices' own.
- growth: memory and processor time of `serve` at an eighth to all of the devices.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import threading
import time
import urllib.parse
import urllib.request
from collections import Counter
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from tempfile import TemporaryDirectory

import psycopg
import sqlalchemy as sa

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.broker import Broker  # noqa: E402
from support.plant import Instance, Postgres, plant_file, until, untrue  # noqa: E402

from plant.simulate.devices import Fleet, fleet  # noqa: E402
from plant.simulate.recorded import read_streams  # noqa: E402
from plant.store.database import Database  # noqa: E402
from plant.store.migrate import migrate  # noqa: E402
from plant.store.read import Reader  # noqa: E402
from plant.store.tables import EVENTS  # noqa: E402
from plant.store.users import Users  # noqa: E402

# Step between readings of what the broker retains, where only killing is measured, seconds.
_RECONCILE = 45

PLAIN = """
import sys, time, json, psycopg
import paho.mqtt.client as paho
from paho.mqtt.properties import Properties
from paho.mqtt.packettypes import PacketTypes
port, url, measure = int(sys.argv[1]), sys.argv[2], len(sys.argv) > 3
db = psycopg.connect(url)
batch, late = [], []
def on_message(client, data, message):
    batch.append(message)
client = paho.Client(
    paho.CallbackAPIVersion.VERSION2, client_id="plain", protocol=5, manual_ack=True)
client.on_message = on_message
properties = Properties(PacketTypes.CONNECT)
properties.SessionExpiryInterval, properties.ReceiveMaximum = 3600, 4000
client.connect("127.0.0.1", port, clean_start=False, properties=properties)
client.on_connect = lambda *_: client.subscribe(
    [("$share/plain/auscult/+/+/" + t, 1) for t in ("event", "alarm", "sensor", "drift", "score")])
began = 0.0
while True:
    before = len(batch)
    client.loop(0.02 if not batch else 0.0)
    now = time.monotonic()
    if batch and not before:
        began = now
    if batch and (len(batch) >= 1000 or now - began > 0.1):
        with db.cursor() as cursor:
            cursor.executemany("INSERT INTO plain VALUES (%s, %s)",
                               [(m.topic, m.payload.decode()) for m in batch])
        db.commit()
        at = time.time()
        for m in batch:
            if m.qos:
                client.ack(m.mid, m.qos)
        if measure:
            for m in batch:
                if m.topic.endswith("/alarm"):
                    late.append((m.topic, json.loads(m.payload)["time"], at))
        batch.clear()
        if measure and len(late) > 200:
            with open(sys.argv[3], "a") as file:
                file.writelines(json.dumps(one) + "\\n" for one in late)
            late.clear()
"""


def cpu(pid: int) -> float:
    """Processor time of a process and its children that ended, seconds."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


def cpu_of_all(name: str, folder: str) -> float:
    """Processor time of every process below a name that was started in a folder."""
    total = 0.0
    for path in Path("/proc").glob("[0-9]*"):
        with suppress(OSError, ValueError):
            started = (path / "cwd").readlink()
            if name in (path / "comm").read_text() and started.is_relative_to(folder):
                total += cpu(int(path.name))
    return total


def rss(pid: int) -> float:
    """Resident memory, MB."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return math.nan


def share(values: list[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))] if ordered else math.nan


class Looker:
    """A browser's stream: when each change of an alarm came to the page."""

    def __init__(self, address: str, token: str, name: str) -> None:
        self._name = name  # begins that of the devices looked at: others' states come again, too
        request = urllib.request.Request(
            address + "api/stream", headers={"cookie": f"auscult_plant={token}"}
        )
        self._answer = urllib.request.urlopen(request, timeout=600)
        self.late: list[float] = []
        self.alarms: set[str] = set()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        kind = ""
        try:
            for raw in self._answer:
                line = raw.decode()
                if line.startswith("event:"):
                    kind = line[7:].strip()
                elif line.startswith("data:") and kind == "machines":
                    now = time.time()
                    for one in json.loads(line[5:]):
                        if one["alarm_at"] and one["device"].startswith(self._name):
                            change = f"{one['id']} {one['alarm_at']}"
                            if change in self.alarms:
                                continue  # the row came again for another reason
                            self.alarms.add(change)
                            at = datetime.fromisoformat(one["alarm_at"].replace("Z", "+00:00"))
                            self.late.append(now - at.timestamp())
        except (OSError, ValueError):
            pass


class Scale:
    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, folder
        self.streams = read_streams(options.stream)
        self.found: dict[str, object] = {
            "devices": options.devices, "machines": 4 * options.devices,
            "load_before": os.getloadavg()[0], "cores": os.cpu_count(),
        }  # fmt: skip

    def run(self) -> None:
        lines = ("allow_anonymous true", "max_queued_messages 0", "max_inflight_messages 0",
                 "persistence true", f"persistence_location {self.folder}/broker/",
                 "log_type error")  # fmt: skip
        with Broker(self.folder / "broker", lines) as self.broker, Postgres() as self.postgres:
            url = (
                f"sqlite:///{self.folder}/plant.db" if self.options.sqlite else self.postgres.url()
            )
            watch = {"adopt_seconds": 3600, "scores_seconds": 15}
            if self.options.parts == "kill":
                watch["reconcile_seconds"] = _RECONCILE
            self.path = plant_file(self.folder, self.broker.port, url, watch=watch)
            self.database = Database(url)
            migrate(self.database)
            with psycopg.connect(self.postgres.url()) as connection:
                connection.execute("CREATE TABLE plain (topic text, payload text)")
            Users(self.database).put("looker", "viewer", None)
            self.token = Users(self.database).open("looker", 10)
            for part in self.options.parts.split(","):
                print(f"-- {part} (load {os.getloadavg()[0]:.1f})", flush=True)
                getattr(self, part)()
            self.database.close()
        self.found["load_after"] = os.getloadavg()[0]

    def fleet(self, name: str, devices: int | None = None) -> Fleet:
        made = fleet(("127.0.0.1", self.broker.port), "auscult", self.streams,
                     devices=devices or self.options.devices, machines=4, name=name)  # fmt: skip
        made.start()
        return made

    def plain(self, *measure: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-c", PLAIN, str(self.broker.port), self.postgres.url(), *measure]
        )

    def events(self) -> int:
        with self.database.reading() as connection:
            return connection.execute(sa.select(sa.func.count()).select_from(EVENTS)).scalar_one()

    def number(self, table: str) -> int:
        with psycopg.connect(self.postgres.url()) as connection:
            return connection.execute(f"SELECT count(*) FROM {table}").fetchone()[0]

    def drain(self) -> None:
        """Measure how fast the plain subscriber and serve take the same messages."""
        plain = self.plain()
        with Instance(self.path, "one", "--no-page") as serve:
            serve.listening()
            time.sleep(2)
        plain.terminate()
        plain.wait()
        made = self.fleet("drain")
        seconds = self.options.drain / self.options.events
        made.run(self.options.events, 0, seconds)
        assert made.finish(120), "the broker did not take it all"
        made.stop()
        messages = made.sent.messages
        print(f"{made.sent.events} events, {messages} messages wait for each", flush=True)
        found = {}
        for name in ("plain", "serve"):
            before = cpu_of_all("postgres", str(self.postgres.folder))
            began = time.monotonic()
            if name == "plain":
                process = self.plain()
                until(lambda: self.number("plain") >= messages, 600, every=0.2)
                took, pid = time.monotonic() - began, process.pid
                used = cpu(pid)
                process.terminate()
                process.wait()
            else:
                with Instance(self.path, "one", "--no-page") as serve:
                    serve.listening()
                    began, pid = time.monotonic(), serve.process.pid
                    used = cpu(pid)
                    until(lambda: self.events() >= made.sent.events, 600, every=0.2)
                    took, used = time.monotonic() - began, cpu(pid) - used
            base = cpu_of_all("postgres", str(self.postgres.folder)) - before
            found[name] = {
                "seconds": took, "messages_per_s": messages / took,
                "events_per_s": made.sent.events / took,
                "cpu_ms_per_message": 1000 * used / messages,
                "database_cpu_ms_per_message": 1000 * base / messages,
            }  # fmt: skip
            print(name, found[name], flush=True)
        found["wall_ratio"] = found["serve"]["seconds"] / found["plain"]["seconds"]
        found["cpu_ratio"] = (
            found["serve"]["cpu_ms_per_message"] / found["plain"]["cpu_ms_per_message"]
        )
        self.found["drain"] = found

    def pace(self) -> None:
        """A steady pace; how late the page is, and how late the plain subscriber commits."""
        options, found = self.options, {}
        late_file = self.folder / "late.jsonl"
        plain = self.plain(str(late_file))
        time.sleep(2)
        made = self.fleet("plain")
        made.run(options.events, options.scores, options.seconds)
        made.finish(60)
        made.stop()
        time.sleep(3)
        plain.terminate()
        plain.wait()
        late = []
        for line in late_file.read_text().splitlines():
            topic, at, now = json.loads(line)
            if "/plain-" not in topic:
                continue
            late.append(now - datetime.fromisoformat(at.replace("Z", "+00:00")).timestamp())
        found["plain"] = self._late(made, late)
        with (
            Instance(self.path, "one", "--no-page") as serve,
            Instance(self.path, "page", "--no-listen") as page,
        ):
            serve.listening()
            until(lambda: serve.says("retained states read"), 120)  # of all the devices before
            time.sleep(2)
            looker = Looker(page.page, self.token, "pace-")
            self.settle()
            known, used = self.events(), cpu(serve.process.pid)
            shown = cpu(page.process.pid)
            made = self.fleet("pace")
            made.run(options.events, options.scores, options.seconds)
            kept = self.events() - known
            made.finish(60)
            made.stop()
            until(lambda: self.events() - known >= made.sent.events, 120)
            time.sleep(3)
            found["serve"] = {
                **self._late(made, looker.late), "kept_at_end_of_pace": kept,
                "cpu_of_a_core": (cpu(serve.process.pid) - used) / options.seconds,
                "page_of_a_core": (cpu(page.process.pid) - shown) / options.seconds,
                "memory_mb": rss(serve.process.pid), "page_memory_mb": rss(page.process.pid),
            }  # fmt: skip
        self.found["pace"] = found

    def settle(self) -> None:
        """Wait until what the broker kept for `serve`, while `plain` was heard, is written."""
        before = -1
        while before != (before := self.events()):
            time.sleep(3)

    def _late(self, made: Fleet, late: list[float]) -> dict[str, float]:
        found = {
            "events_per_s": made.sent.events / self.options.seconds,
            "messages_per_s": made.sent.messages / self.options.seconds,
            "p50_s": share(late, 0.5), "p99_s": share(late, 0.99), "changes": len(late),
            "pace_behind_s": made.sent.late,
        }  # fmt: skip
        print(found, flush=True)
        return found

    def kill(self) -> None:
        """Instance, database and broker are killed in turn; nothing lost, nothing twice."""
        options = self.options
        rate, each = options.kill_events, options.seconds / 2
        two = Instance(self.path, "two", "--no-page") if options.instances > 1 else None
        serve = Instance(self.path, "one")
        serve.listening()
        known = self.events()
        made = self.fleet("kill")
        thread = threading.Thread(target=made.run, args=(rate, options.scores / 4, 7 * each))
        thread.start()
        time.sleep(each)
        serve.kill()
        print("instance killed", flush=True)
        time.sleep(each / 2)
        serve = Instance(self.path, "one")
        time.sleep(each)
        if not options.sqlite:
            self.postgres.kill()
            print("database killed", flush=True)
            time.sleep(each / 2)
            self.postgres.start()
        time.sleep(each)
        if options.broker_kill == "KILL":
            self.broker.send_signal(signal.SIGKILL)
        self.broker.stop()
        print("broker killed", flush=True)
        time.sleep(each / 2)
        self.broker.start()
        thread.join()
        ended = time.monotonic()
        sent = set(made.sent.ids)
        assert len(sent) == len(made.sent.ids)

        def kept() -> list[str]:
            with self.database.reading() as connection:
                query = sa.select(EVENTS.c.id).where(EVENTS.c.device.like("kill-%"))
                return list(connection.execute(query).scalars())

        # Devices go on: what the broker lost is asked of them.
        while len(kept()) < len(sent) and time.monotonic() < ended + options.patience:
            made.run(0, 0, 2.0)
        whole = time.monotonic() - ended
        made.finish(60)
        # Of two states of one millisecond either may be last, until what is retained is read.
        deadline = time.monotonic() + 2 * _RECONCILE
        while (wrong := untrue(self.database, made.devices)) and time.monotonic() < deadline:
            time.sleep(1)
        made.stop()
        stored = Counter(kept())
        shown = self.shown(serve.page)
        devices = Reader(self.database, {}).devices()
        told = sum(one["missing"] for one in devices if one["name"].startswith("kill-"))
        self.found["kill"] = {
            "broker_by": options.broker_kill, "sent": len(sent), "kept": len(stored),
            "lost": len(sent - set(stored)), "lost_that_is_told": told,
            "strangers": len(set(stored) - sent), "kept_twice": sum(n > 1 for n in stored.values()),
            "sent_again_as_asked": made.sent.again, "whole_after_s": whole,
            "states_compared": sum(len(one.states) for one in made.devices),
            "untrue": len(wrong), "untrue_such_as": wrong[:5],
            "shown": sum(shown.values()), "shown_twice": sum(n > 1 for n in shown.values()),
            "reconnects": made.sent.reconnects, "before": known,
        }  # fmt: skip
        print(self.found["kill"], flush=True)
        serve.stop()
        if two is not None:
            two.stop()

    def shown(self, page: str) -> Counter[str]:
        """Ids of all events that the page shows of the killed run's devices, by leafing."""
        found: Counter[str] = Counter()
        after: str | None = ""
        for _ in range(5):
            request = urllib.request.Request(
                f"{page}api/events?limit=1000&after={urllib.parse.quote(after)}",
                headers={"cookie": f"auscult_plant={self.token}"},
            )
            answer = json.load(urllib.request.urlopen(request, timeout=60))
            found.update(one["id"] for one in answer["events"])
            after = answer["next"]
            if after is None:
                break
        return found

    def growth(self) -> None:
        """Processor time and memory of serve as devices become more, each at the same pace."""
        options, rows = self.options, []
        for part in (8, 4, 2, 1):
            devices = options.devices // part
            with Instance(self.path, "one") as serve:
                serve.listening()
                made = self.fleet(f"growth{part}", devices)
                used = cpu(serve.process.pid)
                seconds = options.seconds / 2
                made.run(options.grow_events / part, options.scores / part, seconds)
                made.finish(60)
                made.stop()
                time.sleep(2)
                rows.append({
                    "devices": devices, "cpu_s": cpu(serve.process.pid) - used,
                    "memory_mb": rss(serve.process.pid), "events": made.sent.events,
                })  # fmt: skip
                print(rows[-1], flush=True)
        fits = {}
        for name in ("cpu_s", "memory_mb"):
            slope = statistics.linear_regression(
                [math.log(row["devices"]) for row in rows], [math.log(row[name]) for row in rows]
            ).slope
            fits[name] = slope
        self.found["growth"] = {"rows": rows, "exponents": fits}
        print(fits, flush=True)

    def size(self) -> None:
        """Bytes of the database by kind of row."""
        with psycopg.connect(self.postgres.url()) as connection:
            found = {}
            for table in ("events", "scores", "states", "machines", "open_scores"):
                row = connection.execute(
                    f"SELECT count(*), pg_total_relation_size('{table}') FROM {table}"
                ).fetchone()
                found[table] = {"rows": row[0], "bytes_per_row": row[1] / max(1, row[0])}
        self.found["size"] = found
        print(found, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--stream", type=Path, required=True)
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--events", type=float, default=2000.0)
    parser.add_argument("--scores", type=float, default=800.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--drain", type=int, default=40_000, help="events that wait")
    parser.add_argument("--kill-events", type=float, default=500.0)
    parser.add_argument("--grow-events", type=float, default=800.0)
    parser.add_argument("--broker-kill", choices=["TERM", "KILL"], default="KILL")
    parser.add_argument("--patience", type=float, default=240.0, help="for what the broker lost, s")
    parser.add_argument("--instances", type=int, choices=[1, 2], default=1, help="in kill")
    parser.add_argument("--sqlite", action="store_true", help="serve with SQLite")
    parser.add_argument("--parts", default="drain,pace,kill,growth,size")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with TemporaryDirectory(dir="/tmp") as folder:
        scale = Scale(options, Path(folder))
        try:
            scale.run()
        finally:
            scale.found["at"] = datetime.now(timezone.utc).isoformat()
            if options.json is not None:
                options.json.write_text(json.dumps(scale.found, indent=1))
            print(json.dumps(scale.found, indent=1))


if __name__ == "__main__":
    main()
