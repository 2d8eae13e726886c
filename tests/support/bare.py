"""A bare Debian 12 as its installer leaves it, booted in a container, with a network to install over."""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from support.nspawn import ROOT, Machine, need_systemd

USER = "engineer"
HOME = f"/home/{USER}"
# What the installer puts on a device beside the minimal system: SSH, sudo, an init.
_STANDARD = "sudo,openssh-server,openssh-client,systemd-sysv,dbus,iproute2,procps,ca-certificates"
# Where this machine's own package files and certificates are seen inside.
_HANDED = "/opt/handed"


def bare_root(folder: Path) -> Path:
    """The file system of a bare Debian 12, made in `folder`; $AUSCULT_BARE_ROOT keeps one for the next time."""
    need_systemd()
    for tool in ("debootstrap", "slirp4netns"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is not installed (apt-get install {tool})")
    root = Path(os.environ.get("AUSCULT_BARE_ROOT", folder / "bookworm"))
    if (root / "etc/debian_version").exists():
        return root
    done = subprocess.run(
        ["debootstrap", "--variant=minbase", f"--include={_STANDARD}", "bookworm", root, _mirror()],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        shutil.rmtree(root, ignore_errors=True)
        pytest.skip(f"no Debian can be fetched here: {done.stdout[-300:]}{done.stderr[-300:]}")
    return root


def _mirror() -> str:
    """The mirror that this machine itself uses."""
    places = sorted(Path("/etc/apt").glob("sources.list.d/*.sources"))
    found = re.search(
        r"^URIs:\s*(\S+)",
        "\n".join(place.read_text() for place in places if "debian" in place.name),
        re.MULTILINE,
    )
    return found[1] if found else "http://deb.debian.org/debian"


def pip_settings() -> tuple[str, dict[str, str]]:
    """How pip finds packages on this machine, for a pip in a container.

    Returns:
        A pip.conf, and which files and folders of this machine it needs inside, and where.
    """
    told = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"],
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    settings: dict[str, str] = {}
    binds: dict[str, str] = {}
    for line in told.splitlines():
        name, _, value = line.partition("=")
        settings[name.rpartition(".")[2]] = _handed(str(ast.literal_eval(value)), binds)
    lines = [f"{name} = {value}" for name, value in settings.items()]
    return "\n".join(["[global]", *lines, ""]), binds


def _handed(value: str, binds: dict[str, str]) -> str:
    """A setting with the files and folders it names as they are seen inside, which `binds` learns."""
    words = []
    for word in value.split():
        path = Path(word.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            # The folder above, where packages lie beside their index.
            top = path.parent if word.startswith("file://") else path
            binds[str(top)] = f"{_HANDED}{top}"
            words.append(word.replace(str(path), f"{_HANDED}{path}"))
        else:
            words.append(word)
    return " ".join(words)


class Network:
    """A network of its own for some machines: they reach each other at 127.0.0.1, and the outside."""

    def __enter__(self):
        self._holder = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        self.path = Path(f"/proc/{self._holder.pid}/ns/net")
        while self.path.readlink() == Path("/proc/self/ns/net").readlink():
            time.sleep(0.05)
        self._slirp = subprocess.Popen(
            ["slirp4netns", "--configure", "--mtu=65520", str(self._holder.pid), "tap0"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        return self

    def __exit__(self, *_: object) -> None:
        for process in (self._slirp, self._holder):
            process.kill()
            process.wait()


class Bare(Machine):
    """Use as a context manager.

    Its user may use sudo, has this checkout in ~/auscult, and reaches `hall-2` over SSH.
    """

    def __init__(self, folder: Path, lower: Path, name: str, network: Network) -> None:
        super().__init__(folder)
        self.lower = lower
        self.name = name
        self._network = network
        self._pip, self._binds = pip_settings()

    def _name(self) -> str:
        return f"{self.name}-{os.getpid()}"

    def _surroundings(self) -> list[str]:
        return [
            f"--network-namespace-path={self._network.path}",
            "--resolv-conf=off",
            *(f"--bind-ro={here}:{inside}" for here, inside in self._binds.items()),
        ]

    def _furnish(self) -> None:
        etc = self.root / "etc"
        (etc / "resolv.conf").unlink(missing_ok=True)
        (etc / "resolv.conf").write_text("nameserver 10.0.2.3\n")
        (etc / "hostname").write_text(f"{self.name}\n")
        (etc / "hosts").write_text("127.0.0.1 localhost workstation hall-2\n")
        (etc / "sudoers.d/engineer").write_text(f"{USER} ALL=(ALL:ALL) NOPASSWD: ALL\n")
        (etc / "pip.conf").write_text(self._pip)
        self._chroot("useradd", "--create-home", "--shell=/bin/bash", "--groups=sudo", USER)
        home = self.root / HOME.lstrip("/")
        self.copy_checkout(home / "auscult")
        ssh = home / ".ssh"
        ssh.mkdir(mode=0o700)
        (ssh / "config").write_text("Host *\n  StrictHostKeyChecking accept-new\n")
        key = self.lower.parent / "key"
        if not key.exists():
            subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key], check=True)
        shutil.copy(key, ssh / "id_ed25519")
        shutil.copy(key.with_suffix(".pub"), ssh / "authorized_keys")
        if (torch := os.environ.get("PIP_FIND_LINKS")) is not None:
            with (home / ".profile").open("a") as profile:
                profile.write(f"export PIP_FIND_LINKS={_handed(torch, self._binds)}\n")
        self._chroot("chown", "-R", f"{USER}:{USER}", HOME)
        if self.name != "hall-2":
            (etc / "systemd/system/ssh.service").symlink_to("/dev/null")

    def copy_checkout(self, place: Path) -> None:
        """This checkout as a clone would have it."""
        listed = subprocess.run(
            ["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            capture_output=True, check=True,
        ).stdout  # fmt: skip
        for name in filter(None, listed.decode().split("\0")):
            if (ROOT / name).is_file():
                (place / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(ROOT / name, place / name)

    def _chroot(self, *words: str) -> None:
        subprocess.run(["chroot", self.root, *words], check=True, capture_output=True)

    def type(self, commands: str, seconds: float = 1200) -> str:
        """Type commands into a fresh login of the user, in the checkout; what they print."""
        script = self.root / HOME.lstrip("/") / ".typed"
        script.write_text(f"cd ~/auscult\nexec 2>&1 </dev/null\n{commands}\n")
        return self.run(
            "runuser", "-l", USER, "-c", "bash -eu -o pipefail ~/.typed", seconds=seconds
        )
