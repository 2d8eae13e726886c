"""Other processors than this one, by emulation: an x86 without VNNI, and an aarch64.

What runs there is `embed_here.py`, which takes a graph and sounds and gives embeddings, with nothing
but NumPy and onnxruntime.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

SCRIPT = Path(__file__).with_name("embed_here.py")
BUILD = Path(__file__).parents[2] / "build" / "aarch64"
_MIRROR = "http://deb.debian.org/debian"
# What Python and onnxruntime are linked with.
_PACKAGES = "python3-minimal,libpython3-stdlib,libstdc++6,libgomp1"
_WHEELS = ("manylinux_2_17", "manylinux2014", "manylinux_2_27", "manylinux_2_28")
_SECONDS = 900


def without_vnni() -> list[str]:
    """Command that runs this Python on an emulated x86 with AVX2 and without VNNI (Haswell)."""
    if platform.machine() != "x86_64":
        pytest.skip("this is no x86")
    return [_qemu("x86_64"), "-cpu", "Haswell", sys.executable]


def aarch64() -> list[str]:
    """Command that runs a Python on an emulated aarch64.

    Its files are taken from $AUSCULT_AARCH64_ROOT, or gathered in `build/aarch64`: Debian's packages,
    unpacked and never installed, and two wheels; some 700 MB, a few minutes, once.
    """
    place = Path(os.environ.get("AUSCULT_AARCH64_ROOT", BUILD))
    qemu = _qemu("aarch64")
    if not (place / "whole").exists():
        _gather(place)
    pythons = sorted((place / "root/usr/bin").glob("python3.*[0-9]"))
    return [
        qemu, "-L", str(place / "root"), "-E", f"PYTHONHOME={place / 'root/usr'}",
        "-E", f"PYTHONPATH={place / 'site'}", str(pythons[0]),
    ]  # fmt: skip


def embeddings(command: list[str], graph: Path, sounds: np.ndarray, folder: Path) -> np.ndarray:
    """What a graph gives on another processor, float32 `(n, dim)`.

    Args:
        command: Of `without_vnni` or `aarch64`.
        graph: The graph.
        sounds: Windows, float32 `(n, samples)`.
        folder: For files in between.
    """
    given, made = folder / "given.npy", folder / "made.npy"
    np.save(given, sounds)
    done = subprocess.run(
        [*command, str(SCRIPT), str(graph), str(given), str(made)],
        capture_output=True, text=True, timeout=_SECONDS, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return np.load(made)


def _qemu(machine: str) -> str:
    name = f"qemu-{machine}-static"
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed (apt-get install qemu-user-static)")
    return found


def _gather(place: Path) -> None:
    tool = shutil.which("debootstrap", path=f"{os.environ['PATH']}:/usr/sbin")
    if tool is None or os.geteuid() != 0:
        pytest.skip("gathering an aarch64's files takes root and debootstrap (apt-get install)")
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    root = place / "root"
    # The first stage alone: it fetches packages for another architecture and runs none of them.
    _run(
        [tool, "--foreign", "--arch=arm64", "--variant=minbase", f"--include={_PACKAGES}",
         "bookworm", str(root), os.environ.get("DEBIAN_MIRROR", _MIRROR)]
    )  # fmt: skip
    for package in sorted((root / "var/cache/apt/archives").glob("*.deb")):
        _run(["dpkg-deb", "-x", str(package), str(root)])
    names = [f"{name}=={version(name)}" for name in ("numpy", "onnxruntime")]
    _run(
        [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:",
         "--implementation", "cp", "--python-version", "3.11",
         *(f"--platform={kind}_aarch64" for kind in _WHEELS),
         "--target", str(place / "site"), *names]
    )  # fmt: skip
    (place / "whole").touch()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        pytest.skip(f"an aarch64's files cannot be gathered: {(done.stderr or done.stdout)[-300:]}")
