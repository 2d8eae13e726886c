"""A transformer's layers in the form that onnxruntime runs fastest, for the INT8 graph.

The exporter writes a BEATs layer as some eighty small operations, which cost more than its INT8
matrix products. Here the same layer is a dozen: queries, keys, values and gates straight from the
tokens (the gate's small layer is multiplied into the query's weights), which INT8 then rounds once
for all four, onnxruntime's attention with a bias, and its norms that add the residual. The
residual's factor s (DeepNorm) goes into the weights: LN(s x + y) with epsilon e equals
LN(x + y / s) with epsilon e / s^2.

These operations are onnxruntime's own (domain `com.microsoft`), so the float32 graph, which other
runtimes may read, keeps the plain ones. `export_graph` compares both forms before either is used.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.encoders.pretrained.beats import Beats
from trainer.encoders.pretrained.encoder import PretrainedEncoder

DOMAIN = "com.microsoft"
_LINEAR = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
    *("self_attn.grep_linear", "fc1", "fc2"),
)


def fused(encoder: Encoder) -> Encoder | None:
    """The encoder for export only, its layers fused; None where no fused form fits.

    Its forward pass means nothing in torch: the operations exist in the exported graph alone.
    Layers that fine-tuning has changed (adapters on them) have no fused form.
    """
    if not isinstance(encoder, PretrainedEncoder) or not isinstance(encoder.backbone, Beats):
        return None
    parts = [layer.get_submodule(name) for layer in encoder.backbone.layers for name in _LINEAR]
    if any(type(part) is not nn.Linear for part in parts):
        return None
    form = copy.deepcopy(encoder).eval()
    backbone = cast("Beats", form.backbone)
    with torch.no_grad():
        backbone.layers = nn.ModuleList(_BeatsLayer(layer) for layer in backbone.layers)
    backbone.position.act = _Gelu()  # type: ignore[assignment]
    return form


class _Gelu(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return _operation("Gelu", (values,), {}, values)


class _SkipNorm(nn.Module):
    """Layer norm of a sum, the residual's factor already out of it."""

    def __init__(self, norm: nn.LayerNorm, factor: float) -> None:
        super().__init__()
        self.weight, self.bias = norm.weight, norm.bias
        self.epsilon = norm.eps / factor**2

    def forward(self, tokens: Tensor, change: Tensor) -> Tensor:
        return _operation(
            "SkipLayerNormalization",
            (tokens, change, self.weight, self.bias),
            {"epsilon": self.epsilon},
            tokens,
        )


class _BeatsLayer(nn.Module):
    """One BEATs layer (see the module's description)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        attention = cast("nn.Module", layer.self_attn)
        factor = cast("float", layer.scale)
        self.heads = cast("int", attention.heads)
        # Joined they would be one product, and its parts copied out again: slower.
        self.q_proj, self.k_proj, self.v_proj = (
            cast("nn.Linear", getattr(attention, name)) for name in ("q_proj", "k_proj", "v_proj")
        )
        gates = self._gates(self.q_proj, cast("nn.Linear", attention.grep_linear))
        self.gates = _linear(*gates)
        self.grep_a = nn.Parameter(cast("Tensor", attention.grep_a).reshape(self.heads))
        self.out_proj = _divided(cast("nn.Linear", attention.out_proj), factor)
        self.attention_norm = _SkipNorm(cast("nn.LayerNorm", layer.self_attn_layer_norm), factor)
        self.fc1 = cast("nn.Linear", layer.fc1)
        self.act = _Gelu()
        self.fc2 = _divided(cast("nn.Linear", layer.fc2), factor)
        self.final_norm = _SkipNorm(cast("nn.LayerNorm", layer.final_layer_norm), factor)

    def _gates(self, query: nn.Linear, gate: nn.Linear) -> tuple[Tensor, Tensor]:
        """Both gates of every head straight from the tokens, `(2 heads, width)` and `(2 heads)`."""
        each = gate.in_features
        weight = gate.weight.reshape(2, -1, each).sum(dim=1)
        bias = gate.bias.reshape(2, -1).sum(dim=1)
        per_head = query.weight.reshape(self.heads, each, -1)
        made = torch.einsum("gd,hdi->ghi", weight, per_head)
        offset = torch.einsum("gd,hd->gh", weight, query.bias.reshape(self.heads, each))
        return made.flatten(0, 1), (offset + bias.unsqueeze(1)).flatten()

    def forward(self, tokens: Tensor, bias: Tensor, mask: Tensor | None) -> Tensor:
        if mask is not None:
            raise ValueError("a fused layer takes no mask")
        query, key, value = self.q_proj(tokens), self.k_proj(tokens), self.v_proj(tokens)
        first, second = self.gates(tokens).split(self.heads, dim=-1)
        gate = torch.sigmoid(first) * (torch.sigmoid(second) * self.grep_a - 1.0) + 2.0
        gated = gate.transpose(1, 2).unsqueeze(-1) * bias
        mixed = _operation(
            "MultiHeadAttention",
            (query, key, value, None, None, gated),
            {"num_heads": self.heads},
            query,
        )
        tokens = self.attention_norm(tokens, self.out_proj(mixed))
        changed = self.fc2(self.act(self.fc1(tokens)))
        return self.final_norm(tokens, changed)  # type: ignore[no-any-return]


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    made = nn.Linear(weight.shape[1], weight.shape[0])
    made.weight.copy_(weight)
    made.bias.copy_(bias)
    return made


def _divided(linear: nn.Linear, factor: float) -> nn.Linear:
    return _linear(linear.weight / factor, linear.bias / factor)


def _operation(
    name: str,
    inputs: tuple[Tensor | None, ...],
    attributes: Mapping[str, int | float],
    like: Tensor,
) -> Tensor:
    """One of onnxruntime's own operations in the graph, its result shaped as `like`."""
    return torch.onnx.ops.symbolic(
        f"{DOMAIN}::{name}", inputs, {**attributes}, dtype=like.dtype, shape=like.shape, version=1
    )
