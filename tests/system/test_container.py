"""The container image, built by its own recipe on a bare Debian as base, and the compose file."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from support.bare import bare_root, pip_settings
from support.broker import Broker
from support.bundles import FAULTY_HZ, build_bundle, tone, write
from support.nspawn import ROOT, wait_for

RECIPE = ROOT / "packaging" / "container"
COMPOSE = RECIPE / "compose.yaml"
_BASE = "docker.io/library/debian:12-slim"


def test_every_file_that_compose_binds_is_there():
    compose = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    named = set(compose["volumes"])
    bound = 0
    for name, service in compose["services"].items():
        assert service["restart"] == "always", name
        for volume in service["volumes"]:
            here, inside, *_ = volume.split(":")
            assert inside.startswith("/")
            if here.startswith("."):
                assert (RECIPE / here).exists(), here
                bound += 1
            else:
                assert here in named, here
    assert bound >= 6
    build = compose["services"]["agent"]["build"]
    assert (RECIPE / build["context"] / build["dockerfile"]).is_file()


def test_what_the_recipe_copies_is_all_of_the_wheel_and_is_let_through():
    recipe = (RECIPE / "Containerfile").read_text(encoding="utf-8")
    copied = {
        one.partition("/")[0]
        for line in re.findall(r"^COPY (?!--from)(.+)$", recipe, re.MULTILINE)
        for one in line.split()[:-1]
    }
    ignore = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert copied <= {line[1:] for line in ignore if line.startswith("!")}
    wheel = (ROOT / "pyproject.toml").read_text(encoding="utf-8").partition("targets.wheel]")[2]
    packages = re.findall(r"^packages = \[(.+)\]$", wheel, re.MULTILINE)[0]
    assert set(re.findall(r'"(\w+)"', packages)) <= copied


def test_compose_reads_it():
    if (compose := shutil.which("docker-compose")) is None:
        pytest.skip("docker-compose is not installed (apt-get install docker-compose)")
    done = subprocess.run(
        [compose, "-f", COMPOSE, "--profile", "monitoring", "config"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert set(yaml.safe_load(done.stdout)["services"]) == {
        "agent", "mosquitto", "prometheus", "grafana",
    }  # fmt: skip


def test_its_configurations_are_good():
    for config in (RECIPE / "etc/agent.yaml", ROOT / "packaging/deb/agent.yaml"):
        from agent.config.agent import load_config

        assert load_config(config).web.enabled


class Store:
    """Images and containers of this test alone."""

    def __init__(self, folder: Path) -> None:
        self._options = [f"--root={folder / 'root'}", f"--runroot={folder / 'run'}"]

    def words(self, *words: object) -> list[str]:
        return ["buildah", *self._options, *map(str, words)]

    def __call__(self, *words: object, seconds: float = 120) -> str:
        done = subprocess.run(
            self.words(*words), capture_output=True, text=True, check=False, timeout=seconds
        )
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout.strip()


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """With the image `auscult`, as `podman build` in README's place would make it."""
    if os.geteuid() != 0 or shutil.which("buildah") is None:
        pytest.skip("buildah is not installed (apt-get install buildah), or this is not root")
    # $AUSCULT_IMAGES keeps them for the next time, with what did not change.
    kept = os.environ.get("AUSCULT_IMAGES")
    folder = Path(kept) if kept else tmp_path_factory.mktemp("images")
    store = Store(folder)
    if _BASE not in store("images", "--format={{.Name}}:{{.Tag}}"):
        # No registry is needed: the base that the recipe names is made of a bare Debian.
        base = store("from", "scratch")
        store("add", "-q", base, bare_root(folder), "/", seconds=600)
        store("commit", "-q", base, _BASE, seconds=600)
        store("rm", base)
    settings, binds = pip_settings()
    (folder / "pip.conf").write_text(settings)
    binds = {str(folder / "pip.conf"): "/etc/pip.conf", **binds}
    store(
        "build", "--isolation=chroot", "--network=host", "--pull-never",
        *(["--layers"] if kept else []),
        *(f"--volume={here}:{inside}:ro" for here, inside in binds.items()),
        "-t", "auscult", "-f", RECIPE / "Containerfile", ROOT,
        seconds=2400,
    )  # fmt: skip
    yield store
    store("rm", "--all")
    if not kept:
        store("rmi", "--all", "--force")


