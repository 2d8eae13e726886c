"""The processes of a demo: broker, services, agents; and the files they are told by."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import yaml

from agent.core.child import running
from plant.learn.schema import load_plant
from plant.learn.task import PlantError
from plant.rollout.fleet import Fleet
from plant.rollout.wire import RolloutWire

MOSQUITTO = "mosquitto"
_BROKER_SECONDS = 15.0
_END_SECONDS = 10.0


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Scene:
    """A folder with a plant in it, and the processes that make it live; `stop` ends them.

    Args:
        root: The folder.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.file = root / "plant.yaml"
        self.broker_port = free_port()
        self.content_port = free_port()
        self.page_port = free_port()
        #: Whether the broker speaks MQTT 5, which `auscult plant serve` takes.
        self.modern = True
        #: What the devices say, from `listen` on.
        self.fleet = Fleet()
        self._wire: RolloutWire | None = None
        self._processes: dict[str, subprocess.Popen[bytes]] = {}

    def auscult(self, *words: object, stdin: str | None = None) -> tuple[int, str]:
        """Run a command to its end; its code, and what it said."""
        done = subprocess.run(  # noqa: S603 - our own words
            [*running("agent.cli", "main"), *map(str, words)],
            cwd=self.root, input=stdin, capture_output=True, text=True, check=False,
            env={**os.environ, "COLUMNS": "110"},
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def begin(self, name: str, *words: object) -> None:
        """Begin a command that goes on; what it says is in `<name>.log`."""
        self._begin(name, [*running("agent.cli", "main"), *map(str, words)])

    def _begin(self, name: str, words: list[str]) -> None:
        log = (self.root / f"{name}.log").open("ab")
        self._processes[name] = subprocess.Popen(  # noqa: S603 - our own words
            words, cwd=self.root, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
        )

    def kill(self, name: str) -> None:
        """Kill a process (-9), as a power cut would end it."""
        process = self._processes.pop(name)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def alive(self, name: str) -> bool:
        """Whether a process still runs."""
        return self._processes[name].poll() is None

    def listen(self) -> None:
        """Hear what the devices say of themselves.

        Raises:
            DeliveryError: The broker is not there.
        """
        broker = load_plant(self.file).broker
        assert broker is not None
        self._wire = RolloutWire(broker, self.fleet)
        self._wire.start(wait_seconds=_BROKER_SECONDS)

    def stop(self) -> None:
        """End all processes, the broker last. Idempotent."""
        if self._wire is not None:
            self._wire.stop()
        for name in reversed(list(self._processes)):
            process = self._processes.pop(name)
            process.terminate()
            try:
                process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def write_plant(self, machines: dict[str, Path]) -> None:
        """`plant.yaml`: rollouts that are watched for seconds, as a demo has no hours."""
        told = {
            "plant": "demo",
            "sign": "site.key",
            "broker": {"host": "127.0.0.1", "port": self.broker_port},
            "defaults": {"method": "learn", "untypical": "keep"},
            "rollout": {
                "port": self.content_port,
                "canary_share": 0.3,
                "most_failed": 0.3,
                "gate": {"watch_seconds": 6, "least_windows": 10, "most_exceeded": 0.5},
            },
            "web": {"port": self.page_port},
            "machines": [{"name": name, "data": str(data)} for name, data in machines.items()],
        }
        self.file.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")

    def write_agent(self, device: str, machine: str, sound: Path) -> Path:
        """`agent.yaml` of a device that hears a machine's recordings over and over."""
        folder = self.root / device
        folder.mkdir()
        source = {"kind": "replay", "paths": [str(sound)], "loop": True}
        told = {
            "device": device,
            "machines": [{"name": machine, "source": source, "hop": 1.0}],
            "mqtt": {"host": "127.0.0.1", "port": self.broker_port, "health_seconds": 1},
            "bundles": {"public_key": "../site.key.pub", "trial_windows": 5, "watch_seconds": 1},
            "offers": {
                "url": f"http://127.0.0.1:{self.content_port}",
                "allow_downgrade": True,
                "retry_seconds": 1,
            },
            "state_dir": "state",
        }
        path = folder / "agent.yaml"
        path.write_text(yaml.safe_dump(told, sort_keys=False), encoding="utf-8")
        return path

    def begin_broker(self) -> str:
        """Begin mosquitto where it is installed, else amqtt; gives which, in words.

        Raises:
            PlantError: Neither is there, or it does not listen.
        """
        found = shutil.which(MOSQUITTO) or shutil.which(MOSQUITTO, path="/usr/sbin")
        if found is not None:
            config = self.root / "mosquitto.conf"
            user = "user root\n" if os.geteuid() == 0 else ""
            config.write_text(
                f"listener {self.broker_port} 127.0.0.1\nallow_anonymous true\n{user}"
            )
            self._begin("broker", [found, "-c", str(config)])
        else:
            self.modern = False
            listeners = {"default": {"type": "tcp", "bind": f"127.0.0.1:{self.broker_port}"}}
            anonymous = "amqtt.plugins.authentication.AnonymousAuthPlugin"
            config = self.root / "amqtt.yaml"
            plugins = {anonymous: {"allow_anonymous": True}}
            config.write_text(yaml.safe_dump({"listeners": listeners, "plugins": plugins}))
            words = [sys.executable, "-m", "amqtt.scripts.broker_script", "-c", str(config)]
            self._begin("broker", words)
        deadline = time.monotonic() + _BROKER_SECONDS
        while True:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.broker_port)) == 0:
                    return "mosquitto" if self.modern else "amqtt"
            if time.monotonic() > deadline or not self.alive("broker"):
                raise PlantError(
                    "the demo's broker does not listen",
                    where=self.root / "broker.log",
                    remedy="Install mosquitto, or pip install amqtt.",
                )
            time.sleep(0.1)

    def add_user(self) -> str:
        """Add the page's user `demo`; gives the password."""
        password = secrets.token_urlsafe(9)
        (self.root / "page.password").write_text(password + "\n")
        code, said = self.auscult(
            "plant", "user", "add", self.file, "demo", "--role", "admin",
            "--password-file", self.root / "page.password",
        )  # fmt: skip
        if code:
            raise PlantError(f"the page's user could not be added: {said.strip()}")
        return password
