"""The small speech embedding: 96 values for each 80 ms, trained on spoken words.

Lin, Kilgour, Roblek and Sharifi, "Training keyword spotters with limited and synthesized speech
data", ICASSP 2020; Apache-2.0, as openWakeWord ships it (`speech_embedding.onnx`). A network
without padding in time, so that one pass over a window gives what its own windows of 76 frames
give, eight frames apart.

Front end, as shipped beside it: samples as 16-bit integers, frames of 512 every 160 under a
periodic Hann window of 400, power, 32 Slaney bands from 60 to 3800 Hz, dB with 80 dB below the
loudest; then dB / 10 + 2.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.encoders.base import Encoder, View
from trainer.encoders.even import EvenWaveform
from trainer.encoders.spectrum import Spectrogram, mel_filters

CHECKPOINT = "speech_embedding.onnx"

_RATE = 16000
_FRAME, _HOP, _WINDOW = 512, 160, 400
_MELS, _LOW_HZ, _HIGH_HZ = 32, 60.0, 3800.0
_INTEGERS = 32768.0
_LEAST_POWER, _RANGE_DB = 1e-10, 80.0
_DIM = 96
_FEWEST = 76  # frames that one embedding hears
# (channels, kernel in time and frequency) of each convolution; what is pooled after it.
_CONVS = (
    (24, (3, 3)), (24, (1, 3)), (24, (3, 1)),
    (48, (1, 3)), (48, (3, 1)), (48, (1, 3)), (48, (3, 1)),
    (72, (1, 3)), (72, (3, 1)), (72, (1, 3)), (72, (3, 1)),
    (96, (1, 3)), (96, (3, 1)), (96, (1, 3)), (96, (3, 1)),
    (96, (1, 3)), (96, (3, 1)), (96, (1, 3)), (96, (3, 1)),
    (_DIM, (3, 1)),
)  # fmt: skip
_POOLS = {2: (2, 2), 6: (1, 2), 10: (2, 2), 14: (1, 2), 18: (2, 2)}
_SLOPE, _LOWEST = 0.2, -0.4  # of the leaky activation, and where it ends
_STILL = 1e-6  # variance over time of steady sound


class SpeechEmbedding(Encoder):
    """Frozen speech embedding of a 16 kHz waveform: its mean over time, then its deviation.

    Args:
        window_seconds: Length of the waveform, seconds; 0.8 at least.
        level: `remove` hears every window as if it were equally loud.

    Raises:
        ConfigError: The window is shorter than what one embedding hears.
    """

    def __init__(self, *, window_seconds: float, level: Literal["keep", "remove"] = "keep") -> None:
        super().__init__()
        self.kind = "speech_embedding"
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        if self.window_samples < _FRAME + (_FEWEST - 1) * _HOP:
            raise ConfigError(
                f"speech_embedding hears 0.8 s at once, and windows are of {window_seconds:g} s",
                where="window.seconds",
                remedy="Lengthen the window.",
            )
        self.front_end = _LogMel(even=level == "remove")
        self.dim = 2 * _DIM
        layers, before = [], 1
        for place, (channels, kernel) in enumerate(_CONVS):
            last = place == len(_CONVS) - 1
            padding = (0, 1 if kernel[1] == 3 else 0)
            layers.append(nn.Conv2d(before, channels, kernel, padding=padding, bias=not last))
            before = channels
        self.layers = nn.ModuleList(layers)
        self.requires_grad_(False)
        self.eval()

    @property
    def views(self) -> tuple[View, ...]:
        """One: what speech taught it."""
        return (View("speech_embedding", 0, self.dim, low_hz=_LOW_HZ, high_hz=_HIGH_HZ),)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, 192)`."""
        x = self.embed_frames(self.front_end(waveform))
        mean = x.mean(dim=2)
        swing = x - mean[:, :, None]
        return torch.cat([mean, torch.sqrt((swing * swing).mean(dim=2) + _STILL)], dim=1)

    def embed_frames(self, mel: Tensor) -> Tensor:
        """Turn mel frames `(batch, frames, 32)`, scaled, into embeddings `(batch, 96, times)`."""
        x = mel[:, None]
        for place, conv in enumerate(self.layers):
            x = conv(x)
            if place < len(self.layers) - 1:
                x = torch.clamp(nn.functional.leaky_relu(x, _SLOPE), min=_LOWEST)
            if place in _POOLS:
                x = nn.functional.max_pool2d(x, _POOLS[place], _POOLS[place])
        return x[:, :, :, 0]

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """The front end: levels over many decades."""
        return (_LogMel, EvenWaveform)

    def load_published(self, path: Path) -> None:
        """Read the published file.

        Raises:
            ConfigError: It is missing, damaged, or another model's.
        """
        for conv, (weight, bias) in zip(self.layers, _read(path, len(self.layers)), strict=True):
            assert isinstance(conv, nn.Conv2d)
            if weight.shape != conv.weight.shape or (bias is None) != (conv.bias is None):
                raise ConfigError(
                    f"is not the speech embedding: a layer of shape {tuple(weight.shape)}",
                    where=path,
                    remedy=f"Expected {CHECKPOINT} as openWakeWord ships it (Apache-2.0).",
                )
            with torch.no_grad():
                conv.weight.copy_(weight)
                if bias is not None and conv.bias is not None:
                    conv.bias.copy_(bias)


def _read(path: Path, count: int) -> list[tuple[Tensor, Tensor | None]]:
    """Weight and bias of a file's convolutions, in order."""
    import onnx  # noqa: PLC0415 - heavy, and only read here
    from onnx import numpy_helper  # noqa: PLC0415

    if not path.is_file():
        raise ConfigError(
            "the pre-trained weights are not there",
            where=path,
            remedy="Say where they are with --weights.",
        )
    try:
        graph = onnx.load(path).graph
        known = {one.name: torch.tensor(numpy_helper.to_array(one)) for one in graph.initializer}
        found = [
            (known[node.input[1]], known[node.input[2]] if len(node.input) > 2 else None)
            for node in graph.node
            if node.op_type == "Conv"
        ]
    except Exception as fault:
        # Arbitrary bytes make the parser of protocol buffers stumble in many ways.
        raise ConfigError(
            f"cannot be read as an ONNX model: {type(fault).__name__}",
            where=path,
            remedy="It is damaged or something else: fetch it again.",
        ) from fault
    if len(found) != count:
        raise ConfigError(
            f"is not the speech embedding: it has {len(found)} convolutions, not {count}",
            where=path,
            remedy=f"Expected {CHECKPOINT} as openWakeWord ships it (Apache-2.0).",
        )
    return found


class _LogMel(nn.Module):
    """Waveform `(batch, n)` to scaled mel frames `(batch, frames, 32)`."""

    def __init__(self, *, even: bool) -> None:
        super().__init__()
        self.even = EvenWaveform() if even else nn.Identity()
        self.spectrogram = Spectrogram(_FRAME, _HOP, window=_WINDOW, power=True)
        filters = mel_filters(
            rate=_RATE, size=_FRAME, mels=_MELS, low=_LOW_HZ, high=_HIGH_HZ, area=True
        )
        self.filters: Tensor
        self.register_buffer("filters", filters * _INTEGERS**2, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        power = torch.matmul(self.spectrogram(self.even(waveform)), self.filters)
        decibels = 10.0 * torch.log10(torch.clamp(power, min=_LEAST_POWER))
        loudest = decibels.amax(dim=(1, 2), keepdim=True)
        return torch.maximum(decibels, loudest - _RANGE_DB) / 10.0 + 2.0
