"""A change of sample rate as one matrix product, so that it exports with the encoder behind it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from trainer.encoders.spectrum import frame

# Zero crossings of the kernel on either side, and its Kaiser window: 80 dB of stop band.
_CROSSINGS = 32
_BETA = 8.0
# Pass band, as a share of the narrower rate's half; the rest is where the filter falls.
_PASSED = 0.945
# Samples that a block gives, about. A convolution of one channel is what runtimes are slowest at: a
# product over blocks does three times its arithmetic in a seventh of its time (onnxruntime).
_BLOCK = 64


class Resampler(nn.Module):
    """Band-limited change from one rate to a lower or higher one, a ratio of small integers.

    With up / down the ratio in lowest terms, output sample `j up + p` lies at input time
    `j down + p down / up`: a convolution of stride `down` with one kernel for each p, whose
    outputs are interleaved (polyphase form). Blocks of the input, each as long as so many steps
    reach, are multiplied by one matrix that holds these kernels, each a step further on.

    Args:
        source: Rate of the input, Hz.
        target: Rate of the output, Hz.
        samples: Length of the output, samples; as long as the input when None.
    """

    def __init__(self, source: int, target: int, samples: int | None = None) -> None:
        super().__init__()
        common = math.gcd(source, target)
        self.up, self.down = target // common, source // common
        self.samples = samples
        share = min(1.0, target / source) * _PASSED
        half = math.ceil(_CROSSINGS / share)
        reach = 2 * half + math.ceil((self.up - 1) * self.down / self.up) + 1
        self.before = half
        at = np.arange(self.up)[:, None] * self.down / self.up + half - np.arange(reach)[None]
        inside = np.clip(1.0 - np.square(at / half), 0.0, None)
        window = np.where(np.abs(at) <= half, np.i0(_BETA * np.sqrt(inside)) / np.i0(_BETA), 0.0)
        kernels = share * np.sinc(share * at) * window
        # Each phase passes a constant unchanged.
        kernels /= kernels.sum(axis=1, keepdims=True)
        block = max(1, _BLOCK // self.up)
        self.hop = block * self.down
        self.span = self.hop - self.down + reach
        matrix = np.zeros((self.span, block, self.up))
        for step in range(block):
            matrix[step * self.down :][:reach, step] = kernels.T
        self.matrix: Tensor
        self.register_buffer(
            "matrix",
            torch.from_numpy(matrix.reshape(self.span, -1).astype(np.float32)),
            persistent=False,
        )
        self.given = block * self.up

    def forward(self, waveform: Tensor) -> Tensor:
        """Resample.

        Args:
            waveform: float32, shape `(batch, n)`.

        Returns:
            float32, shape `(batch, samples)`; silence where the input had ended.
        """
        samples = self.samples
        if samples is None:
            samples = waveform.shape[1] * self.up // self.down
        # Enough zeros that the last output sample has its whole kernel.
        needed = (math.ceil(samples / self.given) - 1) * self.hop + self.span
        after = max(0, needed - self.before - waveform.shape[1])
        padded = nn.functional.pad(waveform, (self.before, after))[:, :needed]
        found: Tensor = torch.matmul(frame(padded, self.span, self.hop), self.matrix)
        return found.flatten(1)[:, :samples]
