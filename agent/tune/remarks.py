"""What a reader of a device's report must know of it: what is missing, what is doubtful."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from agent.encode.processor import has_dot_products
from agent.encode.providers import CUDA, TENSORRT

if TYPE_CHECKING:
    from agent.tune.heat import Heat
    from agent.tune.report_fields import DeviceReport

# Share of the cores that other work may have wanted before.
_BUSY = 0.3


def remarks_of(report: DeviceReport) -> Iterator[str]:
    """Each remark as a sentence without its full stop."""
    if report.load > _BUSY * report.cores:
        yield (
            f"busy before it began: {report.load:.1f} processes wanted {report.cores} cores, so "
            "that times are too long; stop the agent and other work, and measure again"
        )
    present = report.board.cores_present
    if present is not None and present > report.cores:
        yield f"{report.cores} of {present} cores may be used (power mode, or the system's limit)"
    dots = has_dot_products(report.processor)
    if dots is None:
        yield "the system does not tell the processor's instruction sets"
    elif not dots:
        yield "the processor has no 8-bit dot products: expect little of INT8"
    if report.memory_mb is None:
        yield "the system does not tell how much memory there is"
    yield from _of_heat(report.heat_before, report.heat_after)
    missing = [name for name in (CUDA, TENSORRT) if name not in report.providers]
    if missing:
        packages = ", ".join(report.onnxruntime_packages) or f"version {report.onnxruntime}"
        yield (
            f"onnxruntime ({packages}) has no {' and no '.join(missing)} here: not tried"
            f"{', though TensorRT is installed' if report.board.tensorrt else ''}"
        )
    if len(report.onnxruntime_packages) > 1:
        yield (
            f"{' and '.join(report.onnxruntime_packages)} overwrite each other: uninstall both, "
            "and install one"
        )
    if report.threads_in_environment:
        names = ", ".join(
            f"{name}={value}" for name, value in report.threads_in_environment.items()
        )
        yield f"the environment sets {names}"
    if not report.encoders:
        yield "no encoder was measured: no bundle was given"


def _of_heat(before: Heat, after: Heat) -> Iterator[str]:
    if not after.celsius:
        yield "no sensor of heat can be read: whether it was slowed for heat is not known"
    if not after.mhz:
        yield "the system does not tell the cores' frequency"
    slowed = (after.throttled or 0) - (before.throttled or 0)
    if slowed > 0:
        yield f"cores were slowed for their heat {slowed} times meanwhile: they were too hot"
    risen = {
        name: state
        for name, state in after.cooling.items()
        if state > before.cooling.get(name, 0) and "fan" not in name.lower()
    }
    if risen:
        yield f"slowed for heat at the end: {', '.join(sorted(risen))}"
