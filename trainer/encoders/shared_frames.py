"""Frames of several front ends on one grid, so that overlapping windows share all of them.

Front ends of other rates and hops begin together each so many samples: every 0.25 s of mel bands
each 10 ms at 32 kHz and of bands each 15.6 ms at 16 kHz. Such a stretch is one frame here and holds
all of theirs: to whoever shares frames it is a front end like any other.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder, Framing
from trainer.encoders.resample import Resampler

# A chunk makes a second of new sound, which is the usual hop.
_NEW_SECONDS = 1.0


class SharedFrontEnd(nn.Module):
    """Waveform `(batch, n)` of whole stretches to `(batch, rows, n / stretch)`.

    Args:
        encoders: Each has a `framing` and takes `with_frames`.
        sample_rate: Rate of the waveform, Hz; a multiple of each of theirs.
    """

    def __init__(self, encoders: Sequence[Encoder], sample_rate: int) -> None:
        super().__init__()
        self.sample_rate = sample_rate
        framings = [encoder.framing for encoder in encoders]
        hops = [
            framing.hop * sample_rate // encoder.sample_rate
            for framing, encoder in zip(framings, encoders, strict=True)
            if framing is not None
        ]
        self.stretch = math.lcm(*hops)
        self.each = [self.stretch // hop for hop in hops]
        # Of their own: the exporter knows a front end by where it is called.
        self.makers = nn.ModuleList(
            _Maker(framing.front_end, encoder.sample_rate, sample_rate)
            for framing, encoder in zip(framings, encoders, strict=True)
            if framing is not None
        )
        with torch.inference_mode():
            heard = torch.zeros(1, 4 * self.stretch)
            self.shapes = [tuple(maker(heard).shape[1:-1]) for maker in self.makers]

    @property
    def framing(self) -> Framing:
        """Of a stretch at either edge some frame reaches beyond it; none reaches further."""
        new = math.ceil(_NEW_SECONDS * self.sample_rate / self.stretch)
        return Framing(self, hop=self.stretch, head=1, tail=1, chunk=new + 2)

    def forward(self, waveform: Tensor) -> Tensor:
        batch, stretches = waveform.shape[0], waveform.shape[1] // self.stretch
        rows = []
        for maker, each in zip(self.makers, self.each, strict=True):
            frames = maker(waveform).reshape(batch, -1, stretches, each)
            rows.append(frames.transpose(2, 3).reshape(batch, -1, stretches))
        return torch.cat(rows, dim=1)

    def apart(self, frames: Tensor) -> list[Tensor]:
        """Each encoder's frames, as its own front end gives them."""
        sizes = [
            math.prod(shape) * each for shape, each in zip(self.shapes, self.each, strict=True)
        ]
        batch, found = frames.shape[0], []
        for rows, shape, each in zip(
            torch.split(frames, sizes, dim=1), self.shapes, self.each, strict=True
        ):
            apart = rows.reshape(batch, math.prod(shape), each, -1).transpose(2, 3)
            found.append(apart.reshape(batch, *shape, frames.shape[2] * each))
        return found


class _Maker(nn.Module):
    """One encoder's frames of a waveform at another rate."""

    def __init__(self, front_end: nn.Module, rate: int, given: int) -> None:
        super().__init__()
        self.front_end = copy.deepcopy(front_end)
        self.resample: nn.Module = nn.Identity() if rate == given else Resampler(given, rate)

    def forward(self, waveform: Tensor) -> Tensor:
        frames: Tensor = self.front_end(self.resample(waveform))
        return frames


def shared_front_end(
    encoders: Sequence[Encoder], sample_rate: int, window_samples: int
) -> SharedFrontEnd | None:
    """One front end of several encoders; None where they have none to share.

    Args:
        encoders: All that hear the window.
        sample_rate: Rate of the window, Hz.
        window_samples: Its length.
    """
    if len(encoders) < 2 or any(sample_rate % one.sample_rate for one in encoders):
        return None
    made = SharedFrontEnd(encoders, sample_rate)
    framing = made.framing
    whole = window_samples % made.stretch == 0 and framing.chunk is not None
    return made if whole and window_samples // made.stretch > (framing.chunk or 0) else None
