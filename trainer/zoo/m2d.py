"""M2D (Niizumi et al. 2024): masked modeling duo, a ViT over 80-bin mel spectrograms.

Patches are read band by band (time runs fastest), positions are stored sine-cosine tables, blocks
are pre-norm with a final norm. Clips are taken in units of the length the file was trained on; a
clip's embedding joins the bands of each time step and averages over time. Built from the paper and
from measurements; NTT's code and weights come under its evaluation agreement.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from agent.explain.grid import PatchGrid
from trainer.encoders.spectrum import mel_edges
from trainer.zoo.backbone import Architecture, Backbone, Hidden, Translation, translate
from trainer.zoo.fbank import FLOOR, MelPower
from trainer.zoo.vit import Block, run_blocks, sincos

_MELS = 80
_DEFAULT_STATS = (-7.1, 4.2)  # mean and deviation of the log-mel, when the file names none
_HEADS = {64: 4, 384: 6, 768: 12, 1024: 16}
_NAME = re.compile(r"(?:^|[_-])(\d+)x(\d+)p(\d+)x(\d+)(?:p(\d+)k)?")


def input_of(name: str) -> dict[str, int]:
    """Input size, patch and rate as M2D writes them in names: `80x608p16x16`, `80x1001p16x16p32k`.

    Returns:
        `bins`, `frames`, `patch_bins`, `patch_frames`, `rate` (Hz); empty when the name has none.
    """
    found = _NAME.search(name)
    if not found:
        return {}
    bins, frames, patch_bins, patch_frames = (int(found[i]) for i in range(1, 5))
    return {
        "bins": bins,
        "frames": frames,
        "patch_bins": patch_bins,
        "patch_frames": patch_frames,
        "rate": int(found[5] or 16) * 1000,
    }


def size(name: str) -> Architecture:
    """The architecture of a size: `80x608p16x16` (ViT-base), or `tiny_80x608p16x16`.

    Raises:
        KeyError: It is not of that form.
    """
    extra = input_of(name)
    if not extra or extra["bins"] != _MELS:
        raise KeyError(name)
    if name.startswith("tiny"):
        return Architecture(64, 3, 4, 256, extra)
    return Architecture(768, 12, 12, 3072, extra)


def names(arch: Architecture) -> tuple[str, ...]:
    """The size names that an architecture's input size can have."""
    extra = arch.extra
    name = "{bins}x{frames}p{patch_bins}x{patch_frames}".format(**extra)
    rate = extra["rate"] // 1000
    name = name if rate == 16 else f"{name}p{rate}k"
    return name, f"tiny_{name}"


class _FrontEnd(nn.Module):
    def __init__(self, rate: int) -> None:
        super().__init__()
        window = rate // 40  # 25 ms
        self.mel = MelPower(
            rate=rate,
            size=window,
            hop=rate // 100,
            mels=_MELS,
            low=50.0,
            high=rate / 2,
            scale="slaney",
        )

    def forward(self, waveform: Tensor) -> Tensor:
        power: Tensor = self.mel(waveform)
        return (power + FLOOR).log().transpose(1, 2)


class _Patches(nn.Module):
    def __init__(self, width: int, patch: tuple[int, int]) -> None:
        super().__init__()
        self.proj = nn.Conv2d(1, width, patch, stride=patch)

    def forward(self, features: Tensor) -> Tensor:
        return self.proj(features.unsqueeze(1))  # type: ignore[no-any-return]


