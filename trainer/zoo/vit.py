"""Transformer blocks that the encoders share: fused-projection attention, in both norm orders."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.zoo.backbone import Prunable


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """Softmax attention, `(batch, heads, tokens, size)` each.

    Fused where it runs (the weights of a batch of ten-second clips are hundreds of megabytes), in
    plain products where it is exported: those every runtime has, and can quantize.

    Args:
        query: Queries.
        key: Keys.
        value: Values.
        mask: Added to the logits; broadcasts to `(batch, heads, tokens, tokens)`.
    """
    if not torch.compiler.is_compiling():
        return functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    logits = torch.matmul(query / math.sqrt(query.shape[-1]), key.transpose(-2, -1))
    return torch.matmul((logits if mask is None else logits + mask).softmax(dim=-1), value)


class Attention(Prunable):
    """Multi-head self-attention with one projection for queries, keys and values.

    Args:
        width: Length of a token.
        heads: Attention heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.size = heads, width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    @property
    def output(self) -> nn.Module:
        """The last projection."""
        return self.proj

    def keep(self, heads: Sequence[int]) -> None:
        """Leave some heads alone."""
        kept = head_columns(heads, self.size)
        width = self.heads * self.size
        rows = torch.cat([kept + part * width for part in range(3)])
        self.qkv, self.proj = linear_rows(self.qkv, rows), linear_columns(self.proj, kept)
        self.heads = len(heads)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend: `(batch, tokens, width)` to the same; `mask` as `key_mask` gives it."""
        batch, length, _ = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, length, 3, self.heads, self.size)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(query, key, value, mask)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, self.heads * self.size))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers with the exact (erf) GELU between; the tanh form is off by 5e-4."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(width, hidden)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden, width)

    def forward(self, tokens: Tensor) -> Tensor:
        """Transform each token: `(batch, tokens, width)` to the same."""
        return self.fc2(self.act(self.fc1(tokens)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One transformer layer.

    Args:
        width: Length of a token.
        heads: Attention heads.
        hidden: Width of the feed-forward layer.
        norm_first: True for x + f(norm(x)) (M2D, Dasheng); False for norm(x + f(x)) (EAT).
        eps: Epsilon of the layer norms.
    """

    def __init__(
        self, width: int, heads: int, hidden: int, *, norm_first: bool, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        self.norm1 = nn.LayerNorm(width, eps=eps)
        self.attn = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width, eps=eps)
        self.mlp = FeedForward(width, hidden)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Apply the layer: `(batch, tokens, width)` to the same; `mask` as `key_mask` gives it."""
        if self.norm_first:
            tokens = tokens + self.attn(self.norm1(tokens), mask)
            return tokens + self.mlp(self.norm2(tokens))  # type: ignore[no-any-return]
        tokens = self.norm1(tokens + self.attn(tokens, mask))
        return self.norm2(tokens + self.mlp(tokens))  # type: ignore[no-any-return]


def sincos(places: int, width: int) -> Tensor:
    """Sine-cosine positions of one axis, `(places, width)`: sines, then cosines (base 10000)."""
    frequency = 1.0 / 10000.0 ** (torch.arange(width // 2, dtype=torch.float64) / (width / 2))
    angle = torch.arange(places, dtype=torch.float64)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1).float()


def key_mask(padding: Tensor | None) -> Tensor | None:
    """What attention adds to its logits so that nobody looks at padding.

    Args:
        padding: Bool `(batch, tokens)`, True where the sound had ended; None for none.

    Returns:
        Float `(batch, 1, 1, tokens)`, 0 or minus infinity; None for none.
    """
    if padding is None:
        return None
    zero = torch.zeros(padding.shape, device=padding.device)
    return zero.masked_fill(padding, -math.inf)[:, None, None, :]


def head_columns(heads: Sequence[int], size: int) -> Tensor:
    """Where some heads lie among all of them, joined: int64 `(len(heads) * size,)`."""
    return (torch.tensor(heads)[:, None] * size + torch.arange(size)).flatten()


def linear_rows(linear: nn.Linear, rows: Tensor) -> nn.Linear:
    """The layer that gives some of another one's outputs."""
    made = nn.Linear(linear.in_features, len(rows))
    with torch.no_grad():
        made.weight.copy_(linear.weight[rows])
        made.bias.copy_(linear.bias[rows])
    return made


def linear_columns(linear: nn.Linear, columns: Tensor) -> nn.Linear:
    """The layer that takes some of another one's inputs, as if the others were nought."""
    made = nn.Linear(len(columns), linear.out_features)
    with torch.no_grad():
        made.weight.copy_(linear.weight[:, columns])
        made.bias.copy_(linear.bias)
    return made


def merge_steps(tokens: Tensor, bands: int, leading: int = 0) -> Tensor:
    """One token of those of two neighbouring time steps, their mean.

    Machines that run on sound alike from one step to the next. An odd step at the end stays.

    Args:
        tokens: Time-major, `(batch, leading + steps * bands, width)`.
        bands: Frequency rows.
        leading: Tokens before the grid (a class token), which are left as they are.

    Returns:
        `(batch, leading + ceil(steps / 2) * bands, width)`.
    """
    batch, length, width = tokens.shape
    steps = (length - leading) // bands
    pairs = steps // 2
    end = leading + 2 * pairs * bands
    merged = tokens[:, leading:end].reshape(batch, pairs, 2, bands, width).mean(dim=2)
    parts = [tokens[:, :leading], merged.flatten(1, 2), tokens[:, end:]]
    return torch.cat([part for part in parts if part.shape[1]], dim=1)


def run_blocks(blocks: Iterable[nn.Module], tokens: Tensor, *given: Tensor | None) -> list[Tensor]:
    """The input and the output of every block: entry 0 is `tokens`, entry k follows block k.

    Args:
        blocks: The layers.
        tokens: Input of the first.
        given: Further arguments, the same for every layer.
    """
    states = [tokens]
    for block in blocks:
        states.append(block(states[-1], *given))
    return states
