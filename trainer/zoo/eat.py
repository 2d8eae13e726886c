"""EAT (Chen et al. 2024): efficient audio transformer.

Kaldi filter bank of the mean-free waveform, 16 x 16 patches read time step by time step, stored
sine-cosine positions, a class token, and post-norm blocks without a final norm. The class token is
the clip's embedding.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.core.errors import ConfigError
from agent.explain.grid import PatchGrid
from trainer.zoo.backbone import Architecture, Backbone, Hidden, Translation, translate
from trainer.zoo.fbank import KALDI_HOP, KaldiFbank, kaldi_frames, kaldi_grid
from trainer.zoo.vit import Block, merge_steps, run_blocks, sincos

BASE = Architecture(768, 12, 12, 3072, {"steps": 768})
LARGE = Architecture(1024, 24, 16, 4096, {"steps": 768})
TINY = Architecture(64, 3, 4, 256, {"steps": 72})
SIZES: Mapping[str, Architecture] = {"base": BASE, "large": LARGE, "tiny": TINY}

_BANDS = 8  # 128 mel bins in patches of 16
_PATCH = 16
_MEAN, _STD = -4.268, 4.569  # of AudioSet's filter bank; the deviation enters twice
FRAMES = 1024  # what ten seconds are padded to, as in training
_HEADS = {arch.width: arch.heads for arch in SIZES.values()}


class _Patches(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, _PATCH, stride=_PATCH)

    def forward(self, features: Tensor) -> Tensor:
        return self.proj(features.unsqueeze(1)).flatten(2).transpose(1, 2)  # type: ignore[no-any-return]


class Eat(Backbone):
    """The EAT encoder.

    Args:
        arch: Its numbers; `extra["steps"]` is how many time steps of positions are stored.
        frames: Frames the filter bank is zero-padded or cropped to, a multiple of 16.
    """

    family = "eat"
    sample_rate = 16000
    pooling = "summary"

    def __init__(self, arch: Architecture, frames: int = FRAMES) -> None:
        super().__init__()
        steps = arch.extra["steps"]
        if frames > steps * _PATCH:
            raise ConfigError(
                f"EAT has positions for {steps * _PATCH * KALDI_HOP / self.sample_rate:.0f} s, "
                "and the window is longer",
                where="window.seconds",
                remedy="Shorten the window.",
            )
        self.width, self.depth, self.frames = arch.width, arch.depth, frames
        self.merge_after: int | None = None
        self.front_end = KaldiFbank(window="hanning")
        self.local_encoder = _Patches(arch.width)
        self.extra_tokens = nn.Parameter(torch.randn(1, 1, arch.width) * 0.02)
        self.positions: Tensor
        # Half a token says the band, half the time. A checkpoint brings its own, rounded to half
        # precision.
        mel, time = sincos(_BANDS, arch.width // 2), sincos(steps, arch.width // 2)
        table = torch.cat([mel.repeat(len(time), 1), time.repeat_interleave(_BANDS, dim=0)], dim=1)
        self.register_buffer("positions", table.unsqueeze(0))
        self.pre_norm = nn.LayerNorm(arch.width, eps=1e-6)
        self.blocks = nn.ModuleList(
            Block(arch.width, arch.heads, arch.hidden, norm_first=False) for _ in range(arch.depth)
        )

    def bands(self) -> int:
        """Eight rows of patches."""
        return _BANDS

    def summarised(self) -> bool:
        """The class token."""
        return True

    def grid(self) -> PatchGrid:
        """Sixteen frames by sixteen filters."""
        return kaldi_grid(16)

    def features(self, waveform: Tensor) -> Tensor:
        """Filter bank `(batch, frames, 128)`; padding is put on before normalising."""
        fbank = self.front_end(waveform - waveform.mean(dim=-1, keepdim=True))
        missing = self.frames - fbank.shape[1]
        fbank = functional.pad(fbank, (0, 0, 0, missing)) if missing > 0 else fbank
        return (fbank[:, : self.frames] - _MEAN) / (2.0 * _STD)

    def tokens(self, features: Tensor) -> list[Tensor]:
        """Every layer's tokens, `(batch, 1 + frames // 16 * 8, width)`, the class token first."""
        patches = self.local_encoder(features)
        patches = patches + self.positions[:, : patches.shape[1]]
        summary = self.extra_tokens.expand(patches.shape[0], -1, -1)
        tokens = self.pre_norm(torch.cat([summary, patches], dim=1))
        if self.merge_after is None:
            return run_blocks(self.blocks, tokens)
        whole = run_blocks(list(self.blocks)[: self.merge_after], tokens)
        merged = merge_steps(whole[-1], _BANDS, leading=1)
        return whole + run_blocks(list(self.blocks)[self.merge_after :], merged)[1:]

    def merge(self, after: int) -> None:
        """Merge time steps after so many blocks."""
        self.merge_after = after

    def hidden(self, features: Tensor) -> list[Hidden]:
        """Entry 0 is the normalised input of the first block; entry k is block k's output."""
        return [
            Hidden(tokens[:, 1:].reshape(tokens.shape[0], -1, _BANDS, self.width), tokens[:, 0])
            for tokens in self.tokens(features)
        ]

    def truncate(self, depth: int) -> None:
        """Drop the blocks after `depth`."""
        self.blocks = self.blocks[:depth]
        self.depth = depth


def frames_for(samples: int) -> int:
    """Frames a window is padded to: the published 1024, or more where the window is longer."""
    need = -(-kaldi_frames(samples) // _PATCH) * _PATCH
    return max(FRAMES, need)


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are EAT's, in either layout."""
    return any(name.endswith("fixed_positional_encoder.positions") for name in tensors)


def architecture(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Architecture:
    """Read a file's numbers off its tensors and, for the heads, its configuration."""
    state = {_plain(name): tensor for name, tensor in tensors.items()}
    positions = state["fixed_positional_encoder.positions"]
    width = positions.shape[2]
    layers = {m[1] for name in state if (m := re.match(r"blocks\.(\d+)\.", name))}
    model = config.get("model", {})
    heads = config.get("num_heads") or (
        model.get("num_heads") if isinstance(model, Mapping) else None
    )
    return Architecture(
        width=width,
        depth=len(layers),
        heads=int(heads or _HEADS.get(width, max(1, width // 64))),
        hidden=int(state["blocks.0.mlp.fc1.weight"].shape[0]),
        extra={"steps": positions.shape[1] // _BANDS},
    )


def from_published(tensors: Mapping[str, Tensor]) -> Translation:
    """Published names to ours: fairseq's layout (pre-trained or fine-tuned) and Hugging Face's.

    The positions are taken from the file: those trained with were rounded to half precision.
    """
    plain = {_plain(name): tensor for name, tensor in tensors.items()}
    published = {_plain(name): name for name in tensors}
    found = translate(
        plain,
        rename={
            "fixed_positional_encoder.positions": "positions",
            "context_encoder.norm.": "pre_norm.",
        },
        ignore=("decoder.", "fc_norm.", "head.", "_ema."),
        known=("local_encoder.", "extra_tokens", "positions", "pre_norm.", "blocks."),
    )
    return Translation(
        found.tensors,
        tuple(published[name] for name in found.ignored),
        tuple(published[name] for name in found.unexpected),
    )


def _plain(name: str) -> str:
    """A name without the layout's prefixes."""
    return name.removeprefix("model.").removeprefix("modality_encoders.IMAGE.")