class M2d(Backbone):
    """The M2D encoder.

    Args:
        arch: Its numbers; `extra` as `input_of` gives it.
    """

    family = "m2d"
    pooling = "bands"

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.width, self.depth = arch.width, arch.depth
        self.sample_rate = arch.extra["rate"]
        self.unit = arch.extra["frames"]
        self.patch = arch.extra["patch_frames"]
        self.rows = arch.extra["bins"] // arch.extra["patch_bins"]
        self.columns = self.unit // self.patch
        self.front_end = _FrontEnd(self.sample_rate)
        self.norm_stats: Tensor
        self.register_buffer("norm_stats", torch.tensor(_DEFAULT_STATS))
        self.patch_embed = _Patches(arch.width, (arch.extra["patch_bins"], self.patch))
        self.cls_token = nn.Parameter(torch.randn(1, 1, arch.width) * 0.02)
        self.pos_embed: Tensor
        # As masked autoencoders lay them: half a token says the time, half the band; none for the
        # class token.
        time = sincos(self.columns, arch.width // 2).repeat(self.rows, 1)
        band = sincos(self.rows, arch.width // 2).repeat_interleave(self.columns, dim=0)
        table = torch.cat([time, band], dim=1)
        self.register_buffer("pos_embed", functional.pad(table, (0, 0, 1, 0)).unsqueeze(0))
        self.blocks = nn.ModuleList(
            Block(arch.width, arch.heads, arch.hidden, norm_first=True) for _ in range(arch.depth)
        )
        self.norm: nn.Module = nn.LayerNorm(arch.width, eps=1e-6)

    def bands(self) -> int:
        """Five rows of patches at the usual patch of 16 bins."""
        return self.rows

    def grid(self) -> PatchGrid:
        """Patches of the file's size; frames are 10 ms apart."""
        edges = mel_edges(
            mels=_MELS, rows=self.rows, low=50.0, high=self.sample_rate / 2, scale="slaney"
        )
        return PatchGrid(edges, self.patch / 100)

    def summarised(self) -> bool:
        """The class token (of a clip of several units, their mean)."""
        return True

    def features(self, waveform: Tensor) -> Tensor:
        """Log-mel, normalised with the file's statistics, `(batch, 80, frames)`."""
        mean, std = self.norm_stats[0], self.norm_stats[1]
        return (self.front_end(waveform) - mean) / std  # type: ignore[no-any-return]

    def tokens(self, unit: Tensor) -> list[Tensor]:
        """Every layer's tokens of one unit, before the final norm.

        Args:
            unit: Features of at most a unit's frames, `(batch, 80, frames)`.

        Returns:
            `depth + 1` tensors `(batch, 1 + rows * columns, width)`, the class token first.
        """
        batch, missing = unit.shape[0], -unit.shape[2] % self.patch
        # A whole unit that isn't a multiple of the patch (1001) loses its tail; a partial one,
        # the clip's last, is padded.
        if missing and unit.shape[2] < self.unit:
            unit = functional.pad(unit, (0, missing))
        patches = self.patch_embed(unit)
        columns = patches.shape[3]
        positions = self.pos_embed[:, 1:].reshape(1, self.rows, self.columns, self.width)[
            :, :, :columns
        ]
        patches = patches.flatten(2).transpose(1, 2) + positions.flatten(1, 2)
        summary = (self.cls_token + self.pos_embed[:, :1]).expand(batch, -1, -1)
        return run_blocks(self.blocks, torch.cat([summary, patches], dim=1))

    def hidden(self, features: Tensor) -> list[Hidden]:
        """Entry k is block k's output, the last one normed; units are joined in time."""
        units = [self.tokens(unit) for unit in torch.split(features, self.unit, dim=2)]
        for states in units:
            states[-1] = self.norm(states[-1])
        result = []
        for parts in zip(*units, strict=True):
            grids = [
                tokens[:, 1:].reshape(-1, self.rows, (tokens.shape[1] - 1) // self.rows, self.width)
                for tokens in parts
            ]
            summaries = torch.stack([tokens[:, 0] for tokens in parts], dim=1)
            result.append(Hidden(torch.cat(grids, dim=2).transpose(1, 2), summaries.mean(dim=1)))
        return result

    def truncate(self, depth: int) -> None:
        """Drop the blocks after `depth`, and with them the final norm."""
        if depth < self.depth:
            self.norm = nn.Identity()
        self.blocks = self.blocks[:depth]
        self.depth = depth


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are M2D's: a ViT over one channel with a class token."""
    plain = {_plain(name): tensor for name, tensor in tensors.items()}
    projection = plain.get("patch_embed.proj.weight")
    return (
        {"cls_token", "pos_embed", "norm.weight"} <= plain.keys()
        and projection is not None
        and projection.shape[1] == 1
    )


def architecture(tensors: Mapping[str, Tensor], config: Mapping[str, Any]) -> Architecture:
    """Read a file's numbers off its tensors; what they don't tell comes from its folder's name.

    Args:
        tensors: The file's.
        config: `folder`: the name of the folder the file lies in.

    Raises:
        KeyError: The folder's name has no input size, or one that the tensors contradict.
    """
    state = {_plain(name): tensor for name, tensor in tensors.items()}
    extra = input_of(str(config.get("folder", "")))
    weight = state["patch_embed.proj.weight"]
    if not extra or tuple(weight.shape[2:]) != (extra["patch_bins"], extra["patch_frames"]):
        raise KeyError("folder")
    width = weight.shape[0]
    layers = {m[1] for name in state if (m := re.match(r"blocks\.(\d+)\.", name))}
    return Architecture(
        width=width,
        depth=len(layers),
        heads=_HEADS.get(width, max(1, width // 64)),
        hidden=int(state["blocks.0.mlp.fc1.weight"].shape[0]),
        extra=extra,
    )


def from_published(tensors: Mapping[str, Tensor]) -> Translation:
    """Published names to ours: encoder-only, full and fine-tuned files."""
    plain = {_plain(name): tensor for name, tensor in tensors.items()}
    published = {_plain(name): name for name in tensors}
    found = translate(
        plain,
        # What only training used: decoder, target network, projections, classification heads.
        ignore=(
            "decoder_",
            "decoder.",
            "mask_token",
            "target_",
            "offline_",
            "module.",
            "head.",
            "head_",
            "ar.",
            "text_",
            "audio_proj",
            "logit_scale",
        ),
        known=(
            "cls_token",
            "pos_embed",
            "patch_embed.",
            "blocks.",
            "norm.",
            "norm_stats",
        ),
    )
    if "norm_stats" not in found.tensors and "cls_token" in found.tensors:
        found.tensors["norm_stats"] = torch.tensor(_DEFAULT_STATS)
    return Translation(
        found.tensors,
        tuple(published[name] for name in found.ignored),
        tuple(published[name] for name in found.unexpected),
    )


def _plain(name: str) -> str:
    """A name without the prefix of the fine-tuned files."""
    return name.removeprefix("module.ar.runtime.backbone.")
