"""Tags of a small network that the user names: what else is heard in a window that exceeds.

The graph takes log-mel patches as YAMNet does (github.com/tensorflow/models, research/audioset/
yamnet): 16 kHz, 25 ms periodic Hann frames each 10 ms, magnitudes of a 512-point transform in 64
mel bands from 125 to 7500 Hz, log(x + 0.001), 96 frames a patch. `auscult convert-tagger` makes it
of the published file, and writes into it which tags make which kind of sound.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import soxr

from agent.core.errors import ConfigError
from agent.core.records import Matrix, Samples
from agent.foreign.speech import open_graph

RATE = 16_000
_FRAME, _STEP, _FFT = 400, 160, 512
_BANDS, _LOW_HZ, _HIGH_HZ = 64, 125.0, 7500.0
_FRAMES, _HOP = 96, 48
_OFFSET = 0.001
_REMEDY = "Make it with `auscult convert-tagger yamnet_spectra_in.tflite --out tagger.onnx`."


def mel_matrix() -> Matrix:
    """HTK mel bands, triangles in mel, float32 `(257, 64)`."""

    def mel(hertz: npt.NDArray[np.floating[Any]]) -> npt.NDArray[np.floating[Any]]:
        found: npt.NDArray[np.floating[Any]] = 1127.0 * np.log1p(hertz / 700.0)
        return found

    bins = mel(np.linspace(0.0, RATE / 2, _FFT // 2 + 1))[:, None]
    low, high = mel(np.array([_LOW_HZ, _HIGH_HZ]))
    edges = np.linspace(float(low), float(high), _BANDS + 2)
    rising = (bins - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - bins) / (edges[2:] - edges[1:-1])
    weights = np.maximum(0.0, np.minimum(rising, falling))
    weights[0] = 0.0
    found: Matrix = weights.astype(np.float32)
    return found


def patches_of(samples: Samples, rate: int, mel: Matrix) -> Matrix:
    """Log-mel patches of a sound, half overlapping, float32 `(n, 96, 64)`; one at least."""
    if rate != RATE:
        samples = soxr.resample(samples, rate, RATE, quality="HQ")
    need = _FRAME + (_FRAMES - 1) * _STEP
    if len(samples) < need:
        samples = np.pad(samples, (0, need - len(samples)))
    frames = np.lib.stride_tricks.sliding_window_view(samples, _FRAME)[::_STEP]
    window = (0.5 - 0.5 * np.cos(2 * math.pi * np.arange(_FRAME) / _FRAME)).astype(np.float32)
    magnitudes = np.abs(np.fft.rfft(frames * window, _FFT, axis=1)).astype(np.float32)
    levels = np.log(magnitudes @ mel + np.float32(_OFFSET))
    starts = range(0, len(levels) - _FRAMES + 1, _HOP)
    return np.stack([levels[start : start + _FRAMES] for start in starts])


class Tagger:
    """A tagging network, opened once for all machines.

    Args:
        path: The graph.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: Any = None
        self._input = ""
        self._mel = mel_matrix()
        self._groups: dict[str, npt.NDArray[np.intp]] = {}

    def start(self) -> None:
        """Load it and run it once.

        Raises:
            ConfigError: It is no such graph.
        """
        try:
            session = open_graph(self._path)
            meta = session.get_modelmeta().custom_metadata_map
            self._groups = _groups(json.loads(meta["auscult.groups"]))
            self._input = session.get_inputs()[0].name
            self._session = session
            tags = self._tags(np.zeros((1, _FRAMES, _BANDS), np.float32))
            fits = max(int(one.max()) for one in self._groups.values()) < tags.shape[1]
        except Exception as fault:
            # The runtime's own exceptions have no common base.
            self._session = None
            raise ConfigError(
                "is no tagger that can be run", where=self._path, remedy=_REMEDY
            ) from fault
        if not fits:
            self._session = None
            raise ConfigError("names tags that it has not", where=self._path, remedy=_REMEDY)

    def hear(self, samples: Samples, rate: int) -> dict[str, Matrix]:
        """How sure each kind of sound is in each patch, half a second apart, 0 to 1, `(n,)`.

        Args:
            samples: float32 `(n,)`.
            rate: Samples a second.
        """
        tags = self._tags(patches_of(samples, rate, self._mel))
        return {kind: tags[:, places].max(axis=1) for kind, places in self._groups.items()}

    def _tags(self, patches: Matrix) -> Matrix:
        (found,) = self._session.run(None, {self._input: patches})
        return np.asarray(found, np.float32)


def _groups(found: Mapping[str, list[int]]) -> dict[str, npt.NDArray[np.intp]]:
    return {str(kind): np.array(places, np.intp) for kind, places in found.items() if places}
