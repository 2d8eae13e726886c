"""MuQ (Zhu et al. 2025): music representation by mel residual vector quantisation.

Mel spectrogram in decibels at 24 kHz, two residual convolution blocks that halve time and
frequency twice, and conformer layers with rotary positions; 25 tokens a second, whose mean is the
clip's embedding. The weights are CC-BY-NC 4.0.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.explain.grid import PatchGrid
from trainer.zoo.backbone import Architecture, Backbone, Hidden, Translation, translate
from trainer.zoo.fbank import MelPower, decibels
from trainer.zoo.vit import attend, key_mask, run_blocks

LARGE = Architecture(1024, 12, 16, 4096, {"channels": 512})
TINY = Architecture(64, 3, 4, 160, {"channels": 16})
SIZES: Mapping[str, Architecture] = {"large": LARGE, "tiny": TINY}

_MELS, _HOP = 128, 240
_MEAN, _STD = 6.768444971712967, 18.417922652295623  # of the training set's mel levels, dB
_KERNEL = 31
_ROTARY_BASE = 10000.0
_HEADS = {arch.width: arch.heads for arch in SIZES.values()}


class _FrontEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mel = MelPower(
            rate=24000, size=2048, hop=_HOP, mels=_MELS, low=0.0, high=12000.0, scale="htk"
        )

    def forward(self, waveform: Tensor) -> Tensor:
        # The last centred frame reaches past the sound and is left out.
        frames = waveform.shape[1] // _HOP
        return decibels(self.mel(waveform)[:, :frames]).transpose(1, 2)


class _Residual(nn.Module):
    """Two 3 x 3 convolutions beside one, the first of each side with stride 2."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.conv3 = nn.Conv2d(inputs, outputs, 3, stride=2, padding=1)
        self.bn3 = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        main = self.bn2(self.conv2(functional.relu(self.bn1(self.conv1(x)))))
        return functional.relu(main + self.bn3(self.conv3(x)))


