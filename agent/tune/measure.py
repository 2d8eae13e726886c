"""What a window costs with some settings: each in a process of its own, as the agent runs.

Processes of their own, because memory that a session once took is seldom given back, and because
threads that spin would be heard in what is measured next. Windows come one by one with a pause
between them, as they do from a microphone: caches are cold then, and spinning costs.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from agent.bundle.verify import read_manifest, verify_bundle
from agent.encode.config import InferenceConfig
from agent.encode.onnx import OnnxEncoder
from agent.errors import AuscultError, BundleError

_PAUSE_SECONDS = 0.2
_WARM_UP = 2
_LIMIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a window costs.

    Attributes:
        wall_ms: Milliseconds until its embedding is there, median.
        slow_ms: The same, 95th percentile.
        cpu_ms: Processor time for it, all threads, the pause after it included, milliseconds.
        memory_mb: What the process has grown by (resident) since before the session, MB.
    """

    wall_ms: float
    slow_ms: float
    cpu_ms: float
    memory_mb: float


def measure(bundle: Path, inference: InferenceConfig, windows: int) -> Cost:
    """Measure in a process of its own.

    Args:
        bundle: Whose encoder is run.
        inference: The settings.
        windows: How many windows.

    Raises:
        BundleError: The bundle is damaged, or its encoder does not run with these settings.
    """
    asked = json.dumps(
        {"bundle": str(bundle), "inference": inference.model_dump(), "windows": windows}
    )
    try:
        done = subprocess.run(
            [sys.executable, "-m", "agent.tune.measure"],
            input=asked, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as fault:
        raise BundleError(
            f"its encoder has not judged {windows} windows in {_LIMIT_SECONDS:.0f} s", where=bundle
        ) from fault
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise BundleError(f"its encoder could not be measured: {lines[-1]}", where=bundle)
    return Cost(**json.loads(done.stdout))


def measure_here(bundle: Path, inference: InferenceConfig, windows: int) -> Cost:
    """Measure in this process.

    Raises:
        BundleError: As `measure`.
    """
    verify_bundle(bundle)
    info = read_manifest(bundle).encoder
    encoder = OnnxEncoder(bundle / "encoder.onnx", info, inference=inference)
    random = np.random.default_rng(0)
    sound = random.normal(0, 0.03, (1, info.window_samples)).astype(np.float32)
    before = _resident()
    encoder.start()
    for _ in range(_WARM_UP):
        encoder.encode(sound)
    spent = []
    cpu = time.process_time()
    for _ in range(windows):
        start = time.perf_counter()
        encoder.encode(sound)
        spent.append(1e3 * (time.perf_counter() - start))
        time.sleep(_PAUSE_SECONDS)
    cpu = time.process_time() - cpu
    return Cost(
        float(np.median(spent)),
        float(np.quantile(spent, 0.95)),
        1e3 * cpu / windows,
        (_resident() - before) / 1e6,
    )


def _resident() -> int:
    """Bytes of memory that this process has."""
    import resource  # noqa: PLC0415 - Unix alone

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        # The highest so far, in kilobytes: as good where there is no /proc.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def _main() -> None:
    asked = json.loads(sys.stdin.read())
    try:
        inference = InferenceConfig.model_validate(asked["inference"])
        found = measure_here(Path(asked["bundle"]), inference, asked["windows"])
    except AuscultError as fault:
        sys.exit(str(fault))
    sys.stdout.write(json.dumps(asdict(found)))


if __name__ == "__main__":
    _main()
