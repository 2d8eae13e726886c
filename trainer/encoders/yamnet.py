"""YAMNet: a MobileNet trained on AudioSet, its middle layers as a view.

Plakal and Ellis, https://github.com/tensorflow/models/tree/master/research/audioset/yamnet,
Apache-2.0. The weights are read from the INT8 file of the Coral Micro examples
(`yamnet_spectra_in.tflite`, Apache-2.0), by channel, and run as float32 until the exporter
quantizes them again for the device's runtime.

Front end, as published: 16 kHz, frames of 400 samples every 160 under a periodic Hann window, 512
points, magnitude, 64 bands of the HTK mel scale from 125 to 7500 Hz, log(mel + 0.001); patches of
96 frames (0.96 s), here side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from trainer.encoders.base import Encoder, View
from trainer.encoders.even import EvenWaveform
from trainer.encoders.spectrum import Spectrum, frame, mel_filters
from trainer.zoo.tflite import Layer, read_layers

CHECKPOINT = "yamnet_spectra_in.tflite"
# Features: after how many separable blocks.
FEATURES = {"middle": 5, "late": 11, "last": 13}

_RATE = 16000
_FRAME, _HOP, _SIZE = 400, 160, 512
_MELS, _LOW_HZ, _HIGH_HZ = 64, 125.0, 7500.0
_OFFSET = 0.001
_PATCH = 96
# (channels, stride) of the stem and of the separable blocks.
_STEM = 32
_BLOCKS = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
    (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip


class Yamnet(Encoder):
    """Frozen YAMNet features of a 16 kHz waveform.

    Args:
        window_seconds: Length of the waveform, seconds; 0.975 at least.
        features: `middle`: block 5 (256 channels, 8 bands, averaged over time, each band and then
            each channel brought to unit length; 2048 values); `late`: block 11 (512 channels, 4
            bands) likewise; `last`: the mean of the last block (1024), which its tags come from.
        level: `remove` hears every window as if it were equally loud.

    Raises:
        ConfigError: `features` is none of these, or the window holds no patch.
    """

    def __init__(
        self,
        *,
        window_seconds: float,
        features: str = "",
        level: Literal["keep", "remove"] = "keep",
    ) -> None:
        super().__init__()
        self.kind = "yamnet"
        self.features_name = features or "middle"
        if self.features_name not in FEATURES:
            raise ConfigError(
                f"yamnet has no features '{features}'",
                where="encoder.features",
                remedy=f"Choose one of {', '.join(FEATURES)}.",
            )
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        frames = (self.window_samples - _FRAME) // _HOP + 1
        self.patches = frames // _PATCH
        if self.patches < 1:
            raise ConfigError(
                f"yamnet hears patches of 0.975 s, and windows are of {window_seconds:g} s",
                where="window.seconds",
                remedy="Lengthen the window.",
            )
        self.front_end = _LogMel(even=level == "remove")
        self.stem = _Conv(1, _STEM, 3, stride=2)
        blocks, before = [], _STEM
        for channels, stride in _BLOCKS[: FEATURES[self.features_name]]:
            blocks.append(
                nn.Sequential(
                    _Conv(before, before, 3, stride=stride, groups=before),
                    _Conv(before, channels, 1),
                )
            )
            before = channels
        self.blocks = nn.ModuleList(blocks)
        self.bands = {"middle": 8, "late": 4, "last": 1}[self.features_name]
        self.dim = before * self.bands
        self.requires_grad_(False)
        self.eval()

    @property
    def views(self) -> tuple[View, ...]:
        """One: what AudioSet taught it."""
        return (View("yamnet", 0, self.dim, low_hz=_LOW_HZ, high_hz=_HIGH_HZ),)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, dim)`."""
        logs = self.front_end(waveform)[:, : self.patches * _PATCH]
        x = self.embed_patches(logs.reshape(-1, 1, _PATCH, _MELS))
        if self.bands == 1:
            return x.mean(dim=(2, 3)).reshape(-1, self.patches, self.dim).mean(dim=1)
        bands = x.mean(dim=2).reshape(-1, self.patches, x.shape[1], self.bands).mean(dim=1)
        return _balanced(bands).flatten(1)

    def embed_patches(self, x: Tensor) -> Tensor:
        """Turn log-mel patches `(n, 1, 96, 64)` into the chosen block's map."""
        x = self.stem(x)
        for block in self.blocks:
            x = block(x)
        return x

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """The front end: levels over many decades."""
        return (_LogMel, EvenWaveform)

    def load_published(self, path: Path) -> None:
        """Read the published file.

        Raises:
            ConfigError: It is missing, damaged, or another model's.
        """
        layers = read_layers(path)
        own = [self.stem, *(conv for block in self.blocks for conv in _convs(block))]
        try:
            for conv, layer in zip(own, layers[: len(own)], strict=True):
                conv.load(layer)
        except (ValueError, RuntimeError) as fault:
            raise ConfigError(
                f"is not YAMNet: {str(fault).splitlines()[0]}",
                where=path,
                remedy=f"Expected {CHECKPOINT} of the Coral Micro examples (Apache-2.0).",
            ) from fault


