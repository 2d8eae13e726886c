"""EfficientAT mn04: a MobileNetV3 of width 0.4 trained on AudioSet (0.99 M parameters).

Schmid, Koutini and Widmer, "Efficient large-scale audio tagging via transformer-to-CNN knowledge
distillation", ICASSP 2023. Code and weights are MIT: https://github.com/fschmid56/EfficientAT.
Batch norms are folded into the convolutions while the checkpoint is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from agent.core.errors import ConfigError
from agent.explain.grid import PatchGrid
from trainer.encoders.base import Encoder, Framing, View
from trainer.encoders.spectrum import BandSpectrogram, Spectrogram, mel_edges, mel_filters

CHECKPOINT = "mn04_as_mAP_432.pt"
PUBLISHED = f"https://github.com/fschmid56/EfficientAT/releases (file {CHECKPOINT}, MIT licence)"
FEATURES = ("block12_freq", "block12_balanced", "last", "multi", "block7_balanced")

_RATE = 32000
_MELS = 128
_HIGHEST = 15000.0
_FRAME = 1024
_HOP = 320
_BN_EPS = 1e-3
# What `level: remove` brings windows to, root mean square: about that of AudioSet's clips.
_EVEN_RMS = 0.05
_NOTHING = 1e-12  # power of digital silence


class _Spec(NamedTuple):
    """One inverted residual block; `squeeze` is the excitation's inner width, 0 for none."""

    kernel: int
    expanded: int
    out: int
    squeeze: int
    hardswish: bool
    stride: int


_STEM = 8
_LAST = 384
_BLOCKS = (
    _Spec(3, 8, 8, 0, False, 1),
    _Spec(3, 24, 16, 0, False, 2),
    _Spec(3, 32, 16, 0, False, 1),
    _Spec(5, 32, 16, 8, False, 2),
    _Spec(5, 48, 16, 16, False, 1),
    _Spec(5, 48, 16, 16, False, 1),
    _Spec(3, 96, 32, 0, True, 2),
    _Spec(3, 80, 32, 0, True, 1),
    _Spec(3, 72, 32, 0, True, 1),
    _Spec(3, 72, 32, 0, True, 1),
    _Spec(3, 192, 48, 48, True, 1),
    _Spec(3, 272, 48, 72, True, 1),
    _Spec(5, 272, 64, 72, True, 2),
    _Spec(5, 384, 64, 96, True, 1),
    _Spec(5, 384, 64, 96, True, 1),
)
_FIRST_OF_MULTI = 6  # "multi" averages blocks 6 to 15 and the last convolution
# Features by band: the block they are of.
_BY_BAND = {"block12_freq": 12, "block12_balanced": 12, "block7_balanced": 7}
# Cells of this block are the patches (of the last one, if that is earlier): as many rows as block
# 12, and it hears less of the neighbourhood (it found more made-up faults,
# benchmarks/explanations.py).
_PATCHED = 9
_FREQUENCIES = 8  # 128 mel bins after four strides of 2


