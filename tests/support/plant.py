"""A plant's parts for tests: databases, devices' messages, an instance of `auscult plant serve`."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

import paho.mqtt.client as paho
import pytest
import sqlalchemy as sa
import yaml
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

from plant.store.tables import MACHINES, STATES
from support.broker import free_port


def until(condition, seconds=20.0, every=0.05):
    deadline = time.monotonic() + seconds
    while not (found := condition()) and time.monotonic() < deadline:
        time.sleep(every)
    assert found
    return found


def _postgres_bin() -> Path:
    folders = [Path("/usr/lib/postgresql"), Path("/usr/local/pgsql")]
    found = sorted(one for folder in folders if folder.exists() for one in folder.rglob("initdb"))
    if not found:
        pytest.skip("PostgreSQL is not installed (apt-get install postgresql)")
    return found[-1].parent


class Postgres:
    """A PostgreSQL of its own on a free loopback port, that can be killed and started again."""

    def __init__(self, *options: str) -> None:
        self._bin = _postgres_bin()
        # A socket's path must be short, and the server refuses to run as root.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        self.port = free_port()
        self._as = []
        self._options = options
        if os.geteuid() == 0:
            shutil.chown(self.folder, "postgres", "postgres")
            runuser = shutil.which("runuser")
            if runuser is None:
                pytest.skip("needs runuser: PostgreSQL does not run as root")
            self._as = [runuser, "-u", "postgres", "--"]
        self._run("initdb", "-D", self.folder / "data", "-A", "trust", "-U", "auscult",
                  "--no-locale", "-E", "UTF8")  # fmt: skip

    def _run(self, program, *arguments) -> None:
        subprocess.run(
            [*self._as, self._bin / program, *map(str, arguments)], check=True,
            stdout=subprocess.DEVNULL, cwd=self.folder,
        )  # fmt: skip

    def start(self) -> None:
        options = " ".join(
            [f"-p {self.port}", "-c listen_addresses=127.0.0.1", f"-k {self.folder}",
             *(f"-c {one}" for one in self._options)]
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while True:  # what was killed may not have ended altogether
            try:
                self._run("pg_ctl", "-D", self.folder / "data", "-w", "-l", self.folder / "log",
                          "-o", options, "start")  # fmt: skip
                break
            except subprocess.CalledProcessError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)

    def kill(self) -> None:
        """End it at once, as a power cut would: no checkpoint, no farewell."""
        pid = int((self.folder / "data" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        until(lambda: not Path(f"/proc/{pid}").exists() or _zombie(pid))
        time.sleep(1)  # its children see it, and end

    def stop(self) -> None:
        if (self.folder / "data" / "postmaster.pid").exists():
            with suppress(subprocess.CalledProcessError):
                self._run("pg_ctl", "-D", self.folder / "data", "-m", "immediate", "stop")

    def url(self, name: str = "postgres") -> str:
        return f"postgresql://auscult@127.0.0.1:{self.port}/{name}"

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)


def _zombie(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def moment(second: float) -> str:
    """A device's time so many seconds after a moment."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(1_764_400_000 + second))
    return f"{whole}.{round(second % 1 * 1000):03d}Z"


def event(device, machine, number, *, kind="raised", second=None, alarm_id=None, level="alarm"):
    """A CloudEvent as far as a plant reads it."""
    time_ = moment(number if second is None else second)
    return {
        "specversion": "1.0", "id": f"{device}-{machine}-{number}", "source": f"/auscult/{device}",
        "type": f"auscult.alarm.{kind}", "subject": machine, "time": time_,
        "datacontenttype": "application/json", "sequence": f"{number:012d}", "shortened": None,
        "data": {"device": device, "machine": machine, "time": time_, "event": kind,
                 "level": level, "alarm_id": alarm_id or f"a{number}", "operator": ""},
    }  # fmt: skip


def alarm(device, machine, second, *, level="alarm", alarm_id="a1", **changes):
    return {
        "device": device, "machine": machine, "time": moment(second), "level": level,
        "since": moment(second), "alarm_id": alarm_id, "acknowledged": False, "latched": False,
        "shelving": "unshelved", "shelved_until": None, "muted_until": None, "reason": None,
        "score": 1.5, "zone": "C", **changes,
    }  # fmt: skip


def score(device, machine, second, value, **changes):
    return {"device": device, "machine": machine, "time": moment(second), "score": value,
            "raw_threshold": 0.4, "exceeded": value is not None and value > 1, **changes}  # fmt: skip