def _balanced(bands: Tensor) -> Tensor:
    """Each band, then each channel of `(batch, channels, bands)` at unit length."""
    return nn.functional.normalize(nn.functional.normalize(bands, dim=1), dim=2)


def _convs(block: nn.Module) -> list[_Conv]:
    return [module for module in block.children() if isinstance(module, _Conv)]


class _Conv(nn.Module):
    """Convolution with its batch norm folded in, TensorFlow's padding, ReLU up to 6."""

    def __init__(
        self, before: int, after: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        even = kernel == 3 and stride == 2
        # TensorFlow pads an even length under a stride of 2 at its end alone.
        self.pad = nn.ZeroPad2d((0, 1, 0, 1)) if even else nn.Identity()
        self.conv = nn.Conv2d(
            before, after, kernel, stride, padding=0 if even else kernel // 2, groups=groups
        )

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.relu6(self.conv(self.pad(x)))

    def load(self, layer: Layer) -> None:
        order = (3, 0, 1, 2) if self.conv.groups > 1 else (0, 3, 1, 2)
        weight = torch.from_numpy(np.ascontiguousarray(layer.weight.transpose(order)))
        if weight.shape != self.conv.weight.shape or len(layer.bias) != self.conv.out_channels:
            raise ValueError(
                f"a layer of shape {tuple(weight.shape)}, not {tuple(self.conv.weight.shape)}"
            )
        with torch.no_grad():
            self.conv.weight.copy_(weight)
            assert self.conv.bias is not None
            self.conv.bias.copy_(torch.from_numpy(layer.bias))


class _LogMel(nn.Module):
    """Waveform `(batch, n)` to log-mel frames `(batch, frames, 64)`."""

    def __init__(self, *, even: bool) -> None:
        super().__init__()
        self.even = EvenWaveform() if even else nn.Identity()
        self.spectrum = Spectrum(_SIZE)
        window = torch.hann_window(_FRAME, periodic=True, dtype=torch.float64).float()
        self.window: Tensor
        self.register_buffer("window", window, persistent=False)
        filters = mel_filters(
            rate=_RATE, size=_SIZE, mels=_MELS, low=_LOW_HZ, high=_HIGH_HZ, scale="kaldi"
        )
        self.filters: Tensor
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        frames = frame(self.even(waveform), _FRAME, _HOP) * self.window
        # Zeros behind change the phase alone, and only magnitudes are heard.
        magnitude = self.spectrum(nn.functional.pad(frames, (0, _SIZE - _FRAME)))
        return torch.log(torch.matmul(magnitude, self.filters) + _OFFSET)
