"""What a board's own files say: software, power mode, governor, cores that are switched off.

A Jetson's power mode (15 W, 25 W, unlimited) decides how many cores run, and how fast; figures
without it say little. Written after NVIDIA's and the kernel's documentation; not run on a Jetson.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field

from agent.core.schema import Strict

_ROOT = Path("/")
_RELEASE = re.compile(r"#\s*(R\d+)\s.*?REVISION:\s*([\d.]+)")
_MODE = re.compile(r"pmode:0*(\d+)")
_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_CUDA = re.compile(r'"cuda"\s*:\s*\{[^}]*"version"\s*:\s*"([\d.]+)"')
_VERSION = re.compile(r"\.so\.(\d+\.\d+[\d.]*)$")


class Board(Strict):
    """A board's settings; what it does not tell is empty."""

    release: Annotated[str, Field(description="NVIDIA's Jetson Linux (R36, 4.3)")] = ""
    power_mode: Annotated[str, Field(description="Power mode of nvpmodel: number and name")] = ""
    governors: Annotated[
        tuple[str, ...], Field(description="How the cores' frequency is chosen (cpufreq)")
    ] = ()
    cores_present: Annotated[
        int | None, Field(description="Cores there are, those included that are switched off")
    ] = None
    cuda: Annotated[str, Field(description="CUDA's version, where it is installed")] = ""
    tensorrt: Annotated[str, Field(description="TensorRT's version, where it is installed")] = ""


def read_board(root: Path = _ROOT) -> Board:
    """Read what there is.

    Args:
        root: Where the system's files begin.
    """
    release = _RELEASE.search(_text(root / "etc/nv_tegra_release"))
    cores = root / "sys/devices/system/cpu"
    governors = {_text(place) for place in cores.glob("cpu[0-9]*/cpufreq/scaling_governor")}
    cuda = _CUDA.search(_text(root / "usr/local/cuda/version.json"))
    found = [
        match[1]
        for folder in ("usr/lib", "usr/lib/aarch64-linux-gnu", "usr/lib/x86_64-linux-gnu")
        for place in sorted((root / folder).glob("libnvinfer.so.*"))
        if (match := _VERSION.search(place.name))
    ]
    return Board(
        release=f"{release[1]}, {release[2]}" if release else "",
        power_mode=_power_mode(root),
        governors=tuple(sorted(governors - {""})),
        cores_present=_count(_text(cores / "present")),
        cuda=cuda[1] if cuda else "",
        tensorrt=found[-1] if found else "",
    )


def _power_mode(root: Path) -> str:
    number = _MODE.search(_text(root / "var/lib/nvpmodel/status"))
    if number is None:
        return ""
    names = dict(_MODEL.findall(_text(root / "etc/nvpmodel.conf")))
    return f"{number[1]} {names.get(number[1], '')}".strip()


def _count(ranges: str) -> int | None:
    """Cores in the kernel's words, `0-3,6`; None where it has none."""
    total = 0
    for one in ranges.split(","):
        match = re.fullmatch(r"(\d+)(?:-(\d+))?", one)
        if match is None:
            return None
        total += int(match[2] or match[1]) - int(match[1]) + 1
    return total


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""