class _Subsampling(nn.Module):
    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.conv = nn.Sequential(_Residual(1, channels), _Residual(channels, channels))
        self.linear = nn.Linear(channels * _MELS // 4, width)

    def forward(self, features: Tensor) -> Tensor:
        maps = self.conv(features.unsqueeze(1))  # (batch, channels, mels / 4, frames / 4)
        return self.linear(maps.permute(0, 3, 1, 2).flatten(2))  # type: ignore[no-any-return]


class _FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.intermediate_dense = nn.Linear(width, hidden)
        self.act = nn.SiLU()
        self.output_dense = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        return self.output_dense(self.act(self.intermediate_dense(tokens)))  # type: ignore[no-any-return]


class _Attention(nn.Module):
    """Self-attention whose queries and keys come from the rotated input, its values from the input.

    Rotary positions (Su et al. 2021) turn the hidden state itself, before the projections.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.linear_q = nn.Linear(width, width)
        self.linear_k = nn.Linear(width, width)
        self.linear_v = nn.Linear(width, width)
        self.linear_out = nn.Linear(width, width)

    def forward(
        self, tokens: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        batch, length, width = tokens.shape
        shape = (batch, length, self.heads, self.size)
        split = tokens.reshape(shape)
        left, right = split.chunk(2, dim=-1)
        turned = (split * cos + torch.cat([-right, left], dim=-1) * sin).reshape(tokens.shape)
        query = self.linear_q(turned).reshape(shape).transpose(1, 2)
        key = self.linear_k(turned).reshape(shape).transpose(1, 2)
        value = self.linear_v(tokens).reshape(shape).transpose(1, 2)
        mixed = attend(query, key, value, mask)
        return self.linear_out(mixed.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]


class _Convolution(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer_norm = nn.LayerNorm(width)
        self.pointwise_conv1 = nn.Conv1d(width, 2 * width, 1, bias=False)
        self.depthwise_conv = nn.Conv1d(
            width, width, _KERNEL, padding=_KERNEL // 2, groups=width, bias=False
        )
        self.batch_norm = nn.BatchNorm1d(width)
        self.act = nn.SiLU()
        self.pointwise_conv2 = nn.Conv1d(width, width, 1, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.pointwise_conv1(self.layer_norm(tokens).transpose(1, 2))
        x = self.depthwise_conv(functional.glu(x, dim=1))
        return self.pointwise_conv2(self.act(self.batch_norm(x))).transpose(1, 2)  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """Conformer layer (Gulati et al. 2020): half a feed-forward on either side."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.ffn1_layer_norm = nn.LayerNorm(arch.width)
        self.ffn1 = _FeedForward(arch.width, arch.hidden)
        self.self_attn_layer_norm = nn.LayerNorm(arch.width)
        self.self_attn = _Attention(arch.width, arch.heads)
        self.conv_module = _Convolution(arch.width)
        self.ffn2_layer_norm = nn.LayerNorm(arch.width)
        self.ffn2 = _FeedForward(arch.width, arch.hidden)
        self.final_layer_norm = nn.LayerNorm(arch.width)

    def forward(
        self, tokens: Tensor, cos: Tensor, sin: Tensor, mask: Tensor | None = None
    ) -> Tensor:
        tokens = tokens + 0.5 * self.ffn1(self.ffn1_layer_norm(tokens))
        tokens = tokens + self.self_attn(self.self_attn_layer_norm(tokens), cos, sin, mask)
        tokens = tokens + self.conv_module(tokens)
        tokens = tokens + 0.5 * self.ffn2(self.ffn2_layer_norm(tokens))
        return self.final_layer_norm(tokens)  # type: ignore[no-any-return]


class Muq(Backbone):
    """The MuQ encoder.

    Args:
        arch: Its numbers.
    """

    family = "muq"
    sample_rate = 24000
    pooling = "mean"

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.width, self.depth = arch.width, arch.depth
        self.front_end = _FrontEnd()
        self.conv = _Subsampling(arch.extra["channels"], arch.width)
        self.layers = nn.ModuleList(_Layer(arch) for _ in range(arch.depth))
        self.layer_norm: nn.Module = nn.LayerNorm(arch.width)
        size = arch.width // arch.heads
        exponent = torch.arange(0, size, 2, dtype=torch.int64).float() / size
        self.frequencies: Tensor
        self.register_buffer("frequencies", 1.0 / _ROTARY_BASE**exponent, persistent=False)

    def grid(self) -> PatchGrid:
        """Four frames of all frequencies."""
        return PatchGrid((0.0, self.sample_rate / 2), 4 * _HOP / self.sample_rate)

    def features(self, waveform: Tensor) -> Tensor:
        """Mel levels, normalised, `(batch, 128, samples // 240)`."""
        return (self.front_end(waveform) - _MEAN) / _STD  # type: ignore[no-any-return]

    def tokens(self, features: Tensor, padding: Tensor | None = None) -> list[Tensor]:
        """Every layer's tokens before the final norm, `(batch, frames / 4, width)` each.

        Args:
            features: As `features` gives them.
            padding: Bool `(batch, tokens)`, True where the sound had ended.
        """
        tokens = self.conv(features)
        if padding is not None:
            tokens = tokens.masked_fill(padding.unsqueeze(-1), 0.0)
        time = torch.arange(tokens.shape[1], device=tokens.device, dtype=torch.float32)
        angle = torch.cat([time[:, None] * self.frequencies] * 2, dim=-1)[None, :, None, :]
        cos, sin = angle.cos(), angle.sin()
        return run_blocks(self.layers, tokens, cos, sin, key_mask(padding))

    def hidden(self, features: Tensor) -> list[Hidden]:
        """Entry 0 is the convolutions' output, entry k layer k's; the last one is normed."""
        states = self.tokens(features)
        states[-1] = self.layer_norm(states[-1])
        return [Hidden(tokens.unsqueeze(2)) for tokens in states]

    def truncate(self, depth: int) -> None:
        """Drop the layers after `depth`, and with them the final norm."""
        if depth < self.depth:
            self.layer_norm = nn.Identity()
        self.layers = self.layers[:depth]
        self.depth = depth


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are MuQ's."""
    return any(name.endswith("conformer.layers.0.ffn1_layer_norm.weight") for name in tensors)


def architecture(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Architecture:
    """Read a file's numbers off its tensors and, for the heads, its configuration."""
    state = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    width, flat = state["conv.linear.weight"].shape
    layers = {m[1] for name in state if (m := re.match(r"conformer\.layers\.(\d+)\.", name))}
    wav2vec = config.get("w2v2_config", {})
    heads = wav2vec.get("num_attention_heads") if isinstance(wav2vec, Mapping) else None
    return Architecture(
        width=width,
        depth=len(layers),
        heads=int(heads or _HEADS.get(width, max(1, width // 64))),
        hidden=int(state["conformer.layers.0.ffn1.intermediate_dense.weight"].shape[0]),
        extra={"channels": flat * 4 // _MELS},
    )


def from_published(tensors: Mapping[str, Tensor]) -> Translation:
    """Published names to ours; the parts that only pre-training used are left out."""
    plain = {name.removeprefix("model."): tensor for name, tensor in tensors.items()}
    published = {name.removeprefix("model."): name for name in tensors}
    found = translate(
        plain,
        rename={"conformer.layer_norm.": "layer_norm.", "conformer.layers.": "layers."},
        ignore=(
            "cls_token",
            "mask_emb",
            "linear.",
            "rvq.",
            "quantizer_",
            "conformer.pos_conv_embed.",
            "conformer.embed_positions.",
        ),
        known=("conv.", "layers.", "layer_norm."),
    )
    return Translation(
        found.tensors,
        tuple(published[name] for name in found.ignored),
        tuple(published[name] for name in found.unexpected),
    )
