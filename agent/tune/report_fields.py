"""What `auscult tune --report` writes: the fields of a device's report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from agent.bundle.facts import ProcessorInfo
from agent.core.schema import Strict
from agent.tune.board import Board
from agent.tune.heat import Heat
from agent.tune.product import Kind


class ProductRate(Strict):
    """One large product (512 x 768 by 768 x 3072), as a transformer has them."""

    kind: Annotated[Kind, Field(description="Of what numbers")]
    threads: Annotated[int, Field(ge=1, description="Threads")]
    gmacs: Annotated[
        float,
        Field(
            description="Multiplications with addition a second, thousand millions; by the median "
            "time"
        ),
    ]
    best_gmacs: Annotated[
        float | None, Field(description="The same by the shortest time; null in older reports")
    ] = None


class EncoderWay(Strict):
    """One way of running an encoder, and what a window costs with it."""

    precision: Annotated[Literal["int8", "float32"], Field(description="Of the graph")]
    shared_frames: Annotated[
        bool, Field(description="Whether windows share the frames that they have in common")
    ]
    provider: Annotated[str, Field(description="onnxruntime execution provider")]
    threads: Annotated[int, Field(ge=1, description="Threads of one inference")]
    wall_ms: Annotated[float | None, Field(description="Time of a window, median, ms")] = None
    slow_ms: Annotated[float | None, Field(description="95th percentile, ms")] = None
    cpu_ms: Annotated[float | None, Field(description="Processor time of a window, ms")] = None
    memory_mb: Annotated[float | None, Field(description="Memory of the session, MB")] = None
    celsius: Annotated[
        float | None, Field(description="The warmest sensor right afterwards; null if none tells")
    ] = None
    fault: Annotated[str, Field(description="Why it did not run; empty when it did")] = ""


class EncoderReport(Strict):
    """A bundle's encoder."""

    kind: Annotated[str, Field(description="Encoder family")]
    graph: Annotated[str, Field(description="First 12 digits of the SHA-256 of its graph")]
    dim: Annotated[int, Field(description="Values of an embedding")]
    window_seconds: Annotated[float, Field(description="Length of a window, seconds")]
    hop_seconds: Annotated[float, Field(description="Step between windows, seconds")]
    ways: Annotated[tuple[EncoderWay, ...], Field(description="Every way that was tried")]


class DeviceReport(Strict):
    """`auscult tune --report FILE`."""

    schema_version: Literal[1] = 1
    auscult: Annotated[str, Field(description="Version that measured")]
    created: Annotated[str, Field(description="Day, UTC")]
    seconds: Annotated[float | None, Field(description="Time all of it took")] = None
    windows: Annotated[
        int | None, Field(description="Windows that each figure of an encoder is of")
    ] = None
    remarks: Annotated[
        tuple[str, ...], Field(description="What is missing, or makes figures doubtful, in words")
    ] = ()
    device: Annotated[str, Field(description="Board or processor, cores, memory, in words")]
    processor: Annotated[ProcessorInfo, Field(description="Name and INT8 instruction sets")]
    cores: Annotated[int, Field(description="Cores that may be used")]
    board: Annotated[Board, Field(description="The board's software, power mode, governor")] = (
        Board()
    )
    memory_mb: Annotated[float | None, Field(description="Memory there is, MB")]
    available_mb: Annotated[float | None, Field(description="Memory left before, MB")]
    swap_mb: Annotated[float | None, Field(description="Swap there is, MB")]
    system: Annotated[str, Field(description="Operating system, by /etc/os-release")]
    kernel: Annotated[str, Field(description="Kernel's version, its first two numbers")]
    python: Annotated[str, Field(description="Version")]
    onnxruntime: Annotated[str, Field(description="Version")]
    onnxruntime_packages: Annotated[
        tuple[str, ...],
        Field(description="Installed packages that bring onnxruntime; more than one overwrite it"),
    ] = ()
    numpy: Annotated[str, Field(description="Version")]
    providers: Annotated[
        tuple[str, ...], Field(description="Execution providers that onnxruntime has here")
    ]
    load: Annotated[
        float, Field(description="Processes that wanted a core before, mean of a minute")
    ]
    threads_in_environment: Annotated[
        dict[str, str],
        Field(description="Variables of the environment that set threads of libraries"),
    ] = {}
    reference_ms: Annotated[
        float, Field(description="Time of the reference arithmetic of `--profile`, ms")
    ]
    products: Annotated[tuple[ProductRate, ...], Field(description="Plain large products")]
    heat_before: Annotated[Heat, Field(description="Sensors before anything was measured")]
    heat_after: Annotated[Heat, Field(description="Sensors at the end")]
    encoders: Annotated[tuple[EncoderReport, ...], Field(description="Of the bundles given")]
