"""BEATs (Chen et al. 2023): bidirectional encoder representations from audio transformers.

Kaldi filter bank, 16 x 16 patches read time step by time step (frequency runs fastest), a
convolutional position embedding, and post-norm blocks whose attention adds a relative position
bias that each query gates for itself (as WavLM does).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from agent.explain.grid import PatchGrid
from trainer.zoo.backbone import (
    Architecture,
    Backbone,
    Hidden,
    Prunable,
    Translation,
    translate,
)
from trainer.zoo.fbank import KaldiFbank, kaldi_frames, kaldi_grid
from trainer.zoo.vit import (
    attend,
    head_columns,
    key_mask,
    linear_columns,
    linear_rows,
    merge_steps,
    run_blocks,
)

BASE = Architecture(768, 12, 12, 3072, {"patch_width": 512})
TINY = Architecture(64, 3, 4, 160, {"patch_width": 48})
# Deep enough to be shortened, small enough to be trained on a processor (benchmarks).
TINY_DEEP = Architecture(96, 6, 6, 384, {"patch_width": 64})
SIZES: Mapping[str, Architecture] = {"base": BASE, "tiny_deep": TINY_DEEP, "tiny": TINY}

_BANDS = 8  # 128 mel bins in patches of 16
_MEAN, _STD = 15.41663, 6.55582  # of the training set's filter bank; the deviation enters twice
_BUCKETS, _MAX_DISTANCE = 320, 800
_POSITION_KERNEL, _POSITION_GROUPS = 128, 16
_GATE = 8  # outputs of the gate's linear layer: two groups of four, each summed


def buckets(length: int) -> Tensor:
    """Bucket of every relative position, int64 `(length, length)`, indexed `[query, key]`.

    T5's bidirectional scheme: half the buckets for keys after the query, half for those before;
    within each, half of them exact and the rest logarithmic up to `_MAX_DISTANCE`.
    """
    place = torch.arange(length)
    relative = place[None, :] - place[:, None]
    half = _BUCKETS // 2
    exact = half // 2
    distance = relative.abs()
    # In float32, as published: at the edges of the logarithmic buckets float64 rounds otherwise.
    ratio = torch.log(distance.clamp(min=1).float() / exact) / math.log(_MAX_DISTANCE / exact)
    far = (exact + (ratio * (half - exact)).to(torch.int64)).clamp(max=half - 1)
    return torch.where(distance < exact, distance, far) + (relative > 0) * half


class _Attention(Prunable):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        # Which of the bias's heads are left; None for all.
        self.kept: Tensor | None
        self.register_buffer("kept", None)
        self.k_proj = nn.Linear(width, width)
        self.v_proj = nn.Linear(width, width)
        self.q_proj = nn.Linear(width, width)
        self.out_proj = nn.Linear(width, width)
        self.grep_linear = nn.Linear(width // heads, _GATE)
        self.grep_a = nn.Parameter(torch.ones(1, heads, 1, 1))

    @property
    def output(self) -> nn.Module:
        return self.out_proj

    def keep(self, heads: Sequence[int]) -> None:
        columns = head_columns(heads, self.size)
        for name in ("q_proj", "k_proj", "v_proj"):
            setattr(self, name, linear_rows(getattr(self, name), columns))
        self.out_proj = linear_columns(self.out_proj, columns)
        self.grep_a = nn.Parameter(self.grep_a.detach()[:, list(heads)])
        before = torch.arange(self.heads) if self.kept is None else self.kept
        self.kept = before[list(heads)]
        self.heads = len(heads)

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        batch, length, _ = tokens.shape
        shape = (batch, length, self.heads, self.size)
        bias = bias if self.kept is None else bias[:, self.kept]
        query = self.q_proj(tokens).reshape(shape).transpose(1, 2)
        key = self.k_proj(tokens).reshape(shape).transpose(1, 2)
        value = self.v_proj(tokens).reshape(shape).transpose(1, 2)
        # The gate looks at the query before it is scaled by 1 / sqrt(d).
        gates = self.grep_linear(query).reshape(batch, self.heads, length, 2, _GATE // 2)
        first, second = torch.sigmoid(gates.sum(dim=-1)).unbind(-1)
        gate = first.unsqueeze(-1) * (second.unsqueeze(-1) * self.grep_a - 1.0) + 2.0
        gated = gate * bias if mask is None else gate * bias + mask
        mixed = attend(query, key, value, gated)
        joined = mixed.transpose(1, 2).reshape(batch, length, self.heads * self.size)
        return self.out_proj(joined)  # type: ignore[no-any-return]


class _Layer(nn.Module):
    """Post-norm block with the residual scaled by (2 L)^(1/4) (DeepNorm, Wang et al. 2022)."""

    def __init__(self, arch: Architecture) -> None:
        super().__init__()
        self.scale = (2.0 * arch.depth) ** 0.25
        self.self_attn = _Attention(arch.width, arch.heads)
        self.self_attn_layer_norm = nn.LayerNorm(arch.width)
        self.fc1 = nn.Linear(arch.width, arch.hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(arch.hidden, arch.width)
        self.final_layer_norm = nn.LayerNorm(arch.width)

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        attended = self.self_attn(tokens, bias, mask)
        tokens = self.self_attn_layer_norm(tokens * self.scale + attended)
        changed = self.fc2(self.act(self.fc1(tokens)))
        return self.final_layer_norm(tokens * self.scale + changed)  # type: ignore[no-any-return]


class _PositionConv(nn.Module):
    """Positions from a wide grouped convolution over the token sequence."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv1d(
            width,
            width,
            _POSITION_KERNEL,
            padding=_POSITION_KERNEL // 2,
            groups=_POSITION_GROUPS,
        )
        self.act = nn.GELU()

    def forward(self, tokens: Tensor) -> Tensor:
        # An even kernel gives one sample too many; the last one goes.
        positions = self.conv(tokens.transpose(1, 2))[..., :-1]
        return self.act(positions).transpose(1, 2)  # type: ignore[no-any-return]


