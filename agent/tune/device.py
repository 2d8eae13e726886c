"""What kind of device this is: settings are measured for one, and hold for its like."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from agent.core.cores import usable_cores
from agent.encode.processor import read_processor

_MODEL = Path("/proc/device-tree/model")  # a Jetson or a Raspberry Pi says here what it is
_CPUINFO = Path("/proc/cpuinfo")
_MEMORY = Path("/proc/meminfo")


def device_class(model: Path = _MODEL, cpuinfo: Path = _CPUINFO, memory: Path = _MEMORY) -> str:
    """In words: model or processor, architecture, cores, memory.

    Args:
        model: The board's name, where the kernel knows one.
        cpuinfo: The processor's.
        memory: How much there is.
    """
    processor = read_processor(_text(cpuinfo), platform.machine())
    name = _text(model).strip("\0 \n") or processor.model
    kilobytes = _field(_text(memory), "MemTotal").split()
    size = f", {int(kilobytes[0]) / 2**20:.0f} GiB" if kilobytes else ""
    cores = usable_cores()
    return f"{name or platform.processor() or os.name}, {platform.machine()}, {cores} cores{size}"


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _field(text: str, name: str) -> str:
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""
