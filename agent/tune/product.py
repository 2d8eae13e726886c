"""How many products of numbers a second the processor does: one large product, in INT8 and float32.

The graph is made here, byte by byte: a device has no library that writes graphs. It is one node, a
matrix product whose right side is constant, as an encoder's weights are; onnxruntime packs that
once, and then runs the same kernels as for the encoder.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from agent.core.child import running
from agent.core.errors import ConfigError

Kind = Literal["int8", "float32"]
_Field: TypeAlias = tuple[int, int | str | bytes]
_Fields: TypeAlias = list[_Field]
# A transformer's feed-forward layer over ten seconds of tokens.
ROWS, MIDDLE, COLUMNS = 512, 768, 3072
_PASSES, _WARM_UP = 12, 3
_LIMIT_SECONDS = 300.0
_VARINT, _BYTES = 0, 2
# Numbers of ONNX's data types.
_TYPES = {"float32": 1, "uint8": 2, "int8": 3, "int32": 6}
_OPSET, _IR_VERSION = 13, 8


@dataclass(frozen=True, slots=True)
class Rate:
    """How fast one large product is.

    Attributes:
        kind: Of what numbers.
        threads: Threads.
        gmacs: Multiplications with addition a second, thousand millions; by the median time.
        best_gmacs: The same by the shortest time.
    """

    kind: Kind
    threads: int
    gmacs: float
    best_gmacs: float


def measure_rate(kind: Kind, threads: int) -> Rate:
    """Measure, in a process of its own.

    Raises:
        ConfigError: It ended without a figure.
    """
    done = subprocess.run(  # noqa: S603 - our own code
        running("agent.tune.product", "measure_asked"),
        input=json.dumps([kind, threads]), capture_output=True, text=True, check=False,
        timeout=_LIMIT_SECONDS,
    )  # fmt: skip
    try:
        return Rate(**json.loads(done.stdout))
    except ValueError as fault:
        lines = done.stderr.strip().splitlines() or [f"code {done.returncode}"]
        raise ConfigError(f"a product could not be timed: {lines[-1]}") from fault


def measure_here(kind: Kind, threads: int, passes: int = _PASSES) -> Rate:
    """Measure in this process."""
    import onnxruntime  # noqa: PLC0415 - the parent does without

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    random = np.random.default_rng(0)
    weights = random.integers(-100, 100, (MIDDLE, COLUMNS))
    left = random.integers(0, 200, (ROWS, MIDDLE))
    session = onnxruntime.InferenceSession(
        product_graph(kind, weights), sess_options=options, providers=["CPUExecutionProvider"]
    )
    feeds = {"x": left.astype(np.uint8 if kind == "int8" else np.float32)}
    spent = []
    for _ in range(passes + _WARM_UP):
        start = time.perf_counter()
        session.run(None, feeds)
        spent.append(time.perf_counter() - start)
    products = ROWS * MIDDLE * COLUMNS / 1e9
    kept = spent[_WARM_UP:]
    return Rate(kind, threads, products / float(np.median(kept)), products / min(kept))


def measure_asked() -> None:
    """The child: what is asked on standard input, the rate on standard output."""
    kind, threads = json.loads(sys.stdin.read())
    sys.stdout.write(json.dumps(asdict(measure_here(kind, threads))))


def product_graph(kind: Kind, weights: npt.NDArray[np.int64]) -> bytes:
    """An ONNX model that gives `x @ weights`, `x` being `(ROWS, MIDDLE)`.

    Args:
        kind: `int8`: `x` is uint8, the weights are int8, the result int32 (MatMulInteger).
        weights: Whole numbers from -128 to 127, `(MIDDLE, COLUMNS)`.
    """
    held = weights.astype(np.int8 if kind == "int8" else np.float32)
    given, gives = ("uint8", "int32") if kind == "int8" else ("float32", "float32")
    tensor: _Fields = [(1, size) for size in held.shape]
    tensor += [(2, _TYPES[held.dtype.name]), (8, "w"), (9, held.tobytes())]
    node: _Fields = [
        (1, "x"),
        (1, "w"),
        (2, "y"),
        (4, "MatMulInteger" if kind == "int8" else "MatMul"),
    ]
    graph: _Fields = [
        (1, _message(node)),
        (2, "product"),
        (5, _message(tensor)),
        (11, _value("x", given, (ROWS, weights.shape[0]))),
        (12, _value("y", gives, (ROWS, weights.shape[1]))),
    ]
    return _message([(1, _IR_VERSION), (7, _message(graph)), (8, _message([(2, _OPSET)]))])


def _value(name: str, kind: str, shape: Sequence[int]) -> bytes:
    """An input or output: name, data type and shape."""
    sizes = _message([(1, _message([(1, size)])) for size in shape])
    tensor = _message([(1, _TYPES[kind]), (2, sizes)])
    return _message([(1, name), (2, _message([(1, tensor)]))])


def _message(fields: Sequence[_Field]) -> bytes:
    """Fields as protobuf writes them: number and value; a number, or bytes with their length."""
    parts = []
    for number, value in fields:
        if isinstance(value, int):
            parts += [_varint(number << 3 | _VARINT), _varint(value)]
        else:
            data = value.encode() if isinstance(value, str) else value
            parts += [_varint(number << 3 | _BYTES), _varint(len(data)), data]
    return b"".join(parts)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
