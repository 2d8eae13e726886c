"""A real systemd, booted in a container over this machine's own files; nothing of it is kept."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
_LAUNCHER = """#!/opt/auscult/bin/python
import sys
from agent.cli import main
sys.exit(main())
"""
_PACKAGES = "/opt/packages"


def _package_folders() -> list[Path]:
    """Where this interpreter's packages lie, several where one environment adds another's."""
    return [Path(one) for one in sys.path if one.endswith("-packages")]


def need_systemd() -> None:
    """Skip, saying why, where none can be booted."""
    if os.geteuid() != 0:
        pytest.skip("booting a systemd needs root")
    for tool, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux")):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install {package})")
    if not Path("/lib/systemd/systemd").exists():
        pytest.skip("systemd is not installed (apt-get install systemd-sysv dbus)")


def wait_for(what, seconds: float = 30.0, step: float = 0.2):
    """The first true result of `what`."""
    deadline = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(step)
    return found


class Machine:
    """Use as a context manager. `root` is the container's file system.

    This interpreter, its packages and this checkout are bound into /opt, where a dynamic user can
    read them, and /opt/auscult is a virtual environment made of them.
    """

    lower: Path = Path("/")

    def __init__(self, folder: Path) -> None:
        need_systemd()
        self._folder = folder
        self.root = folder / "root"
        self._nspawn: subprocess.Popen[bytes] | None = None

    def __enter__(self):
        upper, work = self._folder / "upper", self._folder / "work"
        for place in (self.root, upper, work):
            place.mkdir(parents=True)
        mounted = subprocess.run(
            ["mount", "-t", "overlay", "overlay", "-o",
             f"lowerdir={self.lower},upperdir={upper},workdir={work}", self.root],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if mounted.returncode:
            pytest.skip(f"no overlay can be mounted here: {mounted.stderr.strip()}")
        try:
            self._furnish()
            self.boot()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.power_off()
        subprocess.run(["umount", "-l", self.root], check=False)

    def _furnish(self) -> None:
        opt = self.root / "opt"
        home = opt / "auscult"
        version = f"python{sys.version_info.major}.{sys.version_info.minor}"
        packages = home / "lib" / version / "site-packages"
        for place in (opt / "python", opt / "source", packages, home / "bin"):
            place.mkdir(parents=True, mode=0o755, exist_ok=True)
        (home / "pyvenv.cfg").write_text("home = /opt/python/bin\n")
        inside = [f"{_PACKAGES}/{number}" for number in range(len(_package_folders()))]
        (packages / "tested.pth").write_text("\n".join([*inside, "/opt/source", ""]))
        (home / "bin" / "python").symlink_to(f"/opt/python/bin/{version}")
        launcher = home / "bin" / "auscult"
        launcher.write_text(_LAUNCHER)
        launcher.chmod(0o755)
        # An interpreter with a shared library looks for it where it was built, which may be closed.
        manager = self.root / "etc/systemd/system.conf.d/tested.conf"
        manager.parent.mkdir(parents=True, exist_ok=True)
        manager.write_text("[Manager]\nDefaultEnvironment=LD_LIBRARY_PATH=/opt/python/lib\n")
        # Whatever this machine itself runs is none of ours.
        for unit in (self.root / "etc/systemd/system").glob("*.wants/*"):
            unit.unlink()

    def boot(self) -> None:
        """Start; returns when systemd has."""
        self._log = (self._folder / "console.log").open("ab")
        self._nspawn = subprocess.Popen(
            ["systemd-nspawn", "-b", "-q", "-D", self.root, f"--machine={self._name()}",
             "--register=no", "--keep-unit",
             # As on a device: whether the clock is right may be asked (not set).
             "--system-call-filter=@clock", *self._surroundings()],
            stdin=subprocess.DEVNULL, stdout=self._log, stderr=self._log,
        )  # fmt: skip
        wait_for(self._up, 60)

    def _name(self) -> str:
        return f"auscult-{os.getpid()}"

    def _surroundings(self) -> list[str]:
        """Arguments of systemd-nspawn: the network, and what of this machine is seen inside."""
        packages = enumerate(_package_folders())
        return [
            "--private-network",
            f"--bind-ro={sys.base_prefix}:/opt/python",
            *(f"--bind-ro={folder}:{_PACKAGES}/{number}" for number, folder in packages),
            f"--bind-ro={ROOT}:/opt/source",
        ]

    def _up(self) -> bool:
        assert self._nspawn is not None
        if self._nspawn.poll() is not None:
            text = (self._folder / "console.log").read_text(errors="replace")[-500:]
            pytest.skip(f"systemd-nspawn cannot boot here: {text}")
        if not self._leader():
            return False
        return self.run("systemctl", "is-system-running", check=False) in {"running", "degraded"}

    def _leader(self) -> str:
        """The container's first process."""
        assert self._nspawn is not None
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return children[0] if children else ""

    def run(self, *words: str, check: bool = True, seconds: float = 60) -> str:
        """Run a command inside; its stdout."""
        done = subprocess.run(
            ["nsenter", "-t", self._leader(), "-m", "-u", "-i", "-n", "-p", "-r", "-w", *words],
            capture_output=True, text=True, timeout=seconds, check=False,
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"},
        )  # fmt: skip
        assert not check or done.returncode == 0, f"{words}: {done.stdout}{done.stderr}"
        return done.stdout.strip()

    def show(self, unit: str, name: str) -> str:
        """A property of a unit."""
        return self.run("systemctl", "show", "--value", "-p", name, unit)

    def journal(self, unit: str) -> str:
        """What a unit logged, with systemd's own lines about it."""
        return self.run("journalctl", "--no-pager", "-o", "short", "-u", unit)

    def reboot(self) -> None:
        """End systemd in order, and boot again over the same files."""
        self.power_off()
        self.boot()

    def power_off(self) -> None:
        """End systemd in order, or by force when it does not."""
        process, self._nspawn = self._nspawn, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)  # which has nspawn shut the container down
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._log.close()
