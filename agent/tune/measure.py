"""What a window costs with some settings: each in a process of its own, as the agent runs.

Processes of their own, because memory that a session once took is seldom given back, and because
threads that spin would be heard in what is measured next. Windows come one by one with a pause
between them, as they do from a microphone: caches are cold then, and spinning costs. They overlap
as the machine's do, so that an encoder in two parts shares their frames as it will in the agent.
"""

from __future__ import annotations

import itertools
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from agent.bundle.manifest import ENCODER, EncoderInfo
from agent.bundle.private import private_copy
from agent.config.encode import InferenceConfig
from agent.core.child import running
from agent.core.errors import AuscultError, BundleError
from agent.core.records import Samples, Window
from agent.deploy.load import encoder_of
from agent.encode.frames import SharedFrames

_PAUSE_SECONDS = 0.2
_WARM_UP = 2
_LIMIT_SECONDS = 600.0
_LIBRARY = re.compile(r"with error: ([^\n\x1b]+)")
_PROVIDER_ERROR = re.compile(r"EP Error (?:/\S+ \S+ )?([^\n\x1b]+)")


@dataclass(frozen=True, slots=True)
class Work:
    """What the device has to do.

    Attributes:
        bundle: A bundle.
        per_second: Windows of it a second, of all its machines.
        hop_seconds: Step between one machine's windows; of several machines the shortest.
    """

    bundle: Path
    per_second: float
    hop_seconds: float


@dataclass(frozen=True, slots=True)
class Cost:
    """What a window costs.

    Attributes:
        wall_ms: Milliseconds until its embedding is there, median.
        slow_ms: The same, 95th percentile.
        cpu_ms: Processor time for it, all threads, the pause after it included, milliseconds.
        memory_mb: What the process has grown by (resident) since before the session, MB.
        provider: The execution provider that ran it; empty where that is not known.
        fallback: Why that is not the one that was asked for; empty when it is. onnxruntime goes on
            with the next one where a provider is installed that does not begin.
    """

    wall_ms: float
    slow_ms: float
    cpu_ms: float
    memory_mb: float
    provider: str = ""
    fallback: str = ""


def measure(
    work: Work,
    inference: InferenceConfig,
    windows: int,
    *,
    graph: str = ENCODER,
    framed: bool | None = None,
) -> Cost:
    """Measure in a process of its own.

    Args:
        work: Whose encoder is run, and how far apart windows are.
        inference: The settings.
        windows: How many windows.
        graph: Which of the bundle's graphs.
        framed: Whether windows that overlap share frames; where the bundle has parts when None.

    Raises:
        BundleError: The bundle is damaged, or its encoder does not run with these settings.
    """
    asked = json.dumps(
        {
            "bundle": str(work.bundle),
            "hop_seconds": work.hop_seconds,
            "inference": inference.model_dump(),
            "windows": windows,
            "graph": graph,
            "framed": framed,
        }
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own code
            running("agent.tune.measure", "measure_asked"),
            input=asked, capture_output=True, text=True, check=False, timeout=_LIMIT_SECONDS,
        )  # fmt: skip
    except subprocess.TimeoutExpired as fault:
        raise BundleError(
            f"its encoder has not judged {windows} windows in {_LIMIT_SECONDS:.0f} s",
            where=work.bundle,
        ) from fault
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"it ended with code {done.returncode}"]
        raise BundleError(f"its encoder could not be measured: {lines[-1]}", where=work.bundle)
    # Before it onnxruntime may have told of a provider that did not begin.
    cost = Cost(**json.loads(done.stdout.splitlines()[-1]))
    wanted = inference.providers[0]
    if cost.provider in {"", wanted}:
        return cost
    told = f"{wanted} did not begin, {cost.provider} ran in its place"
    return replace(cost, fallback=f"{told}: {_why(done.stderr + done.stdout)}")


def _why(messages: str) -> str:
    """What onnxruntime wrote of a provider that did not begin."""
    found = _LIBRARY.search(messages) or _PROVIDER_ERROR.search(messages)
    return found[1].strip() if found else "no device, or no driver or library for it"


def measure_here(
    bundle: Path,
    hop_seconds: float,
    inference: InferenceConfig,
    windows: int,
    *,
    graph: str = ENCODER,
    framed: bool | None = None,
) -> Cost:
    """Measure in this process.

    Raises:
        BundleError: As `measure`.
    """
    with private_copy(bundle) as copy:
        encoder = encoder_of(
            copy.folder, copy.manifest, inference=inference, shown=bundle,
            graph=graph, framed=framed,
        )  # fmt: skip
        before = _resident()
        encoder.start()
    shared, stream = SharedFrames(), _stream(copy.manifest.encoder, hop_seconds)
    for _ in range(_WARM_UP):
        shared.encode(encoder, next(stream))
    spent = []
    cpu = time.process_time()
    for _ in range(windows):
        window = next(stream)
        start = time.perf_counter()
        shared.encode(encoder, window)
        spent.append(1e3 * (time.perf_counter() - start))
        time.sleep(_PAUSE_SECONDS)
    cpu = time.process_time() - cpu
    return Cost(
        float(np.median(spent)),
        float(np.quantile(spent, 0.95)),
        1e3 * cpu / windows,
        (_resident() - before) / 1e6,
        encoder.provider,
    )


def _stream(encoder: EncoderInfo, hop_seconds: float) -> Iterator[Window]:
    """Windows of noise without end, each beginning a hop after the one before."""
    random = np.random.default_rng(0)
    hop = round(hop_seconds * encoder.sample_rate)
    heard: Samples = np.zeros(0, np.float32)
    for index in itertools.count():
        missing = encoder.window_samples - len(heard)
        heard = np.append(heard, random.normal(0, 0.03, missing).astype(np.float32))
        at = index * hop_seconds
        yield Window(heard, encoder.sample_rate, index, at, at, step=hop, position=index * hop)
        heard = heard[hop:]


def _resident() -> int:
    """Bytes of memory that this process has."""
    import resource  # noqa: PLC0415 - Unix alone

    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, ValueError, IndexError):
        # The highest so far, in kilobytes: as good where there is no /proc.
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return pages * resource.getpagesize()


def measure_asked() -> None:
    """The child: what is asked on standard input, the cost as the last line of the output."""
    asked = json.loads(sys.stdin.read())
    try:
        inference = InferenceConfig.model_validate(asked["inference"])
        found = measure_here(
            Path(asked["bundle"]), asked["hop_seconds"], inference, asked["windows"],
            graph=asked["graph"], framed=asked["framed"],
        )  # fmt: skip
    except AuscultError as fault:
        sys.exit(str(fault))
    sys.stdout.write(f"\n{json.dumps(asdict(found))}")
