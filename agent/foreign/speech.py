"""Speech by Silero's voice activity detector, version 4 (github.com/snakers4/silero-vad)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import soxr

from agent.core.errors import ConfigError
from agent.core.records import Matrix, Samples

RATE = 16_000
_STEP = 512
_STATE = (2, 1, 64)
_REMEDY = "Give silero_vad.onnx of version 4: inputs input, sr, h and c."


def open_graph(path: Path) -> Any:
    """Open a small graph of the user's, to run on one core and say nothing."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class SpeechModel:
    """The detector, opened once for all machines.

    Args:
        path: `silero_vad.onnx`.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._session: Any = None

    def start(self) -> None:
        """Load it and run it once.

        Raises:
            ConfigError: It is no such detector.
        """
        try:
            self._session = open_graph(self._path)
            self.hear(np.zeros(_STEP, np.float32), RATE)
        except Exception as fault:
            # The runtime's own exceptions have no common base.
            self._session = None
            raise ConfigError(
                "is no speech detector that can be run", where=self._path, remedy=_REMEDY
            ) from fault

    def hear(self, samples: Samples, rate: int) -> Matrix:
        """Probability of speech each 32 ms, `(n,)`.

        Args:
            samples: float32 `(n,)`.
            rate: Samples a second.
        """
        if rate != RATE:
            samples = soxr.resample(samples, rate, RATE, quality="HQ")
        samples = np.pad(samples, (0, -len(samples) % _STEP))
        hidden, cell = np.zeros(_STATE, np.float32), np.zeros(_STATE, np.float32)
        found = []
        for start in range(0, len(samples), _STEP):
            sure, hidden, cell = self._session.run(
                ["output", "hn", "cn"],
                {
                    "input": samples[None, start : start + _STEP],
                    "sr": np.array(RATE, np.int64),
                    "h": hidden,
                    "c": cell,
                },
            )
            found.append(float(sure[0, 0]))
        return np.array(found, np.float32)
