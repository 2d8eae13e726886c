"""Dasheng (Dinkel et al. 2024): masked audio encoder with one token each 40 ms.

Mel spectrogram in decibels, batch normalisation over the mel bins, patches that span all bins and
four frames, learned positions, pre-norm blocks and a final norm; the clip's embedding is the mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from agent.explain.grid import PatchGrid
from trainer.zoo.backbone import Architecture, Backbone, Hidden, Translation, translate
from trainer.zoo.fbank import MelPower, decibels
from trainer.zoo.vit import Block, key_mask, run_blocks

BASE = Architecture(768, 12, 12, 3072)
LARGE = Architecture(1280, 32, 16, 5120)
HUGE = Architecture(1536, 40, 24, 6144)
TINY = Architecture(64, 3, 4, 256)
SIZES: Mapping[str, Architecture] = {"base": BASE, "06b": LARGE, "12b": HUGE, "tiny": TINY}

_MELS, _PATCH = 64, 4
CHUNK = 1008  # frames a pass: 252 positions are stored
_TOP_DB = 120.0
_HEADS = {arch.width: arch.heads for arch in SIZES.values()}


class _FrontEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.mel = MelPower(
            rate=16000, size=512, hop=160, mels=_MELS, low=0.0, high=8000.0, scale="htk"
        )

    def forward(self, waveform: Tensor) -> Tensor:
        return decibels(self.mel(waveform), top_db=_TOP_DB).transpose(1, 2)


class _Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, (_MELS, _PATCH), stride=(_MELS, _PATCH))

    def forward(self, features: Tensor) -> Tensor:
        return self.proj(features.unsqueeze(1))  # type: ignore[no-any-return]


class Dasheng(Backbone):
    """The Dasheng encoder.

    Args:
        arch: Its numbers.
    """

    family = "dasheng"
    sample_rate = 16000
    pooling = "mean"

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.width, self.depth = arch.width, arch.depth
        self.front_end = _FrontEnd()
        self.init_bn = nn.BatchNorm1d(_MELS)
        self.patch_embed = _Patches(arch.width)
        self.time_pos_embed = nn.Parameter(torch.randn(1, arch.width, 1, CHUNK // _PATCH) * 0.02)
        self.freq_pos_embed = nn.Parameter(torch.randn(1, arch.width, 1, 1) * 0.02)
        self.blocks = nn.ModuleList(
            Block(arch.width, arch.heads, arch.hidden, norm_first=True) for _ in range(arch.depth)
        )
        self.norm: nn.Module = nn.LayerNorm(arch.width, eps=1e-6)

    def grid(self) -> PatchGrid:
        """Four frames of all frequencies."""
        return PatchGrid((0.0, 8000.0), _PATCH / 100)

    def features(self, waveform: Tensor) -> Tensor:
        """Mel levels before the batch norm, dB, `(batch, 64, 1 + samples // 160)`."""
        return self.front_end(waveform)  # type: ignore[no-any-return]

    def tokens(self, chunk: Tensor, padding: Tensor | None = None) -> list[Tensor]:
        """Every layer's tokens of at most 1008 frames, before the final norm.

        Args:
            chunk: Batch-normalised features, `(batch, 64, frames)`.
            padding: Bool `(batch, frames // 4)`, True where the sound had ended.

        Returns:
            `depth + 1` tensors `(batch, frames // 4, width)`.
        """
        patches = self.patch_embed(chunk)
        patches = patches + self.time_pos_embed[..., : patches.shape[-1]] + self.freq_pos_embed
        return run_blocks(self.blocks, patches.flatten(2).transpose(1, 2), key_mask(padding))

    def hidden(self, features: Tensor) -> list[Hidden]:
        """Entry k is block k's output, the last one normed; chunks are joined in time."""
        normalised = self.init_bn(features)
        chunks = [
            self.tokens(chunk)
            for chunk in torch.split(normalised, CHUNK, dim=2)
            if chunk.shape[2] >= _PATCH
        ]
        joined = [torch.cat(parts, dim=1) for parts in zip(*chunks, strict=True)]
        joined[-1] = self.norm(joined[-1])
        return [Hidden(tokens.unsqueeze(2)) for tokens in joined]

    def truncate(self, depth: int) -> None:
        """Drop the blocks after `depth`, and with them the final norm."""
        if depth < self.depth:
            self.norm = nn.Identity()
        self.blocks = self.blocks[:depth]
        self.depth = depth


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are Dasheng's, in either layout."""
    return {"time_pos_embed", "encoder.time_pos_embed"} & tensors.keys() != set()


def architecture(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Architecture:
    """Read a file's numbers off its tensors and, for the heads, its configuration."""
    state = {name.removeprefix("encoder."): tensor for name, tensor in tensors.items()}
    width = state["time_pos_embed"].shape[1]
    layers = {m[1] for name in state if (m := re.match(r"blocks\.(\d+)\.", name))}
    heads = config.get("num_heads")
    return Architecture(
        width=width,
        depth=len(layers),
        heads=int(heads or _HEADS.get(width, max(1, width // 64))),
        hidden=int(state["blocks.0.mlp.fc1.weight"].shape[0]),
    )


def from_published(tensors: Mapping[str, Tensor]) -> Translation:
    """Published names to ours; the front end's tables are computed, so the file's are left."""
    return translate(
        tensors,
        rename={"encoder.init_bn.1.": "init_bn.", "init_bn.1.": "init_bn.", "encoder.": ""},
        ignore=("front_end.", "encoder.front_end.", "outputlayer.", "head."),
        known=(
            "time_pos_embed",
            "freq_pos_embed",
            "init_bn.",
            "patch_embed.",
            "blocks.",
            "norm.",
        ),
    )
