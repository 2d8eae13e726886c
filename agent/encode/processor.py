"""Which processor this is, as far as it matters to INT8: the instruction sets that products use."""

from __future__ import annotations

import platform
from functools import cache
from pathlib import Path

from agent.bundle.facts import ProcessorInfo

# As Linux spells them; the first have 8-bit dot products, without which x86 adds pairs in 16 bits.
_DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
_FLAGS = ("avx2", "avx512f", "avx512bw", "asimd", "sve", *_DOT_PRODUCTS)
_CPUINFO = Path("/proc/cpuinfo")


@cache
def this_processor() -> ProcessorInfo:
    """The processor this runs on; without flags where the system does not tell."""
    try:
        text = _CPUINFO.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    return read_processor(text, platform.machine())


def read_processor(cpuinfo: str, machine: str) -> ProcessorInfo:
    """A processor from what Linux says of it.

    Args:
        cpuinfo: Content of `/proc/cpuinfo`; the first processor counts.
        machine: Architecture, as `uname -m` says it.
    """
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), value.strip())
    has = set(found.get("flags", found.get("features", "")).split())
    return ProcessorInfo(
        machine=machine,
        model=found.get("model name", ""),
        flags=tuple(flag for flag in _FLAGS if flag in has),
    )


def in_words(processor: ProcessorInfo) -> str:
    """`x86_64, AMD EPYC (avx2, avx512f, avx512_vnni)`, for tables and messages."""
    name = ", ".join(part for part in (processor.machine, processor.model) if part)
    return f"{name} ({', '.join(processor.flags) or 'flags not known'})"