class Beats(Backbone):
    """The BEATs encoder; layers are post-norm, and there is no final norm.

    Args:
        arch: Its numbers.
        samples: Length of the waveforms it will take, samples; others are possible, but cost time.
    """

    family = "beats"
    sample_rate = 16000
    pooling = "mean"

    def __init__(self, arch: Architecture, samples: int = 160000) -> None:
        super().__init__()
        self.width, self.depth = arch.width, arch.depth
        self.merge_after: int | None = None
        patch_width = arch.extra["patch_width"]
        self.front_end = KaldiFbank(window="povey", scale=float(2**15))
        self.patch_embedding = nn.Conv2d(1, patch_width, 16, stride=16, bias=False)
        self.layer_norm = nn.LayerNorm(patch_width)
        self.post_extract_proj = nn.Linear(patch_width, arch.width)
        self.position = _PositionConv(arch.width)
        self.position_norm = nn.LayerNorm(arch.width)
        self.relative_bias = nn.Embedding(_BUCKETS, arch.heads)
        # Computed here and not in the graph, whose runtime might round the logarithm otherwise.
        self.buckets: Tensor
        known = buckets(kaldi_frames(samples) // 16 * _BANDS)
        self.register_buffer("buckets", known, persistent=False)
        self.layers = nn.ModuleList(_Layer(arch) for _ in range(arch.depth))

    def bands(self) -> int:
        """Eight rows of patches."""
        return _BANDS

    def grid(self) -> PatchGrid:
        """Sixteen frames by sixteen filters."""
        return kaldi_grid(16)

    def features(self, waveform: Tensor) -> Tensor:
        """Filter bank, normalised, `(batch, frames, 128)`."""
        return (self.front_end(waveform) - _MEAN) / (2.0 * _STD)  # type: ignore[no-any-return]

    def embed(self, features: Tensor) -> Tensor:
        """Patches as tokens, time-major, `(batch, frames // 16 * 8, width)`."""
        patches = self.patch_embedding(features.unsqueeze(1)).flatten(2).transpose(1, 2)
        return self.post_extract_proj(self.layer_norm(patches))  # type: ignore[no-any-return]

    def tokens(self, features: Tensor, padding: Tensor | None = None) -> list[Tensor]:
        """Every layer's tokens, `(batch, tokens, width)` each.

        Args:
            features: As `features` gives them.
            padding: Bool `(batch, tokens)`, True where the sound had ended (see `token_padding`).
        """
        tokens = self.embed(features)
        if padding is not None:
            tokens = tokens.masked_fill(padding.unsqueeze(-1), 0.0)
        tokens = self.position_norm(tokens + self.position(tokens))
        length = tokens.shape[1]
        known = length <= self.buckets.shape[0]
        places = self.buckets[:length, :length] if known else buckets(length).to(tokens.device)
        if self.merge_after is None:
            return run_blocks(self.layers, tokens, self._bias(places), key_mask(padding))
        if padding is not None:
            raise ValueError("padded sound cannot have its time steps merged")
        whole = run_blocks(list(self.layers)[: self.merge_after], tokens, self._bias(places), None)
        # Each is where the first of its two steps was.
        steps = torch.arange(0, length // _BANDS, 2, device=places.device)
        first = (steps[:, None] * _BANDS + torch.arange(_BANDS, device=places.device)).flatten()
        places = places[first][:, first]
        tokens = merge_steps(whole[-1], _BANDS)
        merged = run_blocks(list(self.layers)[self.merge_after :], tokens, self._bias(places), None)
        return whole + merged[1:]

    def _bias(self, places: Tensor) -> Tensor:
        """What attention adds for places of queries and keys, `(1, heads, tokens, tokens)`."""
        table: Tensor = self.relative_bias(places)
        return table.permute(2, 0, 1).unsqueeze(0)

    def merge(self, after: int) -> None:
        """Merge time steps after so many layers."""
        self.merge_after = after

    def hidden(self, features: Tensor) -> list[Hidden]:
        """Entry 0 follows the position embedding and its norm; entry k is layer k's output."""
        return [Hidden(_grid(tokens)) for tokens in self.tokens(features)]

    def truncate(self, depth: int) -> None:
        """Drop the layers after `depth`."""
        self.layers = self.layers[:depth]
        self.depth = depth


def token_padding(frames: Tensor, tokens: int) -> Tensor:
    """The published rule for batches of unequal length: which tokens count as padding.

    Args:
        frames: Bool `(batch, frames)`, True where a frame lies in the padding.
        tokens: Tokens of the sequence.

    Returns:
        Bool `(batch, tokens)`. Frames are shared out among the tokens in order, `frames // tokens`
        each, and a token is padding when all of its frames are.
    """
    share = frames.shape[1] // tokens
    return frames[:, : share * tokens].reshape(-1, tokens, share).all(dim=-1)


def _grid(tokens: Tensor) -> Tensor:
    """Time-major tokens as `(batch, time, bands, width)`."""
    return tokens.reshape(tokens.shape[0], -1, _BANDS, tokens.shape[2])


def architecture(tensors: Mapping[str, Tensor], _config: Mapping[str, Any]) -> Architecture:
    """Read a file's numbers off its tensors."""
    projection = tensors["post_extract_proj.weight"]
    layers = {m[1] for name in tensors if (m := re.match(r"encoder\.layers\.(\d+)\.", name))}
    return Architecture(
        width=projection.shape[0],
        depth=len(layers),
        heads=int(tensors["encoder.layers.0.self_attn.grep_a"].shape[1]),
        hidden=int(tensors["encoder.layers.0.fc1.weight"].shape[0]),
        extra={"patch_width": projection.shape[1]},
    )


def recognise(tensors: Mapping[str, Tensor]) -> bool:
    """Whether a file's tensors are BEATs'."""
    return "encoder.layers.0.self_attn.grep_a" in tensors


def from_published(tensors: Mapping[str, Tensor]) -> Translation:
    """Published names to ours: pre-trained files, and fine-tuned ones without their predictor.

    The bias table is stored under every layer though all share one, and the position convolution's
    kernel as direction and length (weight norm over each tap), which are multiplied out here.
    """
    own = dict(tensors)
    direction = own.pop("encoder.pos_conv.0.weight_v", None)
    length = own.pop("encoder.pos_conv.0.weight_g", None)
    found = translate(
        own,
        rename={
            "encoder.pos_conv.0.bias": "position.conv.bias",
            "encoder.layer_norm.": "position_norm.",
            "encoder.layers.0.self_attn.relative_attention_bias.": "relative_bias.",
            "encoder.layers.": "layers.",
        },
        ignore=[
            "predictor.",
            *(
                name
                for name in own
                if re.match(
                    r"encoder\.layers\.[1-9]\d*\.self_attn\.relative_attention_bias\.", name
                )
            ),
        ],
        known=(
            "patch_embedding.",
            "layer_norm.",
            "post_extract_proj.",
            "position.",
            "position_norm.",
            "relative_bias.",
            "layers.",
        ),
    )
    if direction is not None and length is not None:
        found.tensors["position.conv.weight"] = torch._weight_norm(  # noqa: SLF001
            direction.float(), length.float(), 2
        )
    return found