class Device:
    """A client that publishes as an agent does, and waits until the broker has it."""

    def __init__(self, port: int, name: str = "dev", *, will: bool = False) -> None:
        self.name, self.base = name, f"auscult/{name}"
        self.heard: list[tuple[str, dict]] = []
        self.client = paho.Client(
            CallbackAPIVersion.VERSION2, client_id=f"auscult-{name}",
            protocol=MQTTProtocolVersion.MQTTv5,
        )  # fmt: skip
        if will:
            offline = {"device": name, "status": "offline", "time": None,
                       "reason": "connection lost"}  # fmt: skip
            self.client.will_set(f"{self.base}/status", json.dumps(offline), 1, True)
        self.acknowledged: set[int] = set()
        self.client.on_publish = lambda _client, _data, mid, *_: self.acknowledged.add(mid)
        self.client.on_message = self._heard
        self.client.connect("127.0.0.1", port)
        self.client.loop_start()
        self.client.subscribe(f"{self.base}/request/+", qos=1)

    def _heard(self, _client, _data, message) -> None:
        command, asked = message.topic.rpartition("/")[2], json.loads(message.payload)
        self.heard.append((command, asked))

    def answer(self, command, asked, *, status="ok", error=None) -> None:
        self.say(f"response/{command}", {
            "device": self.name, "time": moment(0), "command": command,
            "transaction": asked["transaction"], "status": status, "error": error, "result": {},
        })  # fmt: skip

    def say(self, topic, message, *, qos=1, retain=False, wait=True):
        payload = message if isinstance(message, bytes | str) else json.dumps(message)
        info = self.client.publish(f"{self.base}/{topic}", payload, qos, retain)
        if wait:
            info.wait_for_publish(10)
            assert info.is_published()
        return info

    def stop(self) -> None:
        self.client.disconnect()
        self.client.loop_stop()

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def plant_file(folder: Path, broker_port: int, url: str = "sqlite:///plant.db", **sections) -> Path:
    """Write a PLANT.yaml."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "PLANT.yaml"
    watch = {"scores_seconds": 1, "adopt_seconds": 10, **sections.pop("watch", {})}
    path.write_text(yaml.safe_dump({
        "plant": "hall-2", "broker": {"host": "127.0.0.1", "port": broker_port},
        "database": {"url": url}, "watch": watch, "web": {"port": 0, **sections.pop("web", {})},
        **sections,
    }))  # fmt: skip
    return path


class Instance:
    """`auscult plant serve` in a process of its own, that can be killed."""

    def __init__(self, path: Path, name: str = "one", *options: str) -> None:
        self.log = path.parent / f"{name}.log"
        self._out = self.log.open("wb")
        code = "from agent.cli import main; main()"
        self.process = subprocess.Popen(
            [sys.executable, "-c", code, "plant", "serve", str(path), "--instance", name, *options],
            stdout=self._out, stderr=self._out,
        )  # fmt: skip

    def listening(self) -> None:
        until(lambda: self.says("listening to"), 60)

    def says(self, text: str) -> bool:
        if text in self.log.read_text():
            return True
        assert self.process.poll() is None, self.log.read_text()
        return False

    @property
    def page(self) -> str:
        until(lambda: self.says("page: http"), 60)
        line = next(line for line in self.log.read_text().splitlines() if "page: http" in line)
        return line.rpartition(" ")[2]

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def stop(self) -> int:
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(30)
        self._out.close()
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def untrue(database, devices, prefix="auscult") -> list[str]:
    """Where the store says otherwise than simulated devices: their states, alarms, acknowledgements."""
    told = {topic: payload for device in devices for topic, payload in device.states.items()}
    names = {device.name for device in devices}
    with database.reading() as connection:
        stored = {
            f"{prefix}/{one.device}/{one.machine}/{one.topic}": one.payload.encode()
            for one in connection.execute(sa.select(STATES).where(STATES.c.machine != ""))
            if one.device in names
        }
        machines = {
            f"{prefix}/{one.device}/{one.name}": one
            for one in connection.execute(sa.select(MACHINES))
        }
    found = sorted(topic for topic in told.keys() | stored.keys()
                   if told.get(topic) != stored.get(topic))  # fmt: skip
    for topic, payload in told.items():
        if not topic.endswith("/alarm"):
            continue
        alarm, row = json.loads(payload), machines[topic.removesuffix("/alarm")]
        for field in ("level", "alarm_id", "acknowledged", "latched", "shelving"):
            if alarm[field] != getattr(row, field):
                found.append(f"{topic}: {field}")
        for field in ("shelved_until", "muted_until", "since"):
            at = alarm[field] and datetime.fromisoformat(alarm[field].replace("Z", "+00:00"))
            if at != getattr(row, field):
                found.append(f"{topic}: {field}")
    return found


@contextmanager
def listening(config, database, *, name="plant-one"):
    """An ingest in a thread of this process."""
    import threading

    from plant.watch.ingest import Ingest

    stopping = threading.Event()
    ingest = Ingest(config.broker, config.watch, database, name, stopping=stopping)
    thread = threading.Thread(target=ingest.run)
    thread.start()
    try:
        until(lambda: ingest.connected)
        yield ingest
    finally:
        stopping.set()
        thread.join(20)
        assert not thread.is_alive()