_CONFIG = """\
device: box
machines:
- name: pump
  bundle: bundle
  source: {{kind: replay, paths: [sound], loop: true}}
  decide: {{latch: true, raise_seconds: 2, of_seconds: 3}}
mqtt: {{host: 127.0.0.1, port: {port}}}
"""


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_the_image_holds_the_agent_and_no_compiler(store):
    settings = json.loads(store("inspect", "--type", "image", "auscult"))["OCIv1"]["config"]
    assert settings["User"] == "auscult"
    assert settings["Entrypoint"] == ["auscult"]
    assert settings["Cmd"] == ["run", "--config", "/etc/auscult/agent.yaml"]
    assert "/var/lib/auscult" in settings["Volumes"]
    box = store("from", "auscult")
    root = Path(store("mount", box))
    assert not (root / "usr/bin/g++").exists()
    assert not (root / "source").exists()
    assert not list(root.glob("opt/auscult/lib/python3*/site-packages/torch"))
    assert (root / "opt/auscult/bin/auscult").exists()
    store("umount", box)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_listens_alarms_ends_in_order_and_takes_up_again(store, tmp_path):
    etc, state = tmp_path / "etc", tmp_path / "state"
    shutil.copytree(build_bundle(tmp_path / "b" / "tiny"), etc / "bundle")
    write(etc / "sound" / "1.wav", tone(20, FAULTY_HZ, seed=2))
    state.mkdir()
    box = store("from", "auscult")
    uid = store("run", "--isolation=chroot", box, "--", "id", "-u").split()[-1]
    assert uid == "970"
    os.chown(state, 970, 970)
    log = tmp_path / "log"
    settings = json.loads(store("inspect", "--type", "image", "auscult"))["OCIv1"]["config"]

    def listen() -> subprocess.Popen[bytes]:
        # A new container each time, as after an upgrade of the image: what it keeps is in the volume.
        box = store("from", "auscult")
        with log.open("ab") as file:
            return subprocess.Popen(
                store.words(
                    "run", "--isolation=chroot", "--network=host",
                    f"--volume={etc}:/etc/auscult:ro",
                    # Beside the declared volume, over which buildah (unlike podman) may lay its own.
                    f"--volume={state}:/state", "--env=STATE_DIRECTORY=/state", box,
                    "--", *settings["Entrypoint"], *settings["Cmd"],
                ),
                stdout=file, stderr=file,
            )  # fmt: skip

    def alarm() -> str | None:
        kept = state / "state/pump.json"
        return json.loads(kept.read_text())["alarm_id"] if kept.exists() else None

    with Broker(tmp_path / "broker") as broker:
        (etc / "agent.yaml").write_text(_CONFIG.format(port=broker.port))
        subprocess.run(["chmod", "-R", "go+rX", etc], check=True)
        running = listen()
        try:
            raised = wait_for(alarm, 180)
            os.kill(_agent_of(running), signal.SIGTERM)
            assert running.wait(60) == 0
            assert alarm() == raised
            running = listen()
            stands = f"alarm {raised} stood when the agent ended, and stands"
            wait_for(lambda: stands in log.read_text(), 180)
            os.kill(_agent_of(running), signal.SIGTERM)
            assert running.wait(60) == 0
        except BaseException:
            sys.stderr.write(log.read_text()[-3000:])
            raise
        finally:
            running.kill()
            running.wait()


def _agent_of(process: subprocess.Popen[bytes]) -> int:
    """The agent below buildah's own processes."""
    listed = subprocess.run(
        ["ps", "-e", "-o", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    below = {process.pid}
    for line in sorted(listed.splitlines(), key=lambda line: int(line.split()[0])):
        pid, parent, command = line.split(None, 2)
        if int(parent) in below:
            below.add(int(pid))
            if command.startswith("/opt/auscult/bin/python"):
                return int(pid)
    raise AssertionError("no agent runs")
