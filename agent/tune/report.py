"""What this very device does, measured: one file that can be sent to whoever asks.

It says nothing of the plant: no names of host, machines or folders, no addresses, no settings of
the agent. An encoder is told by its kind and the checksum of its graph.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Literal

import numpy as np

from agent import __version__
from agent.bundle.manifest import ENCODER, FLOAT_ENCODER, FRAMES, Manifest
from agent.bundle.verify import read_manifest
from agent.config.encode import InferenceConfig
from agent.core.cores import usable_cores
from agent.core.errors import AuscultError
from agent.core.storage import write_json
from agent.encode.processor import this_processor
from agent.encode.providers import CPU, CUDA, TENSORRT
from agent.tune.board import read_board
from agent.tune.device import device_class
from agent.tune.heat import read_heat
from agent.tune.measure import Cost, Work, measure
from agent.tune.product import measure_rate
from agent.tune.profile import reference_ms
from agent.tune.remarks import remarks_of
from agent.tune.report_fields import DeviceReport, EncoderReport, EncoderWay, ProductRate

_MEMORY = Path("/proc/meminfo")
_SYSTEM = Path("/etc/os-release")
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_PATH = re.compile(r"(?:/[^\s:'\",/]+){2,}/?")


def make_report(
    bundles: Sequence[Path], windows: int, told: Callable[[str], None] = lambda _: None
) -> DeviceReport:
    """Measure this device; minutes, with large encoders.

    Args:
        bundles: Bundles whose encoders are run; each graph once.
        windows: Windows judged each way.
        told: Told what is being measured, line by line.

    Raises:
        BundleError: A bundle has no manifest that can be read.
        ConfigError: The plain products could not be timed.
    """
    import onnxruntime  # noqa: PLC0415

    began, cores, load, heat = time.monotonic(), usable_cores(), os.getloadavg()[0], read_heat()
    memory, board = _memory(), read_board()
    manifests = {path: read_manifest(path) for path in bundles}
    told(f"{device_class()}; load {load:.1f}")
    rates = []
    for kind in ("int8", "float32"):
        for threads in sorted({1, cores}):
            rate = measure_rate(kind, threads)
            rates.append(
                ProductRate(
                    kind=kind,
                    threads=threads,
                    gmacs=round(rate.gmacs, 2),
                    best_gmacs=round(rate.best_gmacs, 2),
                )
            )
            told(f"product, {kind}, threads {threads}: {rate.gmacs:.1f} GMAC/s")
    there = tuple(onnxruntime.get_available_providers())
    encoders: dict[str, EncoderReport] = {}
    for path, manifest in manifests.items():
        digest = manifest.files[ENCODER].sha256[:12]
        if digest not in encoders:
            told(f"{manifest.encoder.kind}, {manifest.window_seconds:g} s windows")
            encoders[digest] = _encoder(path, manifest, digest, there, windows, told)
    reference = round(reference_ms(), 3)
    report = DeviceReport(
        auscult=__version__,
        created=datetime.now(timezone.utc).date().isoformat(),
        seconds=round(time.monotonic() - began, 1),
        windows=windows,
        device=device_class(),
        processor=this_processor(),
        cores=cores,
        board=board,
        memory_mb=memory.get("MemTotal"),
        available_mb=memory.get("MemAvailable"),
        swap_mb=memory.get("SwapTotal"),
        system=_system(),
        kernel=".".join(re.findall(r"\d+", platform.release())[:2]),
        python=platform.python_version(),
        onnxruntime=onnxruntime.__version__,
        onnxruntime_packages=_packages(),
        numpy=np.__version__,
        providers=there,
        load=round(load, 2),
        threads_in_environment={name: os.environ[name] for name in _THREADS if name in os.environ},
        reference_ms=reference,
        products=tuple(rates),
        heat_before=heat,
        heat_after=read_heat(),
        encoders=tuple(encoders.values()),
    )
    report = report.model_copy(update={"remarks": tuple(remarks_of(report))})
    for remark in report.remarks:
        told(f"  {remark}")
    return report


def write_report(path: Path, report: DeviceReport) -> None:
    """Write the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, report.model_dump(mode="json"))


