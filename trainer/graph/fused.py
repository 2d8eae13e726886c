"""A transformer's layers in the form that onnxruntime runs fastest, for the INT8 graph.

BEATs and EAT have such a form. The exporter writes a BEATs layer as some eighty small operations
over whole tensors, which cost more than its INT8 matrix products. Here queries, keys, values and
gates come straight from the tokens (the gate's small layer is multiplied into the query's weights),
INT8 rounding these once for
all four; the norms add the residual, whose factor s (DeepNorm) goes into the weights: LN(s x + y)
with epsilon e equals LN(x + y / s) with epsilon e / s^2. Attention is written head by head: what
one head makes fits into a core's cache, what twelve make does not, and the products of queries and
keys can be INT8 (quantize.py), which onnxruntime's own attention has not.

Gelu and the norms are onnxruntime's own operations (domain `com.microsoft`), so the float32 graph,
which other runtimes may read, keeps the plain ones. `export_graph` compares both forms before
either is used.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from typing import cast

import torch
from torch import Tensor, nn

from trainer.encoders.base import Encoder
from trainer.zoo.beats import Beats
from trainer.zoo.eat import Eat
from trainer.zoo.vit import Block

DOMAIN = "com.microsoft"
SCORES = "/scores/"  # in the names of the nodes whose two inputs may be INT8
_BEATS_LINEAR = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "out")),
    *("self_attn.grep_linear", "fc1", "fc2"),
)
_EAT_LINEAR = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")


def fused(encoder: Encoder) -> Encoder | None:
    """The encoder for export only, its layers fused; None where no fused form fits.

    Its forward pass means nothing in torch: the operations exist in the exported graph alone. Of
    encoders joined, those are fused that can be. Layers that fine-tuning has changed (adapters on
    them) have no fused form.
    """
    if not any(map(_fits, encoder.modules())):
        return None
    form = copy.deepcopy(encoder).eval()
    with torch.no_grad():
        for backbone in [one for one in form.modules() if _fits(one)]:
            if isinstance(backbone, Beats):
                backbone.layers = nn.ModuleList(_BeatsLayer(layer) for layer in _layers(backbone))
                backbone.position.act = _Gelu()  # type: ignore[assignment]
            else:
                eat = cast("Eat", backbone)
                eat.blocks = nn.ModuleList(_EatLayer(cast("Block", one)) for one in eat.blocks)
    return form


def _fits(module: nn.Module) -> bool:
    if not isinstance(module, (Beats, Eat)):
        return False
    names = _BEATS_LINEAR if isinstance(module, Beats) else _EAT_LINEAR
    layers = _layers(module) if isinstance(module, Beats) else module.blocks
    return all(type(layer.get_submodule(name)) is nn.Linear for layer in layers for name in names)


def _layers(backbone: nn.Module) -> nn.ModuleList:
    return cast("nn.ModuleList", backbone.layers)


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


class _Scores(nn.Module):
    """One head's product of queries and keys: a module, so that its node goes by a name."""

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        return query @ key


class _BeatsLayer(nn.Module):
    """One BEATs layer (see the module's description)."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        attention = cast("nn.Module", layer.self_attn)
        factor = cast("float", layer.scale)
        self.heads = cast("int", attention.heads)
        query = cast("nn.Linear", attention.q_proj)
        self.size = query.out_features // self.heads
        self.gates = _linear(*self._gates(query, cast("nn.Linear", attention.grep_linear)))
        # Joined they would be one product, and its parts copied out again: slower.
        self.q_proj = _divided(query, math.sqrt(self.size))
        self.k_proj = cast("nn.Linear", attention.k_proj)
        self.v_proj = cast("nn.Linear", attention.v_proj)
        self.scores = _Scores()
        self.grep_a = nn.Parameter(cast("Tensor", attention.grep_a).reshape(self.heads))
        kept = cast("Tensor | None", attention.kept)
        self.kept = list(range(self.heads)) if kept is None else kept.tolist()
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
        every = bias.unbind(dim=1)
        first, second = self.gates(tokens).chunk(2, dim=2)
        gates = torch.sigmoid(first) * (torch.sigmoid(second) * self.grep_a - 1.0) + 2.0
        parts = zip(
            self.q_proj(tokens).split(self.size, dim=2),
            self.k_proj(tokens).transpose(1, 2).split(self.size, dim=1),
            self.v_proj(tokens).split(self.size, dim=2),
            torch.split(gates, 1, dim=2),
            [every[head] for head in self.kept],
            strict=True,
        )
        mixed = torch.cat(
            [
                (self.scores(query, key) + gate * places).softmax(dim=-1) @ value
                for query, key, value, gate, places in parts
            ],
            dim=2,
        )
        tokens = self.attention_norm(tokens, self.out_proj(mixed))
        changed = self.fc2(self.act(self.fc1(tokens)))
        return self.final_norm(tokens, changed)  # type: ignore[no-any-return]


class _EatLayer(nn.Module):
    """One EAT layer: norms after the sums, and nothing added to the scores."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        self.heads = block.attn.heads
        query, key, value = block.attn.qkv.weight.chunk(3)
        biases = block.attn.qkv.bias.chunk(3)
        self.size = len(query) // self.heads
        self.q_proj = _divided(_linear(query, biases[0]), math.sqrt(self.size))
        self.k_proj, self.v_proj = _linear(key, biases[1]), _linear(value, biases[2])
        self.scores = _Scores()
        self.out_proj = block.attn.proj
        self.attention_norm = _SkipNorm(block.norm1, 1.0)
        self.fc1, self.act, self.fc2 = block.mlp.fc1, _Gelu(), block.mlp.fc2
        self.final_norm = _SkipNorm(block.norm2, 1.0)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = zip(
            self.q_proj(tokens).split(self.size, dim=2),
            self.k_proj(tokens).transpose(1, 2).split(self.size, dim=1),
            self.v_proj(tokens).split(self.size, dim=2),
            strict=True,
        )
        mixed = torch.cat(
            [self.scores(query, key).softmax(dim=-1) @ value for query, key, value in parts], dim=2
        )
        tokens = self.attention_norm(tokens, self.out_proj(mixed))
        return self.final_norm(tokens, self.fc2(self.act(self.fc1(tokens))))  # type: ignore[no-any-return]


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
