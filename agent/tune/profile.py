"""What a kind of device can do, in one file: taken along to where bundles are exported.

Bundles are exported elsewhere than where they run. A fixed piece of arithmetic (products of float32
matrices, one thread), timed on both, tells how many times slower the device is; the share is an
estimate, and less is to be expected of INT8 on processors without instructions for it.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field

from agent.core.child import running
from agent.core.errors import ConfigError
from agent.core.schema import Strict, read_model
from agent.core.storage import write_json
from agent.tune.device import device_class

_MEMORY = Path("/proc/meminfo")
# A transformer's feed-forward layer over half a second of tokens.
_SHAPE = (128, 768, 3072)
_PASSES = 15
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_LIMIT_SECONDS = 120.0


class DeviceProfile(Strict):
    """`auscult tune --profile FILE`: a kind of device, for `auscult export --device FILE`."""

    device: Annotated[str, Field(description="Processor or board, cores, memory, in words")]
    memory_mb: Annotated[float, Field(gt=0, description="Memory there is, MB")]
    reference_ms: Annotated[
        float, Field(gt=0, description="Time of the reference arithmetic, one thread, milliseconds")
    ]


def measure_profile() -> DeviceProfile:
    """The profile of the device that this runs on.

    Raises:
        ConfigError: The reference could not be timed.
    """
    return DeviceProfile(
        device=device_class(), memory_mb=memory_mb(), reference_ms=round(reference_ms(), 3)
    )


def reference_ms() -> float:
    """Median time of the reference arithmetic in a process of its own, one thread, milliseconds.

    Raises:
        ConfigError: The process ended without a figure.
    """
    done = subprocess.run(  # noqa: S603 - our own code
        running("agent.tune.profile", "time_reference"),
        env=os.environ | dict.fromkeys(_ONE_THREAD, "1"),
        capture_output=True,
        text=True,
        check=False,
        timeout=_LIMIT_SECONDS,
    )
    try:
        return float(done.stdout)
    except ValueError as fault:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise ConfigError(f"the reference could not be timed: {lines[-1]}") from fault


def write_profile(path: Path, profile: DeviceProfile) -> None:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, profile.model_dump(mode="json"))


def read_profile(path: Path) -> DeviceProfile:
    """Read the file.

    Raises:
        ConfigError: It is missing, or no profile.
    """
    remedy = "Write it on the device: auscult tune --profile FILE."
    return read_model(path, DeviceProfile, error=ConfigError, remedy=remedy)


def memory_mb() -> float:
    """Memory that this device has, MB."""
    for line in _MEMORY.read_text(encoding="ascii").splitlines() if _MEMORY.is_file() else ():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return round(int(value.split()[0]) * 1024 / 1e6)
    return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6)


def time_reference() -> None:
    """The child: the time on standard output."""
    random = np.random.default_rng(0)
    rows, middle, columns = _SHAPE
    left = random.standard_normal((rows, middle)).astype(np.float32)
    right = random.standard_normal((middle, columns)).astype(np.float32)
    spent = []
    for _ in range(_PASSES + 2):
        start = time.perf_counter()
        left @ right
        spent.append(1e3 * (time.perf_counter() - start))
    sys.stdout.write(f"{statistics.median(spent[2:]):.4f}")
