"""Graphs traced once for all tests of a process: tracing an encoder takes seconds of the processor.

Two modules of the same pickled bytes (weights, buffers, every setting) have the same trace, so
what comes after it (names, checks, quantization, parity) is done anew on a copy.
"""

from __future__ import annotations

import hashlib
import io
import pickle
from collections.abc import Iterator

import onnx
import pytest
import torch

from trainer.graph import frames, onnx_graph

_MOST_BYTES = 1 << 26  # a larger graph is traced each time and not kept


class _ByValue(pickle.Pickler):
    """Pickles tensors by what they hold: torch's own way writes addresses too."""

    def reducer_override(self, one):
        if not isinstance(one, torch.Tensor):
            return NotImplemented
        held = one.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()
        return str, (f"{one.dtype} {tuple(one.shape)} {hashlib.sha256(held).hexdigest()}",)


def digest(what: object) -> str:
    """Of every attribute, setting and tensor."""
    told = io.BytesIO()
    _ByValue(told).dump(what)
    return hashlib.sha256(told.getvalue()).hexdigest()


def traced_once() -> Iterator[dict[str, bytes]]:
    """Keep each trace as long as this goes on; gives what is kept, by digest."""
    kept: dict[str, bytes] = {}
    real = onnx_graph.write_onnx

    def write_onnx(module, example, inputs, outputs, **shape):
        try:
            key = digest((module, example, inputs, outputs, shape))
        except (AttributeError, TypeError, pickle.PicklingError):  # of a test's own class
            return real(module, example, inputs, outputs, **shape)
        if key in kept:
            return onnx.ModelProto.FromString(kept[key])
        model = real(module, example, inputs, outputs, **shape)
        if model.ByteSize() < _MOST_BYTES:
            kept[key] = model.SerializeToString()
        return model

    with pytest.MonkeyPatch.context() as patch:
        for place in (onnx_graph, frames):
            patch.setattr(place, "write_onnx", write_onnx)
        yield kept
