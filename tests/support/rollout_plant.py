"""A plant in a folder: a broker, a rollout service, and real agents of one machine each."""

from __future__ import annotations

import subprocess
import sys
import threading
import time

import numpy as np
import yaml
from click.testing import CliRunner

from agent.bundle.manifest import BANK, ROW_CONSTANTS, ROWS
from agent.bundle.seal import seal
from agent.bundle.sign import load_private, sign_folder
from agent.bundle.verify import read_manifest
from agent.core.storage import write_json
from plant.commands.plant import plant as plant_command
from plant.learn.schema import load_plant
from plant.rollout.plan import Plans
from plant.rollout.repository import Repository
from plant.rollout.service import RolloutService, wanted
from support.broker import Subscriber
from support.bundles import tone, write
from support.offers import keys, release

AUSCULT = (sys.executable, "-m", "agent.cli")
DEVICES = ("line-1", "line-2", "line-3")
GATE = {"watch_seconds": 2, "least_windows": 8, "take_seconds": 120}


class RolloutPlant:
    """A folder with a broker, a rollout service and agents.

    Args:
        root: The folder.
        broker: Started already.
        rollout: What PLANT.yaml says of rollouts, beside what is here by default.
        tls: `tls` of the plant's `broker`.
    """

    def __init__(self, root, broker, *, rollout=None, tls=None) -> None:
        self.root, self.broker = root, broker
        self.key = keys(root)
        self.file = root / "plant.yaml"
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        told = {
            "plant": "hall", "out": "plant", "sign": "site.key",
            "rollout": {
                "port": 0, "canary_share": 0.3, "most_failed": 0.4, "gate": GATE, **(rollout or {})
            },
            "broker": {"host": "127.0.0.1", "port": broker.port, **({"tls": tls} if tls else {})},
            "machines": [{"name": "pump", "data": "none"}],
        }  # fmt: skip
        self.file.write_text(yaml.safe_dump(told))
        self.service = RolloutService(root / "plant", *wanted(load_plant(self.file), self.file))
        self.service.start()
        self.thread = threading.Thread(target=self.service.run, daemon=True)
        self.thread.start()
        write(root / "sound.wav", tone(60))

    def configure(self, device: str, *, first=None, machine=None, **sections) -> None:
        """Write a device's configuration; a section adds to what is there by default."""
        folder = self.root / device
        source = {"kind": "replay", "paths": [str(self.root / "sound.wav")], "loop": True}
        told = {
            "device": device,
            "machines": [{"name": "pump", "bundle": "pump.bundle", "source": source, **(machine or {})}],
            "mqtt": {"host": "127.0.0.1", "port": self.broker.port, "health_seconds": 1},
            "bundles": {
                "public_key": "../site.pub", "watch_seconds": 1, "trial_seconds": 0,
                "trial_windows": 3,
            },
            "offers": {
                "url": f"http://127.0.0.1:{self.service.content.port}",
                "allow_downgrade": True, "retry_seconds": 0.5,
            },
            "evidence": {"enabled": False}, "state_dir": "state",
        }  # fmt: skip
        for name, more in sections.items():
            told[name] = {**told.get(name, {}), **more}
        if not folder.exists():
            folder.mkdir()
            if first is not None:
                subprocess.run(["cp", "-r", first, folder / "pump.bundle"], check=True)
        (folder / "agent.yaml").write_text(yaml.safe_dump(told))

    def begin(self, device: str) -> None:
        """Start a device's agent."""
        folder = self.root / device
        with (folder / "log").open("ab") as log:
            self.agents[device] = subprocess.Popen(
                [*AUSCULT, "run", "--config", folder / "agent.yaml"], stdout=log, stderr=log
            )

    def kill(self, device: str) -> None:
        self.agents[device].kill()
        self.agents[device].wait()

    def run_first(self, *devices: str, bundle=None, prepare=lambda client: None, **sections):
        """Agents that run the first release, and say so; gives it."""
        first = bundle or release(self.root / "r1", self.key, 1, threshold=0.5)
        with Subscriber(self.broker.port, prepare=prepare) as heard:
            for device in devices:
                self.configure(device, first=first, **sections)
                self.begin(device)
            try:
                for device in devices:
                    heard.wait(f"{device}/pump/offered", lambda one: one["state"] == "none", 90)
                    heard.wait(
                        f"{device}/health", lambda one: one["machines"]["pump"]["windows"] > 0, 90
                    )
            except AssertionError as fault:
                raise AssertionError(self.logs()) from fault
        # The bundle before can be given back only where the plant has it.
        Repository(self.root / "plant" / "repository").add(first)
        return first

    def end(self) -> None:
        self.service.stop()
        self.thread.join(10)
        for process in self.agents.values():
            process.kill()
            process.wait()

    def command(self, *words) -> str:
        """A command of `auscult plant`, with PLANT.yaml."""
        name, *others = map(str, words)
        done = CliRunner().invoke(
            plant_command, [name, str(self.file), *others], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.output

    def latest(self):
        return list(Plans(self.root / "plant/rollouts").all())[-1]

    def rollout(self, wanted=lambda rollout: rollout.state != "running", seconds=120.0):
        """The latest rollout, once it is as wanted."""
        deadline = time.monotonic() + seconds
        while not wanted(latest := self.latest()):
            assert time.monotonic() < deadline, (latest, self.logs())
            time.sleep(0.2)
        return latest

    def all_back(self):
        """The latest rollout, put back, once every device has said that it is."""
        return self.rollout(lambda one: one.state == "put back" and _settled(one))

    def logs(self) -> str:
        return "".join((self.root / name / "log").read_text()[-1500:] for name in self.agents)

    def runs(self, device: str) -> str:
        """The digest of the bundle that is in place on a device."""
        return read_manifest(self.root / device / "pump.bundle").digest


def _settled(rollout) -> bool:
    return not any(one.state == "going back" for one in rollout.targets)


def long_release(folder, key, counter: int, *, rows: int = 20_000):
    """A release whose bank is a few megabytes, other ones than another counter's."""
    release(folder, key, counter, threshold=0.5)
    rng = np.random.default_rng(counter)
    few = np.load(folder / BANK)
    bank = np.tile(few, (-(-rows // len(few)), 1))[:rows]
    bank = (bank * (1 + 1e-3 * rng.standard_normal(bank.shape))).astype(np.float32)
    np.save(folder / BANK, bank)
    np.save(folder / ROW_CONSTANTS, np.tile(np.float32([1, 0]), (rows, 1)))
    write_json(
        folder / ROWS,
        [{"source": f"h{i}.wav", "start": 0.0, "group": f"h{i % 5}.wav"} for i in range(rows)],
    )
    seal(folder, read_manifest(folder))
    sign_folder(folder, load_private(key))
    return folder


class Throttle:
    """A TCP relay that lets so many bytes a second through to whoever connects.

    What passes is left as it is, so encryption goes from end to end.
    """

    def __init__(self, port: int, rate: float) -> None:
        import socketserver

        relay = self
        self.rate, self.passed = rate, 0

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                relay._serve(self.request, port)

        self.server = socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.port = self.server.server_address[1]
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def _serve(self, client, port: int) -> None:
        import socket
        from contextlib import suppress

        with socket.create_connection(("127.0.0.1", port)) as server, suppress(OSError):
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            while data := server.recv(4096):
                client.sendall(data)
                self.passed += len(data)
                time.sleep(len(data) / self.rate)

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


def _pump(source, target) -> None:
    from contextlib import suppress

    with suppress(OSError):
        while data := source.recv(4096):
            target.sendall(data)


def waits_for(port: int, ending: str, wanted=lambda payload: True, seconds: float = 60, **how):
    """A retained or coming message of the broker."""
    with Subscriber(port, **how) as heard:
        return heard.wait(ending, wanted, seconds)
