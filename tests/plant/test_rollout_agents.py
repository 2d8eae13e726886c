"""Rollouts to real agents over a real broker: replayed machines, a killed device, a bad bundle."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time

import pytest
import yaml
from click.testing import CliRunner
from support.broker import Broker, Subscriber
from support.bundles import tone, write
from support.offers import keys, release

from agent.bundle.verify import read_manifest
from plant.commands.plant import plant as plant_command
from plant.learn.schema import load_plant
from plant.rollout.plan import Plans
from plant.rollout.repository import Repository
from plant.rollout.service import RolloutService, wanted

pytest.importorskip("cryptography")
pytest.importorskip("uvicorn")

DEVICES = ("line-1", "line-2", "line-3")
AUSCULT = (sys.executable, "-m", "agent.cli")


class Plant:
    """A folder with a broker, a rollout service and three agents of one machine each."""

    def __init__(self, root, broker) -> None:
        self.root, self.broker = root, broker
        self.key = keys(root)
        self.file = root / "plant.yaml"
        self.agents: dict[str, subprocess.Popen[bytes]] = {}
        rollout = {
            "port": 0, "canary_share": 0.3, "most_failed": 0.4,
            "gate": {"watch_seconds": 2, "least_windows": 8, "take_seconds": 120},
        }  # fmt: skip
        self.write_plant(rollout)
        self.service = RolloutService(root / "plant", *wanted(load_plant(self.file), self.file))
        self.service.start()
        self.thread = threading.Thread(target=self.service.run, daemon=True)
        self.thread.start()
        write(root / "sound.wav", tone(60))

    def write_plant(self, rollout) -> None:
        told = {
            "plant": "hall", "out": "plant", "sign": "site.key", "rollout": rollout,
            "broker": {"host": "127.0.0.1", "port": self.broker.port},
            "machines": [{"name": "pump", "data": "none"}],
        }  # fmt: skip
        self.file.write_text(yaml.safe_dump(told))

    def begin(self, device: str, *, first=None) -> None:
        folder = self.root / device
        if not folder.exists():
            folder.mkdir()
            source = {"kind": "replay", "paths": [str(self.root / "sound.wav")], "loop": True}
            told = {
                "device": device,
                "machines": [{"name": "pump", "bundle": "pump.bundle", "source": source}],
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
            (folder / "agent.yaml").write_text(yaml.safe_dump(told))
            if first is not None:
                subprocess.run(["cp", "-r", first, folder / "pump.bundle"], check=True)
        log = (folder / "log").open("ab")
        self.agents[device] = subprocess.Popen(
            [*AUSCULT, "run", "--config", folder / "agent.yaml"], stdout=log, stderr=log
        )

    def end(self) -> None:
        self.service.stop()
        self.thread.join(10)
        for process in self.agents.values():
            process.kill()
            process.wait()

    def offer(self, bundle, *words) -> str:
        done = CliRunner().invoke(
            plant_command, ["offer", str(self.file), str(bundle), *words], catch_exceptions=False
        )
        assert done.exit_code == 0, done.output
        return done.output

    def rollout(self, wanted=lambda rollout: rollout.state != "running", seconds=120.0):
        deadline = time.monotonic() + seconds
        while True:
            latest = list(Plans(self.root / "plant/rollouts").all())[-1]
            if wanted(latest):
                return latest
            assert time.monotonic() < deadline, (latest, self.logs())
            time.sleep(0.2)

    def logs(self) -> str:
        return "".join((self.root / name / "log").read_text()[-1500:] for name in self.agents)


@pytest.fixture
def plant(tmp_path):
    with Broker(tmp_path / "broker", ("allow_anonymous true", "persistence false")) as broker:
        made = Plant(tmp_path, broker)
        yield made
        made.end()


@pytest.fixture
def running(plant):
    """Three agents that run the first release."""
    first = release(plant.root / "r1", plant.key, 1, threshold=0.5)
    with Subscriber(plant.broker.port) as heard:
        for device in DEVICES:
            plant.begin(device, first=first)
        for device in DEVICES:
            heard.wait(f"{device}/pump/offered", lambda one: one["state"] == "none", 60)
            heard.wait(f"{device}/health", lambda one: one["machines"]["pump"]["windows"] > 0, 60)
    # The bundle before can be given back only where the plant has it.
    Repository(plant.root / "plant" / "repository").add(first)
    return plant


@pytest.mark.slow
def test_a_good_bundle_reaches_all_and_a_bad_one_is_taken_back(running, tmp_path):
    good = release(tmp_path / "r2", running.key, 2, threshold=0.6)
    bad = release(tmp_path / "r3", running.key, 3, threshold=-1.0)  # all is above it
    told = running.offer(good, "--reason", "spring")
    assert [line.split("\t")[0] for line in told.splitlines() if "\t" in line].count("first") == 1
    done = running.rollout()
    assert done.state == "done"
    assert {one.state for one in done.targets} == {"passed"}

    running.offer(bad)
    back = running.rollout()
    assert back.state == "put back"
    assert "windows are above the threshold" in back.why
    canary = next(one for one in back.targets if one.canary)
    with Subscriber(running.broker.port) as heard:
        for device in DEVICES:
            info = heard.wait(
                f"{device}/info",
                lambda one: (
                    one["machines"]["pump"]["manifest_sha256"] == read_manifest(good).digest
                ),
                60,
            )
            assert info["device"] == device
        offered = heard.wait(
            f"{canary.device}/pump/offered",
            lambda one: one["sequence"] == canary.sequence and one["state"] == "taken", 60,
        )  # fmt: skip
    # What went back was on the device but for its manifest... or is fetched; never the whole plant.
    assert offered["bytes"] == offered["fetched_bytes"] + offered["reused_bytes"]
    for device in DEVICES:
        place = running.root / device / "pump.bundle"
        assert read_manifest(place).digest == read_manifest(good).digest

    listed = running.root / "list.json"
    done = CliRunner().invoke(
        plant_command, ["inventory", str(running.file), "--json", str(listed)]
    )
    assert done.exit_code == 0, done.output
    machines = json.loads(listed.read_text())["machines"]
    assert {one["bundle"] for one in machines} == {read_manifest(good).digest}
    assert {one["device"] for one in machines} == set(DEVICES)


@pytest.mark.slow
def test_a_device_killed_half_way_and_a_broker_outage_only_cost_time(running, tmp_path):
    good = release(tmp_path / "r2", running.key, 2, threshold=0.6)
    # The canary has gone with half of a file on its disk.
    running.offer(good, "--canary", "0.3")
    first = running.rollout(lambda one: any(t.canary and t.state != "pending" for t in one.targets))
    canary = next(one.device for one in first.targets if one.canary)
    running.agents[canary].send_signal(signal.SIGKILL)
    running.agents[canary].wait()
    running.broker.stop()
    time.sleep(2)
    # Without persistence: this broker has forgotten offers and states.
    running.broker.start()
    running.begin(canary)
    done = running.rollout(seconds=180)

    assert done.state == "done", done
    assert {one.state for one in done.targets} == {"passed"}
    for device in DEVICES:
        place = running.root / device / "pump.bundle"
        assert read_manifest(place).digest == read_manifest(good).digest
        assert not list((running.root / device / "state/offers/content").iterdir())
