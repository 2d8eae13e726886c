"""Which processor this is, as far as it matters to INT8: the instruction sets that products use."""

from __future__ import annotations

import platform
import re
from functools import cache
from pathlib import Path

from agent.bundle.facts import ProcessorInfo

# As Linux spells them; the first have 8-bit dot products, without which x86 adds pairs in 16 bits.
_DOT_PRODUCTS = ("amx_int8", "avx512_vnni", "avx_vnni", "asimddp", "i8mm")
_FLAGS = ("avx2", "avx512f", "avx512bw", "asimd", "sve", *_DOT_PRODUCTS)
_CPUINFO = Path("/proc/cpuinfo")
# ARM's kernels name no model, but who made the core and which it is (arch/arm64, cputype.h).
_CORES = {
    ("0x41", "0xd03"): "Cortex-A53",
    ("0x41", "0xd04"): "Cortex-A35",
    ("0x41", "0xd05"): "Cortex-A55",
    ("0x41", "0xd07"): "Cortex-A57",
    ("0x41", "0xd08"): "Cortex-A72",
    ("0x41", "0xd09"): "Cortex-A73",
    ("0x41", "0xd0a"): "Cortex-A75",
    ("0x41", "0xd0b"): "Cortex-A76",
    ("0x41", "0xd0c"): "Neoverse-N1",
    ("0x41", "0xd40"): "Neoverse-V1",
    ("0x41", "0xd41"): "Cortex-A78",
    ("0x41", "0xd42"): "Cortex-A78AE",
    ("0x41", "0xd49"): "Neoverse-N2",
    ("0x41", "0xd4f"): "Neoverse-V2",
    ("0x4e", "0x003"): "NVIDIA Denver 2",
    ("0x4e", "0x004"): "NVIDIA Carmel",
}


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
        cpuinfo: Content of `/proc/cpuinfo`; flags are the first core's, kinds of ARM cores all.
        machine: Architecture, as `uname -m` says it.
    """
    found: dict[str, str] = {}
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        found.setdefault(name.strip().lower(), value.strip())
    has = set(found.get("flags", found.get("features", "")).split())
    return ProcessorInfo(
        machine=machine,
        model=found.get("model name", "") or " + ".join(_arm_cores(cpuinfo)),
        flags=tuple(flag for flag in _FLAGS if flag in has),
    )


def has_dot_products(processor: ProcessorInfo) -> bool | None:
    """Whether it has 8-bit dot products, which INT8 gains most by; None if it does not tell."""
    return bool(set(_DOT_PRODUCTS) & set(processor.flags)) if processor.flags else None


def _arm_cores(cpuinfo: str) -> list[str]:
    """Each kind of ARM core once, in order."""
    makers = re.findall(r"^CPU implementer\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    kinds = re.findall(r"^CPU part\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    return list(
        dict.fromkeys(
            _CORES.get((maker, kind), f"ARM core {kind} of {maker}")
            for maker, kind in zip(makers, kinds, strict=False)
        )
    )


def in_words(processor: ProcessorInfo) -> str:
    """`x86_64, AMD EPYC (avx2, avx512f, avx512_vnni)`, for tables and messages."""
    name = ", ".join(part for part in (processor.machine, processor.model) if part)
    return f"{name} ({', '.join(processor.flags) or 'flags not known'})"