class Mn04(Encoder):
    """Frozen mn04 features of a 32 kHz waveform.

    Args:
        window_seconds: Length of the waveform, seconds.
        features: `block12_freq`: block 12 averaged over time only (48 channels x 8 bands, 384);
            `block12_balanced`: the same, each band and then each channel brought to unit length, so
            that neither a loud band nor a busy channel drowns the others; `block7_balanced`: block
            7 likewise (32 channels x 8 bands, 256), in a quarter less time;
            `last`: the last convolution averaged over time and frequency (384); `multi`: averages
            of blocks 6 to 15, then `last` (816). Layers that aren't needed are left out.
        level: `remove` hears every window as if it were equally loud.

    Raises:
        ConfigError: `features` is none of these.
    """

    def __init__(
        self,
        *,
        window_seconds: float,
        features: str = "",
        level: Literal["keep", "remove"] = "keep",
    ) -> None:
        super().__init__()
        self.kind = "mn04"
        self.features_name = features or FEATURES[0]
        if self.features_name not in FEATURES:
            raise ConfigError(
                f"mn04 has no features '{features}'",
                where="encoder.features",
                remedy=f"Choose one of {', '.join(FEATURES)}.",
            )
        self.sample_rate = _RATE
        self.window_samples = round(window_seconds * _RATE)
        self.front_end: MelFrontEnd | MelPower
        self.front_end, self.loudness = MelFrontEnd(), None
        if level == "remove":
            self.front_end, self.loudness = MelPower(), _EvenLoudness()
        # Index i of `features` is block i of the paper; 0 is the stem, 16 the last convolution.
        by_band = self.features_name in _BY_BAND
        depth = _BY_BAND.get(self.features_name, len(_BLOCKS))
        self._patched = min(_PATCHED, depth)
        layers: list[nn.Module] = [_Conv(1, _STEM, 3, stride=2, act=nn.Hardswish)]
        before = _STEM
        for spec in _BLOCKS[:depth]:
            layers.append(_Block(before, spec))
            before = spec.out
        if by_band:
            self.dim = before * _FREQUENCIES
        else:
            layers.append(_Conv(before, _LAST, 1, act=nn.Hardswish))
            self.dim = _LAST
            if self.features_name == "multi":
                self.dim += sum(spec.out for spec in _BLOCKS[_FIRST_OF_MULTI - 1 :])
        self.features = nn.ModuleList(layers)
        self.requires_grad_(False)
        self.eval()

    @property
    def views(self) -> tuple[View, ...]:
        """One: what AudioSet taught it, by bands."""
        return (View("mn04", 0, self.dim, low_hz=0.0, high_hz=_HIGHEST),)

    @property
    def patch_grid(self) -> PatchGrid:
        """Sixteen frames by sixteen filters, which a cell of block 9 stands for."""
        edges = mel_edges(mels=_MELS, rows=_FREQUENCIES, low=0.0, high=_HIGHEST, scale="kaldi")
        return PatchGrid(edges, _MELS // _FREQUENCIES * _HOP / _RATE)

    @property
    def framing(self) -> Framing:
        """Frames reach 512 samples to either side, hop 320; beyond the edges sound is mirrored."""
        return Framing(self.front_end, hop=_HOP, head=2, tail=1)

    def with_patches(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Embed, and give the cells of block 9."""
        return self.with_frames(self.front_end(waveform), waveform)

    def with_frames(self, frames: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding and the cells of block 9, of frames that were made before."""
        embedding, cells = self._run(frames, waveform)
        return embedding, cells.permute(0, 3, 2, 1)

    def forward(self, waveform: Tensor) -> Tensor:
        """Turn `(batch, window_samples)` into `(batch, dim)`."""
        return self._run(self.front_end(waveform), waveform)[0]

    def _run(self, frames: Tensor, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """The embedding, and the map of the patches `(batch, channels, rows, time)`."""
        x = frames
        if self.loudness is not None:
            x = self.loudness(x, waveform)
        means: list[Tensor] = []
        cells = x
        for index, layer in enumerate(self.features):
            x = layer(x)
            if index == self._patched:
                cells = x
            if self.features_name == "multi" and index >= _FIRST_OF_MULTI:
                means.append(x.mean(dim=(2, 3)))
        if self.features_name == "multi":
            return torch.cat(means, dim=1), cells
        if self.features_name == "last":
            return x.mean(dim=(2, 3)), cells
        bands = x.mean(dim=3)
        if self.features_name.endswith("_balanced"):
            bands = nn.functional.normalize(nn.functional.normalize(bands, dim=1), dim=2)
        return bands.flatten(1), cells

    def quantization_excludes(self) -> tuple[type[nn.Module], ...]:
        """The mel front end, and what evens loudness out."""
        return (MelFrontEnd, MelPower, _EvenLoudness)

    def load_published(self, path: Path) -> None:
        """Read the published checkpoint `path`, folding batch norms.

        Raises:
            ConfigError: It is missing, cut short, or another model's.
        """
        state = _read(path)
        try:
            own = self._folded(state)
            self.load_state_dict(own)
        except (KeyError, RuntimeError, AttributeError) as fault:
            raise ConfigError(
                f"is not the mn04 checkpoint: {str(fault).splitlines()[0]}",
                where=path,
                remedy=f"Expected {PUBLISHED}.",
            ) from fault
        if not all(bool(torch.isfinite(value).all()) for value in own.values()):
            raise ConfigError(
                "holds values that aren't finite", where=path, remedy=f"Expected {PUBLISHED}."
            )

    def _folded(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        own: dict[str, Tensor] = {}
        for name, module in self.named_modules():
            if isinstance(module, _Conv):
                own[f"{name}.0.weight"], own[f"{name}.0.bias"] = _fold(state, name)
            elif isinstance(module, _Excite):
                for layer in ("fc1", "fc2"):
                    key = f"{name}.conc_se_layers.0.{layer}"
                    own[f"{name}.{layer}.weight"] = state[f"{key}.weight"]
                    own[f"{name}.{layer}.bias"] = state[f"{key}.bias"]
        return own


def _fold(state: Mapping[str, Tensor], name: str) -> tuple[Tensor, Tensor]:
    """Weight and bias of the convolution `name.0` followed by batch norm `name.1`, in float64."""
    norm = {
        part: state[f"{name}.1.{part}"].double()
        for part in ("weight", "bias", "running_mean", "running_var")
    }
    gain = norm["weight"] / torch.sqrt(norm["running_var"] + _BN_EPS)
    weight = state[f"{name}.0.weight"].double() * gain[:, None, None, None]
    return weight.float(), (norm["bias"] - norm["running_mean"] * gain).float()


def _read(path: Path) -> Mapping[str, Tensor]:
    """The tensors of a checkpoint file."""
    if not path.is_file():
        raise ConfigError(
            "the pre-trained weights are not there",
            where=path,
            remedy=f"Download them from {PUBLISHED} and say where with --weights.",
        )
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as fault:
        # Arbitrary bytes make the unpickler stumble in many ways (struct.error, IndexError...).
        raise ConfigError(
            "cannot be read as a checkpoint: it is cut short, damaged, or something else",
            where=path,
            remedy=f"Download it again from {PUBLISHED}.",
        ) from fault
    if not isinstance(state, Mapping):
        raise ConfigError("holds no table of tensors", where=path, remedy=f"Expected {PUBLISHED}.")
    return state


class MelPower(nn.Module):
    """Waveform `(batch, n)` at 32 kHz to mel power `(batch, 1, 128, (n - 1) // 320 + 1)`.

    Pre-emphasis, centred frames of 1024 every 320 samples under a symmetric Hann window of 800,
    power, 128 bands of the Kaldi mel scale from 0 to 15 kHz.
    """

    def __init__(self) -> None:
        super().__init__()
        filters = mel_filters(
            rate=_RATE, size=_FRAME, mels=_MELS, low=0.0, high=_HIGHEST, scale="kaldi"
        )
        spectrogram = Spectrogram(_FRAME, _HOP, window=800, periodic=False, power=True)
        self.bands = BandSpectrogram(spectrogram, filters)

    def forward(self, waveform: Tensor) -> Tensor:
        return self.mel(waveform).transpose(1, 2)[:, None]

    def mel(self, waveform: Tensor) -> Tensor:
        """Mel power by frame, `(batch, frames, 128)`."""
        emphasised = waveform[:, 1:] - 0.97 * waveform[:, :-1]
        half = _FRAME // 2
        padded = nn.functional.pad(emphasised[:, None], (half, half), mode="reflect")[:, 0]
        found: Tensor = self.bands(padded)
        return found


class MelFrontEnd(MelPower):
    """The normalised logarithm of `MelPower`, as the network was trained on."""

    def forward(self, waveform: Tensor) -> Tensor:
        return _normalised_log(self.mel(waveform)).transpose(1, 2)[:, None]


class _EvenLoudness(nn.Module):
    """The normalised logarithm of mel power as it would be had the window a set loudness."""

    def forward(self, mel: Tensor, waveform: Tensor) -> Tensor:
        mean = waveform.mean(dim=1, keepdim=True)
        power = (waveform * waveform).mean(dim=1, keepdim=True) - mean * mean
        gain = _EVEN_RMS**2 / (torch.relu(power) + _NOTHING)
        return _normalised_log(mel * gain[:, :, None, None])


def _normalised_log(mel: Tensor) -> Tensor:
    return (torch.log(mel + 1e-5) + 4.5) / 5.0


class _Conv(nn.Sequential):
    """Convolution with its batch norm folded in, then an activation."""

    def __init__(
        self,
        before: int,
        after: int,
        kernel: int,
        *,
        stride: int = 1,
        groups: int = 1,
        act: type[nn.Module] | None = None,
    ) -> None:
        conv = nn.Conv2d(before, after, kernel, stride, padding=kernel // 2, groups=groups)
        super().__init__(conv, *([act()] if act else []))


class _Excite(nn.Module):
    """Squeeze and excitation over channels."""

    def __init__(self, width: int, inner: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, inner)
        self.fc2 = nn.Linear(inner, width)

    def forward(self, x: Tensor) -> Tensor:
        gate = torch.sigmoid(self.fc2(torch.relu(self.fc1(x.mean(dim=(2, 3))))))
        return x * gate[:, :, None, None]


class _Block(nn.Module):
    """Inverted residual block: expand, depthwise convolution, excite, project."""

    def __init__(self, before: int, spec: _Spec) -> None:
        super().__init__()
        act: type[nn.Module] = nn.Hardswish if spec.hardswish else nn.ReLU
        wide = spec.expanded
        layers: list[nn.Module] = []
        if wide != before:
            layers.append(_Conv(before, wide, 1, act=act))
        layers.append(_Conv(wide, wide, spec.kernel, stride=spec.stride, groups=wide, act=act))
        if spec.squeeze:
            layers.append(_Excite(wide, spec.squeeze))
        layers.append(_Conv(wide, spec.out, 1))
        self.block = nn.Sequential(*layers)
        self.residual = spec.stride == 1 and before == spec.out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.block(x)
        return x + y if self.residual else y
