"""Transformer blocks that the encoders share: fused-projection attention, in both norm orders."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional


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


class Attention(nn.Module):
    """Multi-head self-attention with one projection for queries, keys and values.

    Args:
        width: Length of a token.
        heads: Attention heads; divides `width`.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: Tensor, mask: Tensor | None = None) -> Tensor:
        """Attend: `(batch, tokens, width)` to the same; `mask` as `key_mask` gives it."""
        batch, length, width = tokens.shape
        qkv = self.qkv(tokens).reshape(batch, length, 3, self.heads, width // self.heads)
        query, key, value = qkv.permute(2, 0, 3, 1, 4).unbind(0)
        mixed = attend(query, key, value, mask)
        return self.proj(mixed.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]


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