def _encoder(
    path: Path,
    manifest: Manifest,
    digest: str,
    there: Sequence[str],
    windows: int,
    told: Callable[[str], None],
) -> EncoderReport:
    work = Work(path, 1.0 / manifest.hop_seconds, manifest.hop_seconds)
    ways = []
    for way, graph in _ways(manifest, there):
        how = InferenceConfig(
            threads=way.threads, providers=(way.provider, CPU) if way.provider != CPU else (CPU,)
        )
        try:
            cost = measure(work, how, windows, graph=graph, framed=way.shared_frames)
        except AuscultError as fault:
            told_of = _failed(fault.problem)
        else:
            # Figures of another provider under this one's name would be worse than none.
            told_of = _failed(cost.fallback) if cost.fallback else _figures(cost)
        ways.append(way.model_copy(update=told_of))
        told(f"  {in_words(ways[-1])}")
    return EncoderReport(
        kind=manifest.encoder.kind,
        graph=digest,
        dim=manifest.encoder.dim,
        window_seconds=manifest.window_seconds,
        hop_seconds=manifest.hop_seconds,
        ways=tuple(ways),
    )


def _failed(why: str) -> dict[str, object]:
    return {"fault": without_places(why)}


def _figures(cost: Cost) -> dict[str, object]:
    return {
        "wall_ms": round(cost.wall_ms, 2),
        "slow_ms": round(cost.slow_ms, 2),
        "cpu_ms": round(cost.cpu_ms, 2),
        "memory_mb": round(cost.memory_mb, 1),
        "celsius": read_heat().warmest,
    }


def _ways(manifest: Manifest, there: Sequence[str]) -> Iterator[tuple[EncoderWay, str]]:
    """Ways worth trying, and the graph of each."""
    own: Literal["int8", "float32"] = manifest.encoder.precision
    graphs: list[tuple[Literal["int8", "float32"], str]] = [(own, ENCODER)]
    if own == "int8" and FLOAT_ENCODER in manifest.files:
        graphs.append(("float32", FLOAT_ENCODER))
    for precision, graph in graphs:
        for provider in (CPU, *(name for name in (CUDA, TENSORRT) if name in there)):
            for threads in sorted({1, usable_cores()}) if provider == CPU else (1,):
                way = EncoderWay(
                    precision=precision, shared_frames=False, provider=provider, threads=threads
                )
                yield way, graph
                if graph == ENCODER and FRAMES in manifest.files and provider == CPU:
                    yield way.model_copy(update={"shared_frames": True}), graph


def in_words(way: EncoderWay) -> str:
    """One line for people."""
    text = f"{way.precision}, {way.provider.removesuffix('ExecutionProvider')}"
    text += f", threads {way.threads}{', shared frames' if way.shared_frames else ''}: "
    if way.fault:
        return text + way.fault
    return (
        f"{text}{way.wall_ms:.1f} ms a window ({way.slow_ms:.1f} ms slow), processor "
        f"{way.cpu_ms:.1f} ms, memory {way.memory_mb:.0f} MB"
    )


def without_places(text: str) -> str:
    """A message without folders, and without the host's name."""
    text = _PATH.sub("(a file)", text)
    host = platform.node()
    return text.replace(host, "(this device)") if host else text


def _packages() -> tuple[str, ...]:
    """Packages that bring onnxruntime, with their versions."""
    found = importlib.metadata.packages_distributions().get("onnxruntime", [])
    return tuple(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(found)))


def _memory() -> dict[str, float]:
    """By name what the kernel tells of memory, MB."""
    found: dict[str, float] = {}
    try:
        lines = _MEMORY.read_text(encoding="ascii").splitlines()
    except OSError:
        return {}
    for line in lines:
        name, _, value = line.partition(":")
        if value.endswith(" kB"):
            found[name] = round(int(value.split()[0]) * 1024 / 1e6)
    return found


def _system() -> str:
    try:
        text = _SYSTEM.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return platform.system()
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', text, re.MULTILINE)
    return found[1] if found else platform.system()
