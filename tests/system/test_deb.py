"""The Debian package on a bare Debian 12: install, run, upgrade with the state kept, remove, purge."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from support.bare import Bare, Network, bare_root
from support.bundles import FAULTY_HZ, build_bundle, tone, write
from support.nspawn import ROOT, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3000)]

_CONFIG = """\
machines:
- name: pump
  bundle: bundle
  source: {kind: replay, paths: [sound], loop: true}
  decide: {latch: true, raise_seconds: 2, of_seconds: 3}
web: {enabled: true}
"""


@pytest.fixture(scope="module")
def deb(tmp_path_factory) -> Path:
    """The package; $AUSCULT_DEB names one that is built already."""
    if (made := os.environ.get("AUSCULT_DEB")) is not None:
        return Path(made)
    if "VERSION_CODENAME=bookworm\n" not in Path("/etc/os-release").read_text():
        pytest.skip("the package is built where it is for: on Debian 12")
    tree = tmp_path_factory.mktemp("source")
    for name in ("agent", "trainer", "export", "plant", "configs", "systemd", "packaging"):
        shutil.copytree(ROOT / name, tree / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, tree)
    done = subprocess.run(
        [tree / "packaging/deb/build.sh"], capture_output=True, text=True, check=False
    )
    if "cannot be built without" in done.stderr:
        pytest.skip(done.stderr.strip())
    assert done.returncode == 0, done.stderr
    (made,) = (tree / "dist").glob("auscult_*.deb")
    return made


def newer(deb: Path, folder: Path) -> Path:
    """The same package, of a later version: its code says so."""
    tree = folder / "tree"
    subprocess.run(["dpkg-deb", "-R", deb, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(re.sub(r"(?m)^Version: .*$", "Version: 99.0", control.read_text()))
    (code,) = tree.glob("opt/auscult/lib/python3*/site-packages/agent/__init__.py")
    code.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99.0"', code.read_text()))
    made = folder / "auscult_99.0.deb"
    subprocess.run(["dpkg-deb", "-Znone", "-b", tree, made], check=True, capture_output=True)
    return made


def test_lintian_has_no_complaint(deb):
    if shutil.which("lintian") is None:
        pytest.skip("lintian is not installed (apt-get install lintian)")
    done = subprocess.run(
        ["lintian", "--allow-root", "--fail-on", "error,warning", deb],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


def test_what_it_holds(deb):
    listed = subprocess.run(
        ["dpkg-deb", "-c", deb], capture_output=True, text=True, check=True
    ).stdout
    for name in (
        "/opt/auscult/bin/auscult",
        "/usr/bin/auscult -> /opt/auscult/bin/auscult",
        "/lib/systemd/system/auscult.service",
        "/lib/systemd/system/auscult@.service",
        "/etc/auscult/agent.yaml",
        "/agent/web/static/app.js",
        "/trainer/configs/presets/auscult_scratch.yaml",
        "/usr/share/bash-completion/completions/auscult",
    ):
        assert f"{name}\n" in listed, name
    # Nothing of training, nothing to install with, nothing of where it was built.
    assert not re.search(r"site-packages/(torch|sklearn|lightning_fabric|pip|setuptools)/", listed)
    control = subprocess.run(
        ["dpkg-deb", "-f", deb, "Depends"], capture_output=True, text=True, check=True
    ).stdout
    assert "libportaudio2" in control
    assert re.search(r"python3 \(>= 3\.\d+\), python3 \(<< 3\.\d+\)", control)
    assert "libstdc++6" in control


class Device(Bare):
    """A bare Debian with packages at hand."""

    def apt(self, *words: str, check: bool = True) -> str:
        return self.run(
            "sh", "-c", f"DEBIAN_FRONTEND=noninteractive apt-get -y {' '.join(words)} 2>&1 </dev/null",
            check=check, seconds=900,
        )  # fmt: skip

    def alarm(self) -> str | None:
        state = self.root / "var/lib/private/auscult/state/pump.json"
        return json.loads(state.read_text())["alarm_id"] if state.exists() else None

    def active(self) -> bool:
        return self.show("auscult", "ActiveState") == "active"


_ASK = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8765/').status)"
_IMPORTS = """
import numpy, onnxruntime, starlette, uvicorn, cryptography, sounddevice, importlib.util
print([0, 1], importlib.util.find_spec("torch"))
"""


def test_install_upgrade_remove_purge(deb, tmp_path, tmp_path_factory):
    lower = bare_root(tmp_path_factory.mktemp("bare"))
    with Network() as network, Device(tmp_path / "d", lower, "hall-2", network) as device:
        shutil.copy(deb, device.root / "root/auscult.deb")
        shutil.copy(newer(deb, tmp_path), device.root / "root/newer.deb")
        device.run("apt-get", "update", seconds=300)

        # An installation by hand is not mixed with.
        by_hand = device.root / "opt/auscult"
        by_hand.mkdir(mode=0o755)
        (by_hand / "pyvenv.cfg").touch()
        assert "was installed by hand" in device.apt("install", "/root/auscult.deb", check=False)
        assert list(by_hand.iterdir()) == [by_hand / "pyvenv.cfg"]
        shutil.rmtree(by_hand)
        device.apt("purge", "auscult")

        # Install: it runs at once, with its page.
        told = device.apt("install", "/root/auscult.deb")
        assert "warning" not in told.lower(), told
        assert device.active(), device.journal("auscult")
        assert device.show("auscult", "UnitFileState") == "enabled"
        wait_for(lambda: device.run("/opt/auscult/bin/python", "-c", _ASK, check=False) == "200")
        # A user of systemd's making (whose name only libnss-systemd would tell).
        uid = device.run("stat", "-c", "%u", f"/proc/{device.show('auscult', 'MainPID')}")
        assert 61184 <= int(uid) <= 65519
        assert device.run("/opt/auscult/bin/python", "-c", _IMPORTS) == "[0, 1] None"
        for words in (
            ["auscult", "--version"],
            ["sudo", "auscult", "--version"],
            ["runuser", "-l", "engineer", "-c", "auscult --version"],
        ):
            assert device.run(*words).startswith("auscult"), words
        assert "Unknown" not in device.journal("auscult")
        device.run("systemd-analyze", "verify", "/lib/systemd/system/auscult.service")

        # Put to use.
        etc = device.root / "etc/auscult"
        shutil.copytree(build_bundle(tmp_path / "b" / "tiny"), etc / "bundle")
        write(etc / "sound" / "1.wav", tone(20, FAULTY_HZ, seed=2))
        (etc / "agent.yaml").write_text(_CONFIG)
        (etc / "second.yaml").write_text(_CONFIG.partition("web:")[0])
        device.run("chmod", "-R", "go+rX", "/etc/auscult")
        # The unit is there already, and is not written a second time.
        told = device.run("auscult", "install-service")
        assert "/lib/systemd/system/auscult.service" in told
        assert not (device.root / "etc/systemd/system/auscult.service").exists()
        device.run("systemctl", "restart", "auscult", seconds=300)
        device.run("systemctl", "start", "auscult@second", seconds=300)
        alarm = wait_for(device.alarm, 180)
        first, second = (device.show(unit, "MainPID") for unit in ("auscult", "auscult@second"))

        # Upgrade: configuration and alarm are as they were, and the new code runs.
        device.apt("install", "/root/newer.deb")
        assert device.run("auscult", "--version").endswith("99.0")
        wait_for(device.active, 180)
        assert device.show("auscult", "MainPID") not in {"0", first}
        assert device.show("auscult@second", "MainPID") not in {"0", second}
        assert (etc / "agent.yaml").read_text() == _CONFIG
        assert device.alarm() == alarm
        assert f"alarm {alarm} stood when the agent ended, and stands" in device.journal("auscult")

        # Remove: nothing runs, nothing of the program is left; configuration and state are.
        device.apt("remove", "auscult")
        assert not device.active()
        assert device.show("auscult@second", "ActiveState") == "inactive"
        for gone in ("opt/auscult", "usr/bin/auscult", "lib/systemd/system/auscult.service"):
            assert not os.path.lexists(device.root / gone), gone
        assert device.alarm() == alarm
        assert (etc / "agent.yaml").read_text() == _CONFIG

        # And back: where it had ended.
        device.apt("install", "/root/newer.deb")
        wait_for(device.active, 180)
        assert device.alarm() == alarm

        # Purge: the state goes too; what somebody has put into /etc/auscult is theirs.
        told = device.apt("purge", "auscult")
        assert "they are left" in told
        for gone in (
            "opt/auscult",
            "var/lib/auscult",
            "var/lib/private/auscult",
            "var/lib/private/auscult-second",
        ):
            assert not os.path.lexists(device.root / gone), gone
        assert sorted(path.name for path in etc.iterdir()) == ["bundle", "second.yaml", "sound"]
        left = device.run(
            "find", "/etc/systemd", "/lib/systemd", "/var/lib/systemd", "-name", "auscult*"
        )
        assert left == "", left
        assert device.run("dpkg-query", "-W", "auscult", check=False) == ""
